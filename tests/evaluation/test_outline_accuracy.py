"""Outlines against outlines, on shapes whose figures can be worked out by hand."""

import math

import numpy as np
import pytest
import shapely
from shapely import Point, Polygon, box
from shapely.affinity import rotate

from geopipe.evaluation.objects import match_objects
from geopipe.evaluation.outline_accuracy import boundary_f1, polis, right_angle_share


def shapes(*polygons):
    return np.array(polygons, object)


SQUARE = box(0, 0, 10, 10)
COURT = SQUARE - box(4, 4, 6, 6)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (SQUARE, SQUARE, 0),
        # Every corner is on its wall's line, 1 m beyond: two corners of each are 0 m off.
        (SQUARE, box(1, 0, 11, 10), ((1 + 1 + 0 + 0) / 4 + (0 + 0 + 1 + 1) / 4) / 2),
        (SQUARE, box(-1, -1, 11, 11), (1 + math.sqrt(2)) / 2),
        # Of the triangle two corners are the square's, the third is 2 m above its wall; of the
        # square two corners are the triangle's, the others lie off its slopes.
        (
            SQUARE,
            Polygon([(0, 0), (10, 0), (5, 12)]),
            (2 * Point(0, 10).distance(shapely.LineString([(0, 0), (5, 12)])) / 4 + 2 / 3) / 2,
        ),
        # The four corners of the courtyard are 4 m from the square's walls, and count.
        (SQUARE, COURT, 4 * 4 / 8 / 2),
    ],
)
def test_polis_by_hand(a, b, expected):
    assert polis(shapes(a), shapes(b)) == pytest.approx(expected)
    assert polis(shapes(b), shapes(a)) == pytest.approx(expected), "symmetric"


def test_polis_is_of_corners_not_of_vertices_on_a_wall():
    """Nor of the vertex that closes a ring."""
    other = box(1, 0, 11, 10)
    fine = shapely.segmentize(SQUARE, 0.5)
    turned = Polygon([(5, 0), (10, 0), (10, 10), (0, 10), (0, 0)])
    for same in (fine, turned):
        assert polis(shapes(same), shapes(other)) == pytest.approx(0.5)


def test_each_pair_has_its_own_distance():
    a = shapes(SQUARE, COURT, SQUARE)
    b = shapes(box(1, 0, 11, 10), COURT, box(-1, -1, 11, 11))
    assert polis(a, b) == pytest.approx([0.5, 0, (1 + math.sqrt(2)) / 2])


def test_right_angles():
    gable = Polygon([(0, 0), (10, 0), (10, 10), (5, 15), (0, 10)])  # 135, 90 and 135 degrees
    assert right_angle_share(shapes(SQUARE)) == 1
    assert right_angle_share(shapes(rotate(COURT, 33))) == 1, "inwards, too"
    assert right_angle_share(shapes(gable)) == pytest.approx(3 / 5)
    assert right_angle_share(shapes(SQUARE, gable)) == pytest.approx(7 / 9)
    assert right_angle_share(shapes(Point(0, 0).buffer(5))) == 0
    for degrees, share in ((4, 1), (6, 0)):
        slope = 10 * math.tan(math.radians(degrees))
        leaning = Polygon([(0, 0), (10, 0), (10 + slope, 10), (slope, 10)])
        assert right_angle_share(shapes(leaning)) == share
    assert math.isnan(right_angle_share(shapes()))


def test_boundary_f1_by_hand():
    assert boundary_f1(shapes(SQUARE), shapes(box(0.9, 0, 10.9, 10))) == 1
    # Shifted by 2 m: of two walls 8 m lie on the other, and 1 m more is near; the left wall and
    # the right one are off but for 1 m at each end.
    apart = boundary_f1(shapes(SQUARE), shapes(box(2, 0, 12, 10)))
    assert apart == pytest.approx((2 * 9 + 2 * 1) / 40, abs=0.03)
    # Half of the mapped length is right, all of the true one.
    half = boundary_f1(shapes(SQUARE, box(50, 0, 60, 10)), shapes(SQUARE))
    assert half == pytest.approx(2 / 3)
    assert boundary_f1(shapes(SQUARE), shapes()) == 0
    assert math.isnan(boundary_f1(shapes(), shapes()))


def test_objects_have_them_over_the_matched_pairs():
    truth = shapes(SQUARE, box(100, 0, 110, 10), box(200, 0, 210, 10))
    mapped = shapes(SQUARE, box(101, 0, 111, 10), box(300, 0, 310, 10))
    metrics = match_objects(mapped, truth)
    assert metrics.polis_m == pytest.approx(0.25)
    assert (metrics.right_angle_share, metrics.true_right_angle_share) == (1, 1)
    assert "| PoLiS distance of matches | 0.25 m |" in metrics.to_markdown()
    assert metrics.to_dict()["polis_m"] == pytest.approx(0.25)
    nothing = match_objects(mapped[2:], truth).to_dict()
    assert nothing["polis_m"] is None
    assert nothing["right_angle_share"] is None
    assert nothing["boundary_f1"] == 0
