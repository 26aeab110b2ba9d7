"""Where labels have to go: known shifts are found, and where nothing can be known nothing is."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from scipy import ndimage

from geopipe.register import DisplacementField, estimate_field
from geopipe.register import displacement as field
from geopipe.register.fit import shifted_labels
from geopipe.register.label_qc import LabelQC
from geopipe.register.peaks import peaks_of
from geopipe.register.tie_point import CHANCE, EDGE, FEW, FLAT, ODD, TORN, TiePoint


def tie_point(row, col, down=1.0, right=-2.0, rejected="", class_id=1, error=0.3):
    return TiePoint(float(row), float(col), class_id, down, right, error, 2.5, 9.0, rejected)


def centres(labels, class_id):
    return shapely.get_coordinates(shapely.centroid(labels.shapes[labels.ids == class_id]))


def moves(up, labels, class_id):
    """Metres east and north."""
    down, right = up.field.at(up.grid.to_px(centres(labels, class_id)), class_id).T
    return np.column_stack([right, -down])


# -- the simulated town, seen by classifiers of its own wrong labels


def test_buildings_are_found_to_half_a_metre(checked, town, osm_shift):
    at = centres(town.osm, 1)
    true = -np.column_stack(osm_shift(at[:, 0], at[:, 1]))
    off = np.hypot(*(moves(checked, town.osm, 1) - true).T)
    assert np.median(np.hypot(*true.T)) > 2
    assert np.median(off) <= 0.5


def test_aligned_labels_fit_the_truth_better(checked, town):
    box = town.scene.geobox
    right = town.truth.read(box)

    def iou(labels):
        ids = labels.read(box)
        return [
            ((ids == k) & (right == k)).sum() / ((ids == k) | (right == k)).sum() for k in (1, 2)
        ]

    raw, aligned = iou(town.osm), iou(shifted_labels(town.osm, checked.field))
    assert aligned[0] > raw[0] + 0.2
    assert aligned[1] > raw[1] + 0.1


def test_labels_that_fit_stay(town):
    up = LabelQC(town.scene, town.truth)
    for class_id in (1, 2):
        assert np.median(np.hypot(*moves(up, town.truth, class_id).T)) < 0.25


# -- nothing to go by


def few_accepted(up):
    """Every refusal has a reason; at most a tenth is accepted, and a fifth of the features move."""
    assert len(up.field.tie_points) > 100
    for class_id in (1, 2):
        tie_points = [n for n in up.field.tie_points if n.class_id == class_id]
        assert {n.rejected for n in tie_points} <= {"", FEW, EDGE, FLAT, TORN, ODD, CHANCE}
        assert np.mean([not n.rejected for n in tie_points]) <= 0.1
        moved = np.hypot(*moves(up, up.grid.labels, class_id).T)
        assert np.mean(moved > 0.05) <= 0.2


def test_noise_moves_nothing(paint, town):
    rng = np.random.default_rng(3)

    def noise(pixels):
        rough = rng.normal(size=pixels.shape)
        rough[:, :, 350:] = ndimage.gaussian_filter(rough, (0, 3, 3))[:, :, 350:] * 10
        return (120 + 30 * rough).clip(0, 255).astype(np.uint8)

    few_accepted(LabelQC(paint(noise, "noise"), town.osm))


def test_an_even_scene_moves_nothing(paint, town):
    up = LabelQC(paint(lambda p: np.full_like(p, 77), "even"), town.osm)
    assert len(up.field.tie_points) > 100
    assert all(n.rejected for n in up.field.tie_points)


def test_labels_anywhere_stay_there(town):
    rng = np.random.default_rng(1)
    osm, box = town.osm, town.scene.geobox.extent.boundingbox
    to = rng.uniform((box.left, box.bottom), (box.right, box.top), (len(osm.shapes), 2))
    to -= shapely.get_coordinates(shapely.centroid(osm.shapes))
    shapes = [shapely.transform(s, lambda xy, m=m: xy + m) for s, m in zip(osm.shapes, to)]  # noqa: B905
    few_accepted(LabelQC(town.scene, replace(osm, shapes=np.array(shapes, object))))


# -- known shifts, with a likelihood that is right


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.3, -1.2), (-5.0, 4.1)], ids=str)
def test_a_shift_is_found_to_a_fraction_of_a_pixel(town, shifted, drawn_belief, shift):
    labels = shifted(town.truth, *shift)
    up = LabelQC(town.scene, labels)
    found = estimate_field(up.grid, drawn_belief(up.grid, town.truth), 8.0)
    for class_id in (1, 2):
        at = up.grid.to_px(centres(labels, class_id))
        down, right = np.median(found.at(at, class_id), axis=0)
        assert (right, -down) == pytest.approx((-shift[0], -shift[1]), abs=0.2)


def test_a_shift_beyond_the_search_is_refused_or_short(town, shifted, drawn_belief):
    up = LabelQC(town.scene, shifted(town.truth, 9.0, 0.0))
    found = estimate_field(up.grid, drawn_belief(up.grid, town.truth), 3.0)
    assert {n.rejected for n in found.tie_points} - {""}
    at = up.grid.to_px(centres(up.grid.labels, 1))
    assert np.hypot(*found.at(at, 1).T).max() <= 3 + 1e-9


def test_sheets_change_little(town, shifted, drawn_belief, monkeypatch):
    """Pieces of sheets around count as if there was one."""
    up = LabelQC(town.scene, shifted(town.truth, 2.0, 1.0))
    likelihood = drawn_belief(up.grid, town.truth)
    whole = estimate_field(up.grid, likelihood, 4.0)
    monkeypatch.setattr(field, "BLOCK_PX", 256)
    parts = estimate_field(up.grid, likelihood, 4.0)

    def by_place(shifts):
        return {
            (n.class_id, n.row, n.col): (n.down, n.right)
            for n in shifts.tie_points
            if not n.rejected
        }

    one, many = by_place(whole), by_place(parts)
    both = sorted(set(one) & set(many))
    assert len(both) > 0.95 * len(one)
    assert np.median(np.abs(np.array([np.subtract(one[k], many[k]) for k in both]))) < 0.05


# -- the field between the tie points


@pytest.fixture
def plane(empty_plane):
    return empty_plane((1200, 1200))


@pytest.mark.parametrize("most", [1.0, 8.0])
def test_it_is_never_longer_than_the_most_and_fades_out(plane, most):
    rng = np.random.default_rng(0)
    tie_points = [tie_point(*rng.integers(0, 600, 2), *rng.uniform(-9, 9, 2)) for _ in range(60)]
    shifts = DisplacementField(plane, tuple(tie_points), most)
    at = rng.uniform(-500, 1500, (5000, 2))
    length = np.hypot(*shifts.at(at, 1).T)
    assert length.max() <= most + 1e-9
    far = (at > 600 + 250).any(1)
    assert length[far].max() < 0.01
    assert length[~far].max() > most / 2
    assert not shifts.at(at, 2).any()


def test_inside_equal_nodes_it_is_what_they_say(plane):
    tie_points = [tie_point(r, c) for r in range(0, 600, 50) for c in range(0, 600, 50)]
    at = np.random.default_rng(0).uniform(100, 450, (200, 2))
    assert np.allclose(
        DisplacementField(plane, tuple(tie_points), 8.0).at(at, 1), (1, -2), atol=0.1
    )


@pytest.mark.parametrize(("error", "left"), [(1.0, 0.8), (2.0, 0.2), (2.5, 0.0)])
def test_what_may_be_chance_does_not_move_labels(plane, error, left):
    tie_points = [
        tie_point(r, c, error=error) for r in range(0, 600, 50) for c in range(0, 600, 50)
    ]
    at = np.random.default_rng(0).uniform(100, 450, (200, 2))
    moved = DisplacementField(plane, tuple(tie_points), 8.0).at(at, 1)
    assert np.allclose(moved, (left, -2 * left), atol=0.1)


def test_many_places_are_looked_up_in_parts(plane, monkeypatch):
    rng = np.random.default_rng(0)
    tie_points = tuple(
        tie_point(*rng.integers(0, 600, 2), *rng.uniform(-3, 3, 2)) for _ in range(40)
    )
    shifts, at = DisplacementField(plane, tie_points, 8.0), rng.uniform(0, 600, (1000, 2))
    whole = shifts.at(at, 1)
    monkeypatch.setattr(field, "_AT_ONCE", 77)
    assert np.array_equal(shifts.at(at, 1), whole)
    at[5], at[700] = (np.inf, 3), (np.nan, np.nan)
    assert not shifts.at(at, 1)[[5, 700]].any()
    assert np.array_equal(np.delete(shifts.at(at, 1), [5, 700], 0), np.delete(whole, [5, 700], 0))
    assert shifts.at(np.empty((0, 2)), 1).shape == (0, 2)


# -- what is accepted of the tie points


def by_pairs(plane, tie_points):
    """The rule for odd tie points, pair by pair."""
    out = []
    for n in tie_points:
        near = [
            (m.down, m.right)
            for m in tie_points
            if not m.rejected
            and m.class_id == n.class_id
            and max(abs(m.row - n.row), abs(m.col - n.col)) * plane.gsd < 2.1 * 25
        ]
        odd = not n.rejected and len(near) > 3
        if odd and np.hypot(*(np.median(near, axis=0) - (n.down, n.right))) > 3:
            out.append(ODD)
        else:
            out.append(n.rejected)
    return out


def test_odd_nodes_are_those_of_all_pairs(plane, monkeypatch):
    monkeypatch.setattr(field, "_MAX_CHANCE_SHARE", -1.0)
    rng = np.random.default_rng(4)
    tie_points = [
        tie_point(r, c, *rng.normal(0, 2.2, 2), TORN if rng.random() < 0.2 else "", k)
        for k in (1, 2)
        for r in range(0, 700, 50)
        for c in range(0, 700, 50)
    ]
    found = field._checked(plane, tie_points)
    assert [n.rejected for n in found] == by_pairs(plane, tie_points)
    assert sum(n.rejected == ODD for n in found) > 20
    assert [replace(n, rejected="") for n in found] == [replace(n, rejected="") for n in tie_points]


@pytest.mark.parametrize(("share", "stays"), [(0.15, False), (0.7, True)])
def test_a_few_accepted_among_refused_are_chance(plane, share, stays):
    rng = np.random.default_rng(5)
    tie_points = [
        tie_point(r, c, rejected="" if rng.random() < share else TORN)
        for r in range(0, 1000, 50)
        for c in range(0, 1000, 50)
    ]
    # What has too few features around says nothing about those who have.
    tie_points += [
        tie_point(r, c, rejected=FEW) for r in range(25, 1000, 50) for c in range(25, 1000, 50)
    ]
    found = field._checked(plane, tie_points)
    assert any(not n.rejected for n in found) == stays
    assert any(n.rejected == CHANCE for n in found) != stays
    assert field._checked(plane, []) == ()


# -- peaks


@pytest.mark.parametrize("at", [(7.3, 5.8), (4.0, 9.49), (2.6, 2.5)])
def test_a_peak_is_found_between_the_pixels(at):
    rows, cols = np.mgrid[:15, :17]
    (found,), (inside,) = peaks_of((-((rows - at[0]) ** 2) - 2 * (cols - at[1]) ** 2)[None])
    assert inside
    assert found == pytest.approx(at)


@pytest.mark.parametrize("at", [(0, 5), (14, 5), (5, 0), (5, 16)])
def test_a_peak_at_the_edge_is_none(at):
    surfaces = np.zeros((2, 15, 17))
    surfaces[1][at] = 1
    found, inside = peaks_of(surfaces)
    assert found.tolist() == [[0, 0], list(at)]
    assert not inside.any()


def test_halves_that_disagree_are_refused(town, drawn_belief, shifted):
    """Every second building shifted east, the others west."""
    east, west = (shifted(town.truth, m, 0.0).shapes for m in (5.0, -5.0))
    keep = town.truth.ids == 1
    turns = np.cumsum(keep) % 2 == 0
    torn = replace(town.truth, shapes=np.where(turns, east, west)[keep], ids=town.truth.ids[keep])
    up = LabelQC(town.scene, torn)
    found = estimate_field(up.grid, drawn_belief(up.grid, town.truth), 8.0)
    rejected = [n.rejected for n in found.tie_points]
    assert np.mean([bool(r) for r in rejected]) > 0.5
    assert TORN in rejected
