"""Areas as pixels and as outlines: the same as rasterio's, which is slower for small ones."""

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage
from shapely.geometry import shape

from geopipe.grid import Window
from geopipe.vectors.areas import _added, _as_traced, _counted, _figures, _pixels_in


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


@pytest.mark.parametrize("count", [1, 2, 11, 1000])
def test_figures_of_counted_values_are_those_of_all(count):
    values = np.random.default_rng(count).integers(0, 251, count) / np.float32(250)
    counted = _added([_counted(part) for part in np.array_split(values, 3)])
    expected = values.astype(float).mean(), np.quantile(values.astype(float), 0.1)
    assert _figures(*counted) == pytest.approx(expected, abs=1e-12)
    assert _figures(*_counted(values)) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(_figures(*_counted(values[:0]))).all()
