"""Blocks: what is missing, what is not there, how far off, and what is said of it."""

from dataclasses import replace

import numpy as np
import pytest
import shapely

from geopipe.grid import Window
from geopipe.labels import Area
from geopipe.raster.scene import window_geobox
from geopipe.register import DisplacementField
from geopipe.register import qc_tiles as check
from geopipe.register.label_qc import LabelQC, date_summary, suggestions
from geopipe.register.qc_file import median_date, rows
from geopipe.register.qc_tiles import QCTile, examine
from geopipe.register.tie_point import TiePoint


def block(**given):
    return QCTile(1, Window(0, 0, 400, 400), **{"features": 10, "area_m2": 900.0, **given})


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, "good"),
        ({"down": 2.0, "error": 0.3}, "shifted"),
        ({"down": 2.0, "error": 1.2}, "good"),  # as uncertain as it is long
        ({"down": 0.4, "error": 0.1}, "good"),  # less than half a metre
        ({"rejected": "too few features"}, "no evidence"),
        ({"rejected": "x", "down": 9.0, "error": 0.1}, "no evidence"),
        ({"omission": 0.5}, "incomplete"),
        ({"rejected": "x", "omission": 0.5}, "incomplete"),
        ({"commission": 3}, "doubtful features"),
        (
            {"right": -3.0, "error": 0.1, "omission": 0.4, "commission": 9},
            "shifted, incomplete, doubtful features",
        ),
        ({"features": 0, "omission_m2": 500.0}, "incomplete"),
        ({"features": 0, "omission_m2": 20.0}, "no labels"),
        ({"features": 0}, "no labels"),
    ],
    ids=str,
)
def test_verdicts(given, status):
    assert block(**given).status(0.3) == status


def test_far_from_what_is_not_there():
    mask = np.zeros((9, 9), bool)
    assert np.isinf(check._distance_to(mask)).all()
    mask[4, 4] = True
    assert check._distance_to(mask)[0, 4] == 4


# -- a map with a hole and a phantom, seen rightly


@pytest.fixture(scope="module")
def gappy(town, drawn_belief):
    """The truth less the buildings of the right half, and one that is none; known everywhere."""
    ids, shapes = town.truth.ids, town.truth.shapes
    box = town.scene.geobox.extent.boundingbox
    middle = (box.left + box.right) / 2
    gone = (ids == 1) & (shapely.bounds(shapes)[:, 0] > middle)
    labels = replace(town.truth, shapes=shapes[~gone], ids=ids[~gone])
    up = LabelQC(town.scene, labels)
    return up, drawn_belief(up.grid, town.truth), shapes[gone]


def judged(gappy, side, area=None):
    up, likelihood, _ = gappy
    found = examine(up.grid, likelihood, DisplacementField(up.grid, (), 8.0), side, area).tiles
    return [b for b in found if b.class_id == 1]


def test_what_is_missing_is_seen(gappy):
    up, _, gone = gappy
    blocks = judged(gappy, 175.0)
    assert len(blocks) == 4
    total = np.zeros(2)
    for b in blocks:
        place = window_geobox(up.grid.geobox, b.window).extent.geom
        true = shapely.area(shapely.intersection(gone, place)).sum()
        total += np.array([b.omission_m2, true])
        assert b.rejected == "no feature near"
        assert ("incomplete" in b.status(0.5)) == (b.window.col > 0)
    assert total[1] > 2000
    assert total[0] == pytest.approx(total[1], rel=0.5)  # some 60 buildings, half of them gone


