"""Points filled in and read back."""

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from town_map import SCHEME, TEN, change, class_map, fill, pixels_of, planned, town

from geopipe.classes import IGNORE
from geopipe.errors import LabelError, SceneError
from geopipe.evaluation.assess.design import read_points
from geopipe.evaluation.assess.interpretation import assess_map
from geopipe.evaluation.assess.pixels import ClassPixels, census
from geopipe.evaluation.assess.points import draw_pixels, plan_points

__all__ = ["class_map", "planned"]

# -- back from the analyst


def test_a_whole_round_agrees_with_the_map(planned):
    path, points, design = planned
    truth = town(seed=1)
    truth[truth == IGNORE] = 0
    fill(points, truth)
    found = assess_map(path, points)
    ids = town()
    expected = np.zeros((3, 3), int)
    for at in pixels_of(design):
        expected[ids[at], truth[at]] += 1
    np.testing.assert_array_equal(found.estimates.counts, expected)
    assert found.left_out == {}
    shares = np.array(design.pixels) / sum(design.pixels)
    overall = (shares * np.diagonal(expected) / 10).sum()
    assert found.estimates.overall.value == pytest.approx(overall, rel=1e-5)
    assert sum(a.value for a in found.estimates.areas) == pytest.approx(
        sum(design.pixels), rel=2e-3
    )


def test_capitals_and_blanks_do_not_matter(planned):
    path, points, _ = planned
    fill(points, np.zeros((130, 170), np.uint8))
    change(points, "UPDATE points SET truth = '  BackGround '")
    assert assess_map(path, points).estimates.counts[:, 0].tolist() == [10, 10, 10]


FAULTS = {
    "no truth filled in": "UPDATE points SET truth = ' ' WHERE id = 7",
    "truth is no class": "UPDATE points SET truth = 'lake' WHERE id = 7",
    "without a place": "UPDATE points SET geom = NULL WHERE id = 7",
    "deleted": "DELETE FROM points WHERE id = 7",
}


@pytest.mark.parametrize("reason", FAULTS)
def test_what_is_not_used_is_named(planned, reason):
    path, points, _ = planned
    fill(points, np.zeros((130, 170), np.uint8))
    change(points, FAULTS[reason])
    found = assess_map(path, points)
    assert found.left_out == {reason: ("7",)}
    assert sum(found.used_per_class) == 29
    assert "1 of the 30 planned points were not used" in found.to_markdown()
    assert found.to_dict()["left_out"] == {reason: ["7"]}


def move(points, row, col, number=7):
    plane = read_points(points)[0].affine
    blob = shapely.to_wkb(shapely.Point(plane * (col, row)))
    header = b"GP\x00\x01" + (2154).to_bytes(4, "little")
    change(points, "UPDATE points SET geom = ? WHERE id = ?", header + blob, number)


@pytest.mark.parametrize(
    ("reason", "row", "col"),
    [
        ("outside the map", -3.5, 20.5),
        ("outside the map", 20.5, 170.1),
        ("on nodata", 120.5, 160.5),
        ("moved to another pixel", None, None),
    ],
)
def test_points_that_went_elsewhere_are_named(planned, reason, row, col):
    path, points, design = planned
    fill(points, np.zeros((130, 170), np.uint8))
    # Four metres west, or east where there is no west.
    west = 4 if design.cols[6] > 20 else -4
    move(
        points,
        design.rows[6] + 0.5 if row is None else row,
        design.cols[6] + 0.5 - west if col is None else col,
    )
    assert assess_map(path, points).left_out == {reason: ("7",)}
    kept = assess_map(path, points, keep_moved=True)
    if reason == "moved to another pixel":
        assert kept.left_out == {}
        assert kept.used_per_class == (10, 10, 10), "of the class that was planned"
        assert "moved to another pixel: 1\n" in kept.to_markdown()
    else:
        assert kept.left_out == {reason: ("7",)}


def test_a_nudge_within_the_pixel_is_no_move(planned):
    path, points, design = planned
    fill(points, np.zeros((130, 170), np.uint8))
    move(points, design.rows[6] + 0.9, design.cols[6] + 0.1)
    assert assess_map(path, points).left_out == {}


def test_doubles_and_strangers_are_named(planned):
    path, points, _ = planned
    fill(points, np.zeros((130, 170), np.uint8))
    copy = "INSERT INTO points (geom, id, truth) SELECT geom, {}, truth FROM points WHERE id = {}"
    for new, old in ((3, 3), (99, 5), ("NULL", 6)):
        change(points, copy.format(new, old))
    found = assess_map(path, points)
    assert found.left_out == {
        "not of the design": ("99", "fid 33"),
        "more than one with this id": ("3",),
    }
    assert sum(found.used_per_class) == 29


