"""A second real shift: an aerial image of Baker Lake, 0.5 m, whose classes match some of GID's."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from PIL import Image
from rasterio.features import rasterize

from geopipe.classes import IGNORE
from geopipe.learn.patches import ChipRaster, PatchGrid
from geopipe.raster.chips import Chip
from reproduce.gid import data

CELL = 28
MATCHING = {1: "meadow", 2: "water", 3: "built-up", 4: "built-up"}
"""Its classes vegetation, water, road and building; 255 (railway) has no match."""
VEGETATION = ("farmland", "forest", "meadow")
"""Classes that all count as its vegetation."""


def patches(site: Path, out: Path) -> PatchGrid:
    """Cells of 28 px of the image with the class of most of their labelled pixels.

    Image and class ids are written below `out` as one chip and its mask.
    """
    scheme = data.scheme()
    with rasterio.open(site / "scene.tif") as src:
        pixels, transform, crs = src.read(), src.transform, src.crs
    outlines = gpd.read_file(site / "landcover.gpkg").to_crs(crs)
    shapes = [
        (shape, scheme.id_of(MATCHING[int(value)]))
        for shape, value in zip(outlines.geometry, outlines["Quatreclasses"], strict=True)
        if int(value) in MATCHING
    ]
    ids = rasterize(shapes, pixels.shape[1:], fill=IGNORE, transform=transform, dtype="uint8")
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(out / "image.png")
    Image.fromarray(ids).save(out / "mask.png")
    raster = ChipRaster(Chip(str(out / "image.png"), ""), 3, mask=str(out / "mask.png"))
    grid = PatchGrid.of([raster], CELL)
    return grid.subset(grid.ids != IGNORE)


def merged(ids: np.ndarray) -> np.ndarray:
    """Class ids with all vegetation as one class."""
    scheme = data.scheme()
    vegetation = [scheme.id_of(name) for name in VEGETATION]
    return np.where(np.isin(ids, vegetation), scheme.id_of("meadow"), ids)
