"""Areas as pixels and as outlines: the same as rasterio's, which is slower for small ones."""

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage
from shapely.geometry import shape

from geopipe.grid import Window
from geopipe.vectors.areas import _as_traced, _pixels_in


@pytest.fixture(scope="module")
def outlines():
    """Areas of noise along the edges of pixels, with courtyards, and corners that touch."""
    rng = np.random.default_rng(0)
    found = []
    for blur in (0.7, 1.0, 1.5, 2.5):
        mask = ndimage.gaussian_filter(rng.normal(size=(60, 60)), blur) > 0
        labels, _ = ndimage.label(mask)
        found += [shape(s) for s, n in shapes(labels.astype("int32"), labels > 0, connectivity=4)]
    assert any(len(p.interiors) for p in found)
    return found


@pytest.mark.parametrize("window", [Window(0, 0, 60, 60), Window(-7, 20, 30, 60)])
def test_pixels_inside_are_those_of_rasterio(outlines, window):
    where = Affine.translation(window.col, window.row)
    for outline in outlines:
        expected = rasterize([outline], (window.height, window.width), transform=where) > 0
        assert (_pixels_in(outline, window) == expected).all()


def test_an_outline_has_the_vertices_of_rasterio_wherever_it_begins(outlines):
    seen = 0
    for number, outline in enumerate(outlines):
        xy = np.roll(np.array(outline.exterior.coords)[:-1], number, axis=0)
        turned = shapely.Polygon(xy[:: 1 if number % 2 else -1], outline.interiors)
        traced = _as_traced(turned)
        if traced is None:
            assert outline.interiors or len(np.unique(xy, axis=0)) < len(xy)
        else:
            seen += 1
            assert traced.wkb == outline.wkb
    assert seen > 50
