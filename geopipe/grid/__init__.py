"""Pixel grids: windows, tilings, and lengths on the ground. No pixels, no files."""

from geopipe.grid.anchor import is_rotated, nominal_gsd
from geopipe.grid.axis import GridAxis
from geopipe.grid.ground import ground_gsd
from geopipe.grid.mirror import mirror_pad
from geopipe.grid.network_grid import NetworkGrid, suited_gsd
from geopipe.grid.resampling_weights import ResamplingWeights, average_weights, bilinear_weights
from geopipe.grid.tiling import Tile, Tiling
from geopipe.grid.window import Window

__all__ = [
    "GridAxis",
    "NetworkGrid",
    "ResamplingWeights",
    "Tile",
    "Tiling",
    "Window",
    "average_weights",
    "bilinear_weights",
    "ground_gsd",
    "is_rotated",
    "mirror_pad",
    "nominal_gsd",
    "suited_gsd",
]
