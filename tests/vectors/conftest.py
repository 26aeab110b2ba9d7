"""Road maps drawn from lines, whose widths and places are known."""

import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize

from geopipe.classes import load_scheme

LEFT, TOP, GSD = 789_000.0, 6_501_000.0, 0.5
"""Lambert-93, where a projected metre is one on the ground to a thousandth."""


@pytest.fixture(scope="session")
def scheme():
    return load_scheme("buildings-roads")


@pytest.fixture
def draw(make_raster):
    """``draw(lines, size, width=8)``: a class map with roads along `lines`, in metres from its
    upper left corner, x to the right and y down; `size` (width, height) in metres."""

    def make(lines, size, *, width=8.0, name="map.tif", crs="EPSG:2154", transform=None, gap=None):
        shapes = shapely.buffer(
            [shapely.LineString(xy) for xy in lines], width / 2, cap_style="flat"
        )
        rows, cols = round(size[1] / GSD), round(size[0] / GSD)
        pixels = Affine.scale(GSD)
        ids = rasterize([(s, 2) for s in shapes], (rows, cols), transform=pixels, dtype="uint8")
        if gap is not None:
            ids[rasterize([gap], (rows, cols), transform=pixels).astype(bool)] = 0
        transform = transform or Affine(GSD, 0, LEFT, 0, -GSD, TOP)
        return make_raster(ids[None], name, crs=crs, transform=transform, nodata=255)

    return make
