"""Hits in QGIS itself: coloured from near to far, ranks written on them."""

from pathlib import Path

import numpy as np
import pytest
from qgis_process import NEEDS_QGIS, said

from geopipe.retrieve import ChipRow
from geopipe.retrieve.hits import write_hits
from geopipe.retrieve.query import Example, Hit, SearchResult

SCRIPT = Path(__file__).with_name("open_hits.py")
pytestmark = NEEDS_QGIS


def row(number):
    place = (1.0, 0.0, 789_000.0 + 40 * number, 0.0, -1.0, 6_501_000.0)
    return ChipRow("/a <b> & c.tif", "", "", "", 0, 40 * number, 32, 32, "EPSG:2154", place)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hits")
    hits = tuple(Hit(i, 90 + i, i / 7, 1 - i / 20, row(i)) for i in range(1, 13))
    example = Example("box", np.zeros((3, 8, 8), np.uint8), np.zeros(4), row(0))
    write_hits(SearchResult(hits, (example,), 100, (), ()), folder / "hits.gpkg")
    return said(SCRIPT, folder, folder / "hits.gpkg")


def test_the_layers_open(seen):
    assert seen["valid"]
    assert seen["crs"] == "EPSG:2154"
    assert seen["features"] == [12, 1]
    assert seen["query"] == ["query", "like", "unlike"]


def test_ranks_are_told_by_colour_and_number(seen):
    assert len(seen["categories"]) == 5
    assert seen["categories"][0].startswith("rank 1 to 3: 0.1429 to 0.4286")
    assert seen["drawn"]["1"] == seen["drawn"]["3"]
    assert len({label for label, _ in seen["drawn"].values()}) == 5
    assert len({colour for _, colour in seen["drawn"].values()}) == 5
    assert seen["labels"]
    assert seen["field"] == "rank"
