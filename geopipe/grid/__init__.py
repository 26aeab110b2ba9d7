"""Pixel planes: windows, tilings, and lengths on the ground. No pixels, no files."""

from geopipe.grid.ground import ground_gsd
from geopipe.grid.mirror import mirrored
from geopipe.grid.netgrid import NetGrid
from geopipe.grid.taps import Taps, average_taps, bilinear_taps
from geopipe.grid.tiling import Tile, Tiling
from geopipe.grid.window import Window

__all__ = [
    "NetGrid",
    "Taps",
    "Tile",
    "Tiling",
    "Window",
    "average_taps",
    "bilinear_taps",
    "ground_gsd",
    "mirrored",
]
