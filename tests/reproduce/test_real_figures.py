"""Figures of maps of real places, on shapes whose agreement is known."""

import numpy as np
import pytest
import shapely
from affine import Affine

from reproduce.real.figures import (
    Agreement,
    area_error,
    boundary_agreement,
    object_agreement,
    outlines,
    relaxed_agreement,
    separate,
)


def boxes(*corners: tuple[float, float, float, float]) -> np.ndarray:
    return np.array([shapely.box(*c) for c in corners], object)


def test_objects_match_at_more_than_half() -> None:
    truth = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    mapped = boxes(
        (0, 0, 10, 6),  # IoU 0.6
        (20, 0, 30, 5),  # 0.5: not more than half
        (60, 0, 70, 10),  # nothing there
        (43, 3, 44, 4),  # a crumb
    )
    found = object_agreement(truth, mapped)
    assert (found.precision, found.recall) == (1 / 4, 1 / 3)
    without = object_agreement(truth, mapped, least_m2=10)
    assert (without.precision, without.recall) == (1 / 3, 1 / 3)
    assert without.f1 == pytest.approx(1 / 3)


def test_one_mapped_block_is_not_two_houses() -> None:
    truth = boxes((0, 0, 10, 10), (11, 0, 21, 10))
    assert object_agreement(truth, boxes((0, 0, 21, 10))).f1 == 0


def test_what_touches_is_one_object() -> None:
    assert len(separate(boxes((0, 0, 1, 1), (1, 0, 2, 1), (3, 0, 4, 1)))) == 2


def test_outlines_join_at_sides_and_not_at_corners() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    found = outlines(mask, Affine.scale(2, -2))
    assert sorted(shapely.area(found)) == [4, 12]


def test_a_road_beside_itself_counts_within_the_reach() -> None:
    truth = np.zeros((20, 20), bool)
    truth[10] = True
    mapped = np.roll(truth, 3, 0)
    known = np.ones_like(truth)
    assert relaxed_agreement(truth, mapped, known, 3) == Agreement(1, 1)
    assert relaxed_agreement(truth, mapped, known, 2.9).f1 == 0
    half = mapped & (np.arange(20) < 10)
    assert relaxed_agreement(truth, half, known, 3).precision == 1
    assert relaxed_agreement(truth, half, known, 3).recall == pytest.approx(0.5)
    assert relaxed_agreement(truth, mapped & False, known, 3).recall == 0


def test_an_outline_is_what_the_boundary_figure_looks_at() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:30, 10:30] = True
    known = np.ones_like(truth)
    assert boundary_agreement(truth, truth, known, 1) == Agreement(1, 1)
    grown = np.zeros_like(truth)
    grown[7:33, 7:33] = True
    assert boundary_agreement(truth, grown, known, 1).f1 == 0
    far = boundary_agreement(truth, grown, known, 3)
    assert (far.precision, far.recall) == (0.8, 1)  # corners are further apart


def test_area_error_counts_known_ground_only() -> None:
    truth = np.zeros((10, 10), bool)
    truth[:, :5] = True
    known = np.ones_like(truth)
    assert area_error(truth, np.ones_like(truth), known) == 1.0
    known[:, 5:] = False
    assert area_error(truth, np.ones_like(truth), known) == 0.0
