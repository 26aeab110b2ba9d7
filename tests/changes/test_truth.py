"""Ground truth of a part of the map decides which of the objects that OSM lacks are reported."""

import json

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from click.testing import CliRunner

from geopipe.changes.matching import AGREE, ONLY_MAP, UNSURE
from geopipe.cli.main import main

LEFT, TOP = 789_000.0, 6_501_000.0
HOUSE, SHED, SHADOW = 0.95, 0.8, 0.3
"""Scores. Houses and sheds are real, shadows are not; OSM has no shed and lacks some houses."""
ROWS, COLUMNS, SURVEYED = 12, 20, 8
"""Columns 0..SURVEYED - 1 are in the area of the truth."""
SCORES = np.tile([HOUSE, SHED, SHADOW], (ROWS * COLUMNS) // 3)
DELETED = (3, 51, 102, 150, 201)


def save(path, shapes, **columns):
    gpd.GeoDataFrame(geometry=list(shapes), crs="EPSG:2154").assign(**columns).to_file(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of the map, of OSM, of the truth and of the area in which the truth is complete."""
    folder = tmp_path_factory.mktemp("truth")
    column, row = np.arange(SCORES.size) % COLUMNS, np.arange(SCORES.size) // COLUMNS
    x, y = LEFT + 25 * column, TOP - 25 * row
    shapes = shapely.box(x, y, x + 10, y + 12)
    in_osm = (SCORES == HOUSE) & ~np.isin(np.arange(SCORES.size), DELETED)
    true = (SCORES > SHADOW) & (column < SURVEYED)
    true[COLUMNS - 3] = True  # a stray house: the box around the truth is wider than its area
    surveyed = shapely.box(LEFT - 5, TOP - 25 * ROWS, LEFT + 25 * SURVEYED - 5, TOP + 15)
    features = folder / "features.gpkg"
    gpd.GeoDataFrame(
        {"class": "building", "building_id": range(SCORES.size), "mean_score": SCORES},
        geometry=shapes,
        crs="EPSG:2154",
    ).to_file(features, layer="buildings")
    return (
        features,
        save(folder / "osm.gpkg", shapes[in_osm], building="yes"),
        save(folder / "truth.gpkg", shapes[true], building="yes"),
        save(folder / "surveyed.gpkg", [surveyed]),
    )


def compare(features, osm, out, *options):
    """The status of each building of the map, and what is printed as JSON."""
    words = ["compare", features, osm, "-o", out, "--no-align", "--json", *options]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    table = pyogrio.read_dataframe(out, layer="buildings").dropna(subset="map_id")
    table = table.set_index(table["map_id"].astype(int)).sort_index()
    return table, json.loads(done.stdout.splitlines()[-1])


def test_the_truth_of_an_area_decides_what_is_reported(files, tmp_path):
    features, osm, truth, area = files
    given = ["--truth", truth, "--truth-area", area]
    table, said = compare(features, osm, tmp_path / "strict.gpkg", *given)
    houses = np.flatnonzero(SCORES == HOUSE)
    status = table["status"].to_numpy()
    assert {*houses[status[houses] == ONLY_MAP]} == {*DELETED}
    assert set(status[houses]) == {ONLY_MAP, AGREE}
    assert set(status[SCORES < HOUSE]) == {UNSURE}
    threshold = said["thresholds"]["buildings"]
    assert threshold["calibrated_on"] == "truth"
    real = (SCORES > SHADOW).sum()
    assert threshold["completeness"] == pytest.approx((status == AGREE).sum() / real, abs=0.01)


def test_a_higher_share_of_false_ones_lets_the_next_score_in(files, tmp_path):
    """OSM has no shed at all: that they are real is known from the truth alone."""
    features, osm, truth, area = files
    given = ["--fdr", 0.2, "--truth", truth, "--truth-area", area]
    table, said = compare(features, osm, tmp_path / "c.gpkg", *given)
    assert set(table["status"][SCORES == SHED]) == {ONLY_MAP}
    assert set(table["status"][SCORES == SHADOW]) == {UNSURE}
    threshold = said["thresholds"]["buildings"]
    reported = table[table["status"] == ONLY_MAP]["probability"]
    assert threshold["probability"] == pytest.approx(reported.min(), abs=1e-4)
    assert threshold["expected_false"] == pytest.approx(1 - reported.mean(), abs=1e-4)
    assert 0.1 < threshold["expected_false"] < 0.2


def test_outside_its_area_the_truth_says_nothing(files, tmp_path):
    """In the box around the truth lie houses that nobody surveyed: they count as false there."""
    features, osm, truth, _ = files
    table, said = compare(features, osm, tmp_path / "c.gpkg", "--fdr", 0.2, "--truth", truth)
    assert ONLY_MAP not in set(table["status"])
    assert said["thresholds"]["buildings"]["probability"] is None
