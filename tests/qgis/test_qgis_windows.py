"""Windows to draw in, in QGIS itself: what is drawn turns green, classes come from a list."""

from pathlib import Path

import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from qgis_process import NEEDS_QGIS, said

from geopipe.classes import load_scheme
from geopipe.labels.drawn import DrawingWindow, drawn_windows, write_drawing_file

SCRIPT = Path(__file__).with_name("open_windows.py")
pytestmark = NEEDS_QGIS


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows")
    path = folder / "windows.gpkg"
    geobox = GeoBox((300, 300), Affine(1, 0, 789_000, 0, -1, 6_501_000), "EPSG:2154")
    shapes = [shapely.box(789_000 + x, 6_500_900, 789_100 + x, 6_501_000) for x in (0, 200)]
    windows = [DrawingWindow(s, 50.0, 0.1, 0.0) for s in shapes]
    write_drawing_file(path, windows, geobox, load_scheme("buildings-roads"))
    return path, said(SCRIPT, folder, path)


def test_a_window_that_is_drawn_looks_so_and_counts(opened):
    path, seen = opened
    assert seen["valid"] == [True, True]
    assert seen["committed"]
    assert seen["labels"] == {"1": "drawn", "2": "to draw"}
    assert len(drawn_windows(path)) == 1


def test_the_class_of_an_outline_comes_from_a_list(opened):
    seen = opened[1]
    assert seen["widgets"] == ["CheckBox", "ValueMap"]
    assert seen["classes"] == [{"building": "building"}, {"road": "road"}]
    assert seen["default"] == "'building'"
    assert seen["read_only"] == [True] * 5 + [False]