def test_a_class_without_a_usable_point_is_an_error(planned):
    path, points, _ = planned
    with pytest.raises(LabelError, match="'background', 'building', 'road'"):
        assess_map(path, points)
    fill(points, np.zeros((130, 170), np.uint8))
    ids, (design, _) = town(), read_points(points)
    roads = [i for i, at in enumerate(pixels_of(design), 1) if ids[at] == 2]
    for i in roads[1:]:
        change(points, "UPDATE points SET truth = NULL WHERE id = ?", i)
    found = assess_map(path, points)
    assert "road: 1 usable point" in found.to_markdown()
    assert found.to_dict()["overall_accuracy"]["half_width"] is None
    assert "+- n/a" in found.to_markdown()
    change(points, "UPDATE points SET truth = NULL WHERE id = ?", roads[0])
    with pytest.raises(LabelError, match="no usable point in the mapped class 'road'"):
        assess_map(path, points)


def test_another_map_is_refused(planned, class_map):
    _, points, _ = planned
    fill(points, np.zeros((130, 170), np.uint8))
    ids = town()
    ids[5, 5] = (ids[5, 5] + 1) % 3
    shifted = Affine(1, 0, 789_001, 0, -1, 6_501_000)
    for other in (
        class_map(ids, "a.tif"),
        class_map(town(), "b.tif", transform=shifted),
        class_map(town(), "c.tif", crs="EPSG:3857"),
        class_map(town((130, 171)), "d.tif"),
    ):
        with pytest.raises(SceneError, match="not the map that the points were planned on"):
            assess_map(other, points)
    # Stored another way it is still the same map.
    assess_map(class_map(town(), "e.tif", tiled=True, blockxsize=64, blockysize=64), points)


@pytest.mark.parametrize(
    ("crs", "plane"),
    [
        ("EPSG:3857", Affine(0.5, 0, 400_000, 0, -0.5, 5_700_000)),
        ("EPSG:4326", Affine(1e-5, 0, 4, 0, -1e-5, 46)),
        ("EPSG:32631", Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000)),
        ("+proj=laea +lat_0=46 +lon_0=4 +ellps=GRS80 +units=m", Affine(1, 0, 90, 0, -1, 50)),
    ],
)
def test_a_round_in_any_crs(class_map, tmp_path, crs, plane):
    path, points = class_map(town(), crs=crs, transform=plane), tmp_path / "p.gpkg"
    plan_points(path, points, TEN, scheme=SCHEME)
    fill(points, np.where(town() == IGNORE, 0, town()))
    found = assess_map(path, points)
    assert found.left_out == {}
    assert found.estimates.overall.value == pytest.approx(1)


def test_the_points_may_come_back_in_another_crs(planned):
    path, points, _ = planned
    fill(points, np.zeros((130, 170), np.uint8))
    design, table = read_points(points)
    pyogrio.write_dataframe(
        table.to_crs(4326),
        points,
        layer="points",
        driver="GPKG",
        dataset_metadata={"GEOPIPE_DESIGN": design.to_json()},
    )
    assert assess_map(path, points).left_out == {}


def test_95_of_100_plans_hold_the_truth(class_map, tmp_path):
    """From the draw to the interval, on a map and truth that differ as maps do."""
    rng = np.random.default_rng(4)
    truth = rng.choice(3, (90, 120), p=[0.7, 0.1, 0.2]).astype(np.uint8)
    mapped = np.where(rng.random(truth.shape) < 0.25, rng.choice(3, truth.shape), truth)
    pixels = ClassPixels.open(class_map(mapped.astype(np.uint8)), SCHEME.names)
    found = census(pixels)
    from geopipe.evaluation.assess.olofsson import Stratum, estimate

    strata = Stratum(SCHEME.names, found.pixels, found.area_m2)
    goal = [(mapped == truth).mean(), *(np.bincount(truth.ravel()) / truth.size)]
    held, runs = np.zeros(4), 300
    for seed in range(runs):
        at = draw_pixels(pixels, found, (120, 60, 60), seed)
        e = estimate(strata, mapped[at], truth[at])
        shares = [a.times(1 / found.area_m2.sum()) for a in e.areas]
        held += [
            abs(x.value - g) <= x.half_width
            for x, g in zip([e.overall, *shares], goal, strict=True)
        ]
    # 0.95 +- 4 standard deviations of 300 runs.
    assert (held / runs > 0.90).all(), held / runs
    assert (held / runs <= 1).all()
