"""Planned points in QGIS itself: a list to choose from, and what is done looks done."""

from pathlib import Path

import numpy as np
import pytest
from qgis_process import NEEDS_QGIS, said

from geopipe.classes import ClassScheme
from geopipe.evaluation.assess.design import read_points
from geopipe.evaluation.assess.points import plan_points
from geopipe.evaluation.assess.sampling import SampleSize

SCHEME = ClassScheme.from_dict(
    {
        "name": "town & land",
        "classes": [
            {"name": "background", "color": "#f1efe2"},
            {"name": "building <all> & bâtiment", "color": "#c8371e"},
            {"name": "road", "color": "#3c4a5c"},
        ],
    }
)
SCRIPT = Path(__file__).with_name("open_points.py")
pytestmark = NEEDS_QGIS


@pytest.fixture(scope="module")
def opened(tmp_path_factory, make_raster_at):
    folder = tmp_path_factory.mktemp("points")
    ids = np.random.default_rng(1).choice(3, (1, 80, 90)).astype(np.uint8)
    class_map = make_raster_at(folder / "map.tif", ids, nodata=255)
    points = folder / "points.gpkg"
    plan_points(class_map, points, SampleSize(per_class=5), scheme=SCHEME)
    before = read_points(points)[0]
    seen = said(SCRIPT, folder, points, SCHEME.names[1])
    return points, before, seen


def test_the_layer_opens_and_says_nothing_of_the_map(opened):
    seen = opened[2]
    assert seen["valid"]
    assert seen["crs"] == "EPSG:2154"
    assert seen["fields"] == ["fid", "id", "truth"]
    assert seen["sublayers"] == ["points"]
    assert seen["unfilled"]


def test_truth_is_chosen_from_a_list(opened):
    seen = opened[2]
    assert seen["widget"] == "ValueMap"
    null = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
    assert seen["values"] == [{"(to do)": null}, *({n: n} for n in SCHEME.names)]
    assert seen["read_only"] == [True, False]


def test_what_is_done_looks_done(opened):
    seen = opened[2]
    assert seen["categories"] == [*([n, n] for n in SCHEME.names), ["", "to do"]]
    assert seen["committed"]
    drawn = {point: label for point, (label, _) in seen["drawn"].items()}
    assert drawn.pop("1") == SCHEME.names[1]
    assert set(drawn.values()) == {"to do"}
    assert len(drawn) == 14


def test_the_design_outlives_the_editing(opened):
    points, before, _ = opened
    design, table = read_points(points)
    assert design == before
    assert table["truth"].dropna().tolist() == [SCHEME.names[1]]
