"""`align` and `ignore_buffer` of a workflow's labels."""

import logging

import geopandas as gpd
import numpy as np
import pytest
import shapely
from tiny_place import draw_place

from geopipe.classes import IGNORE, load_scheme
from geopipe.labels import write_label_raster
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.sources import label_source, open_scene

SCHEME = load_scheme("buildings-roads")
EAST, NORTH = 2.5, -1.5


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A scene, its map, and the map moved."""
    folder = tmp_path_factory.mktemp("shifted")
    scene, osm = draw_place(folder, "scene", (400, 400))
    frame = gpd.read_file(osm)
    moved = folder / "moved.gpkg"
    shapes = shapely.transform(frame.geometry.array, lambda xy: np.add(xy, (EAST, NORTH)))
    frame.set_geometry(shapes, crs=frame.crs).to_file(moved, layer="osm", driver="GPKG")
    return scene, osm, moved


def burned(site, labels, **settings):
    choice = LabelledScene(scene=str(site[0]), labels=labels, **settings)
    scene = open_scene(choice)
    return label_source(choice, SCHEME, scene).read(scene.geobox)


def test_aligned_labels_lie_where_the_image_shows_them(site):
    right = burned(site, site[1])
    raw, aligned = (burned(site, site[2], align=flag) for flag in (False, True))
    house = right == 1
    shared = [((x == 1) & house).sum() / ((x == 1) | house).sum() for x in (raw, aligned)]
    assert shared[0] < 0.65
    assert shared[1] > 0.9


@pytest.mark.parametrize("most", [1.0, 5.0, 8.0])
def test_no_shift_is_made_that_is_longer_than_allowed(site, most):
    """2.9 m are needed: more than the least allows, which is then no evidence of any."""
    lengths = []
    for align in (False, True):
        choice = LabelledScene(scene=str(site[0]), labels=site[2], align=align, max_shift=most)
        lengths.append(
            shapely.get_coordinates(label_source(choice, SCHEME, open_scene(choice)).shapes)
        )
    moved = np.hypot(*(lengths[1] - lengths[0]).T)
    assert moved.max() <= most * 1.001
    assert (np.median(moved) > 2) == (most > 3)


def test_the_band_is_around_the_aligned_labels(site):
    plain, banded = (burned(site, site[2], align=True, ignore_buffer=b) for b in (0.0, 1.0))
    known = banded != IGNORE
    assert (plain[known] == banded[known]).all()
    assert 0.05 < 1 - known.mean() < 0.5


def test_labels_that_teach_nothing_stay_with_a_warning(site, tmp_path, caplog):
    """A label raster has no outlines to move."""
    raster = tmp_path / "labels.tif"
    choice = LabelledScene(scene=str(site[0]), labels=site[2])
    scene = open_scene(choice)
    write_label_raster(scene, label_source(choice, SCHEME, scene), raster)
    with caplog.at_level(logging.WARNING):
        ids = burned(site, raster, align=True)
    assert "not aligned" in caplog.text
    assert (ids == burned(site, raster)).all()