def test_what_is_not_there_is_doubtful(gappy, town):
    up, likelihood, gone = gappy
    buildings = up.grid.labels
    ids = town.truth.read(up.grid.geobox)
    free = np.argwhere(check._distance_to(ids > 0) > 24)  # 12 m from anything
    ((x, y),) = up.grid.from_px(free[len(free) // 2][None].astype(float))
    more = replace(
        buildings,
        shapes=np.append(buildings.shapes, shapely.box(x - 6, y - 6, x + 6, y + 6)),
        ids=np.append(buildings.ids, np.uint8(1)),
    )
    plane = replace(up.grid, labels=more)
    blocks = examine(plane, likelihood, DisplacementField(plane, (), 8.0), 1000.0).tiles
    assert [b.commission for b in blocks if b.class_id == 1] == [1]
    assert [b.commission for b in judged(gappy, 1000.0)] == [0]
    assert len(gone)


def test_outside_its_area_nothing_is_judged(gappy):
    """The right half, where nothing is labelled, is not of the area: nothing is missing."""
    up = gappy[0]
    box = up.scene.geobox.extent.boundingbox
    left = shapely.box(box.left, box.bottom, (box.left + box.right) / 2 - 8, box.top)
    blocks = judged(gappy, 1000.0, Area(np.array([left], object), "left"))
    assert [b.omission < 0.05 for b in blocks] == [True]
    assert [b.omission > 0.2 for b in judged(gappy, 1000.0)] == [True]
    some = judged(gappy, 50.0, Area(np.array([left], object), "left"))
    assert some
    assert all(b.window.col < up.grid.shape[1] / 2 for b in some)


def test_blocks_larger_than_a_sheet_are_counted_in_parts(gappy, monkeypatch):
    (whole,) = judged(gappy, 1000.0)
    monkeypatch.setattr(check, "BLOCK_PX", 300)
    (parts,) = judged(gappy, 1000.0)
    assert parts.window == whole.window
    assert parts.features == whole.features
    assert parts.area_m2 == whole.area_m2
    assert parts.omission_m2 == pytest.approx(whole.omission_m2, rel=0.01)


def test_the_shift_of_a_block_is_that_of_its_nodes(gappy):
    up, likelihood, _ = gappy
    tie_points = [
        TiePoint(100.0, 100.0, 1, 2.0, -1.0, 0.2, 2.5, 9.0),
        TiePoint(150.0, 100.0, 1, 2.2, -1.2, 0.2, 2.5, 9.0),
        TiePoint(150.0, 150.0, 1, 9.9, 9.9, 0.2, 2.5, 9.0, "unlike its neighbours"),
        TiePoint(400.0, 400.0, 1, 0.0, 0.0, 0.2, 2.5, 9.0, "too few features"),
    ]
    shifts = DisplacementField(up.grid, tuple(tie_points), 8.0)
    blocks = examine(up.grid, likelihood, shifts, 175.0).tiles
    first, last = blocks[0], [b for b in blocks if b.class_id == 1][-1]
    assert (first.down, first.right) == pytest.approx((2.1, -1.1))
    assert first.status(0.5).startswith("shifted")
    assert last.rejected == "too few features"
    told = rows(up.grid, blocks)[0]
    assert (told["dx_m"], told["dy_m"]) == (-1.1, -2.1)


# -- what is said


def test_what_to_do(town):
    good = block(down=0.3, error=0.1)
    off = [block(down=3.0, error=0.2), block(right=4.4, error=0.2, features=3)]
    said = " ".join(suggestions((good, *off, *off), town.scene, None))
    assert "3.0 m in the median" in said
    assert "geopipe labels align" in said
    assert "ignore buffer is no substitute" in said
    assert "align" not in suggestions((good,), town.scene, None)[0]
    nothing = (block(rejected="too few features"), block(features=0))
    assert suggestions(nothing, town.scene, None) == [
        "no shift is known: the evidence is too weak everywhere"
    ]


def test_ages(town):
    import datetime

    taken = datetime.date(2020, 1, 1)
    blocks = (block(dates=("2018-05-01", "2019-01-01", "2021-06-01")), block())
    assert "1 features were last edited after" in suggestions(blocks, town.scene, taken)[-1]
    assert "2019-01-01 in the median; the image was taken on 2020-01-01" in date_summary(
        blocks, taken
    )
    assert "no feature says when" in date_summary((block(),), taken)
    assert "give its date" in date_summary(blocks, None)
    assert median_date(("2019-01-01", "2018-01-01", "2020-01-01")) == "2019-01-01"
    assert median_date(()) is None
