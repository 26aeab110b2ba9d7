"""The plane: places there and back, shapes in parts that are each seen once."""

import math

import numpy as np
import pytest
import shapely
from affine import Affine

from geopipe.errors import LabelError
from geopipe.grid import Window
from geopipe.labels import RasterLabels
from geopipe.labels.rasterize import rasterize
from geopipe.register import RegistrationGrid

PLACES = {
    "lambert": ("EPSG:2154", Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)),
    "mercator": ("EPSG:3857", Affine(0.6, 0, 430_000, 0, -0.6, 5_700_000)),
    "degrees": ("EPSG:4326", Affine(5e-6, 0, 3.9, 0, -4e-6, 45.5)),
    "turned": (
        "EPSG:2154",
        Affine(0.3, 0, 789_000, 0, -0.3, 6_501_000) * Affine.rotation(30),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_there_and_back(empty_plane, place):
    crs, transform = PLACES[place]
    plane = empty_plane((300, 400), crs=crs, transform=transform)
    at = np.random.default_rng(0).uniform(-50, 400, (100, 2))
    assert np.allclose(plane.to_px(plane.from_px(at)), at, atol=1e-4)
    corner = np.array([[transform.c, transform.f]])
    # The grid's pixels are counted from the origin of the CRS: the corner lies in the first one.
    assert ((plane.to_px(corner) > -1e-4) & (plane.to_px(corner) < 1)).all()


@pytest.mark.parametrize("place", PLACES)
def test_a_pixel_of_the_plane_is_as_long_both_ways(empty_plane, place):
    crs, transform = PLACES[place]
    plane = empty_plane((300, 400), crs=crs, transform=transform)
    assert plane.gsd >= 0.5 * (1 - 1e-9)
    from geopipe.grid import ground_gsd

    assert ground_gsd(plane.geobox) == pytest.approx((plane.gsd, plane.gsd), rel=0.011)


@pytest.mark.parametrize("place", ["lambert", "turned"])
@pytest.mark.parametrize("side", [64, 90, 1000])
def test_each_piece_is_seen_once_whoever_asks(empty_plane, place, side):
    """A long road (cut), houses, one of them at the rim: parts tile the shapes."""
    crs, transform = PLACES[place]
    plane = empty_plane((300, 400), crs=crs, transform=transform)
    places = [
        shapely.LineString([(8, 12), (280, 270)]).buffer(6),
        shapely.box(40, 200, 70, 230),
        shapely.box(260, 20, 300, 60),
    ]
    scale = ~plane.scene.geobox.affine * plane.geobox.affine
    shapes = [
        shapely.transform(s, lambda xy: np.array([transform * (scale * (x, y)) for x, y in xy]))
        for s in places
    ]
    plane = empty_plane((300, 400), shapes, [2, 1, 1], crs=crs, transform=transform)
    h, w = plane.shape
    seen = np.zeros((3, h, w))
    for row in range(0, h, side):
        for col in range(0, w, side):
            for part in plane.parts(Window(row, col, side, side).clip(plane.shape)):
                assert part.window == part.window.clip(plane.shape)
                assert max(part.window.shape) <= math.ceil(60 / plane.gsd) + 1
                assert part.class_id == [2, 1, 1][part.shape]
                seen[(part.shape, *part.window.slices)] += part.mask
    for at, shape in enumerate(shapes):
        one = rasterize(
            np.array([shape], object), np.ones(1, np.uint8), plane.labels.geobox, plane.geobox
        )
        assert np.array_equal(seen[at], one)


def test_a_raster_of_labels_has_no_outlines(town, make_raster, scheme):
    path = make_raster(np.zeros((1, 40, 40), np.uint8), "labels.tif")
    with pytest.raises(LabelError, match="no outlines to move"):
        RegistrationGrid.of(town.scene, RasterLabels.open(path, scheme))
