"""Shapes that fill their bounding box keep their outlines: boxes on whole pixels."""

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.classes import load_scheme
from geopipe.grid import Window
from geopipe.labels import open_labels
from geopipe.register import RegistrationGrid
from geopipe.register.evidence import outline

LEFT, TOP = 789_000.0, 6_501_000.0
PLANE = Affine(0.5, 0, LEFT, 0, -0.5, TOP)


@pytest.fixture
def town(tmp_path):
    """A scene of roofs, and their boxes on whole pixels, 1.5 m east and 2 m south of them."""
    import geopandas as gpd
    import rasterio

    from geopipe.raster import Scene

    rng = np.random.default_rng(0)
    image = rng.integers(60, 100, (3, 200, 220)).astype(np.uint8)
    shapes = []
    for row in range(6, 176, 40):
        for col in range(8, 196, 40):
            h, w = rng.integers(16, 22, 2)
            image[:, row : row + h, col : col + w] = np.array([[[200]], [[90]], [[70]]], np.uint8)
            box = (LEFT + col / 2, TOP - (row + h) / 2, LEFT + (col + w) / 2, TOP - row / 2)
            shapes.append(shapely.affinity.translate(shapely.box(*box), 1.5, -2.0))
    with rasterio.open(
        tmp_path / "scene.tif",
        "w",
        driver="GTiff",
        count=3,
        height=200,
        width=220,
        dtype="uint8",
        crs="EPSG:2154",
        transform=PLANE,
    ) as dst:
        dst.write(image)
    frame = gpd.GeoDataFrame({"building": ["yes"] * len(shapes)}, geometry=shapes, crs=2154)
    frame.to_file(tmp_path / "osm.gpkg")
    scene = Scene.open(tmp_path / "scene.tif")
    return scene, open_labels(tmp_path / "osm.gpkg", load_scheme("buildings"), scene.geobox)


def test_boxes_on_pixels_are_moved_where_their_roofs_are(town):
    from geopipe.register import fit_labels

    scene, labels = town
    field, _ = fit_labels(RegistrationGrid.of(scene, labels), labels, 8.0)
    tie_points = field.of_class(1)
    assert len(tie_points) > 10
    down, right = (float(np.median([getattr(n, k) for n in tie_points])) for k in ("down", "right"))
    assert right == pytest.approx(-1.5, abs=0.3)
    assert down == pytest.approx(-2.0, abs=0.3)


def test_a_whole_shape_has_all_of_its_outline(town):
    scene, labels = town
    plane = RegistrationGrid.of(scene, labels)
    for part in plane.parts(Window.of_shape(plane.shape)):
        rows, cols = np.nonzero(part.mask)
        strength = np.hypot(*outline(part.mask))
        middle = (rows.min() + rows.max()) // 2, (cols.min() + cols.max()) // 2
        on_scene = part.window.bottom < plane.shape[0] and part.window.right < plane.shape[1]
        if on_scene:
            assert strength[rows.min(), middle[1]] > 0.1
            assert strength[rows.max(), middle[1]] > 0.1
            assert strength[middle[0], cols.min()] > 0.1
            assert strength[middle[0], cols.max()] > 0.1


def test_a_road_that_is_cut_has_no_outline_at_the_cut(town):
    scene, labels = town
    road = shapely.box(LEFT, TOP - 53, LEFT + 110, TOP - 47)
    one = type(labels)(
        labels.scheme,
        GeoBox((200, 220), PLANE, "EPSG:2154"),
        np.array([road], object),
        np.array([1], np.uint8),
    )
    parts = [*RegistrationGrid.of(scene, one).parts(Window.of_shape((200, 220)))]
    assert len(parts) == 2
    for part in parts:
        assert part.mask.all()  # no rim, so its ends are no outline
