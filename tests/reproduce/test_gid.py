"""The study on Gaofen crops, without them: what it does to data, and what its page says."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from geopipe.classes import IGNORE
from geopipe.errors import LabelError, SceneError
from geopipe.grid import Window
from geopipe.learn.patches import ChipRaster, PatchGrid
from geopipe.learn.patches.rasters import read_patch
from geopipe.learn.transfer import SampleStatus, Selection
from geopipe.learn.transfer.evidence import Evidence, Interval
from geopipe.learn.transfer.neighbours import Neighbours
from geopipe.metrics import Metrics
from geopipe.nets import SegmentVote
from geopipe.raster.chips import Chip
from reproduce.gid import cost, data
from reproduce.gid.ablations import METHODS
from reproduce.gid.experiment import Settings, true_labels
from reproduce.gid.metrics import ALL, SEGMENTS, STAGES, cell_of, precision, voted
from reproduce.gid.page import KINDS, groups, percent, write_page
from reproduce.gid.sensor import Sensor, write_simulated

NAMES = data.scheme().names


# -- data


def test_every_merged_class_is_one_of_the_five_and_none_is_missing():
    assert len(data.FINE) == 15
    for merged in (data.FINE, data.FOREIGN):
        assert set(merged.values()) == set(NAMES)


def test_a_folder_whose_labels_say_another_class_is_refused():
    right, wrong = (cells_of({"river": i, "paddy_field": 1}) for i in (4, 0))
    data.check_merged(right, data.FINE, data.scheme())
    with pytest.raises(LabelError, match="river are built-up, not water"):
        data.check_merged(wrong, data.FINE, data.scheme())


def cells_of(ids):
    planes = tuple(ChipRaster(Chip(f"/x/{name}/1.png", name), 3) for name in ids)
    at = np.array([[i, 0, c] for i in range(len(ids)) for c in range(4)], np.int32)
    known = np.repeat(list(ids.values()), 4).astype(np.uint8)
    known[::4] = IGNORE
    return PatchGrid(planes, 56, at, known)


@pytest.mark.parametrize("seed", range(3))
def test_halves_share_nothing_and_both_have_half_of_every_class(seed):
    names = ["a"] * 7 + ["b"] * 10 + ["c"]
    first, second = data.halves(names, seed)
    assert sorted([*first, *second]) == list(range(18))
    assert [[names[i] for i in half].count(n) for half in (first, second) for n in "abc"] == [
        3,
        5,
        0,
        4,
        5,
        1,
    ]
    assert [h.tolist() for h in data.halves(names, seed)] == [first.tolist(), second.tolist()]
    assert first.tolist() != data.halves(names, seed + 3)[0].tolist()


def test_a_balanced_draw_takes_as_many_of_each_and_only_from_among():
    names, among = ["a"] * 50 + ["b"] * 5, np.arange(10, 53)
    drawn = data.balanced(names, among, 4, 0)
    assert np.isin(drawn, among).all()
    assert [names[i] for i in drawn] == ["a"] * 4 + ["b"] * 3


def test_photographs_are_taken_from_the_fine_classes_by_turns():
    names = ["forest"] * 9 + ["chaparral"] * 9 + ["river"] * 9
    taken = [names[i] for i in data.alternating(names, data.FOREIGN, 5)]
    assert [taken.count(n) for n in ("forest", "chaparral", "river")] == [2, 3, 5]


def test_missing_data_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOPIPE_DATA", str(tmp_path))
    with pytest.raises(SceneError, match="gid") as e:
        data.data_folder("gid")
    assert "GEOPIPE_DATA" in e.value.hint


# -- the other sensor


def picture(seed=0, height=61, width=47):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 5, 4)).repeat(13, 1).repeat(13, 2)[:, :height, :width]
    return (0.8 * coarse + rng.integers(0, 50, coarse.shape)).astype(np.uint8)


def test_a_sensor_that_changes_nothing_gives_the_same_pixels():
    same = Sensor(gamma=1, gains=(1, 1, 1), blur_px=0, coarser=1, noise=0)
    assert np.array_equal(same.simulate(picture(), "x"), picture())


def test_a_sensor_sees_the_same_twice_and_no_two_crops_with_one_noise():
    sensor, flat = Sensor(), np.full((3, 40, 40), 90, np.uint8)
    once = sensor.simulate(picture(), "a")
    assert once.shape == picture().shape
    assert once.dtype == np.uint8
    assert np.array_equal(once, sensor.simulate(picture(), "a"))
    assert not np.array_equal(sensor.simulate(flat, "a"), sensor.simulate(flat, "b"))
    assert not np.array_equal(once, Sensor(seed=1).simulate(picture(), "a"))


def test_light_and_bands_change_as_they_are_said_to():
    sensor = Sensor(noise=0)
    seen = sensor.simulate(np.full((3, 20, 20), 90, np.uint8), "x").astype(float)
    wanted = 255 * (90 / 255) ** 0.6 * np.array([1.15, 1.0, 0.85])
    assert np.abs(seen - wanted[:, None, None]).max() <= 0.5
    fine = (np.indices((40, 40)).sum(0) % 2 * 200).astype(np.uint8)
    assert sensor.simulate(np.stack([fine] * 3), "x").std((1, 2)).max() < 3  # coarser than that


def test_seen_chips_lie_in_folders_of_the_same_names(tmp_path):
    for name in ("river", "lake"):
        (tmp_path / "images" / name).mkdir(parents=True)
        pixels = np.ascontiguousarray(picture().transpose(1, 2, 0))
        Image.fromarray(pixels).save(tmp_path / "images" / name / "1.jpg")
    write_simulated(tmp_path / "images", tmp_path / "seen", Sensor())
    made = sorted(p.relative_to(tmp_path / "seen").as_posix() for p in tmp_path.rglob("seen/*/*"))
    assert made == ["lake/1.png", "river/1.png"]
    shown = Chip(str(tmp_path / "images/lake/1.jpg")).read()
    assert np.array_equal(
        Chip(str(tmp_path / "seen/lake/1.png")).read(), Sensor().simulate(shown, "lake/1.jpg")
    )


# -- judging


def test_votes_in_segments_are_those_of_mapping(tmp_path):
    """As SegmentVote's, given the plane and the votes both mirrored."""
    Image.fromarray(np.ascontiguousarray(picture(3).transpose(1, 2, 0))).save(tmp_path / "x.png")
    plane = ChipRaster(Chip(str(tmp_path / "x.png")), 3)
    mean, std, cell, grid = (110.0,) * 3, (60.0,) * 3, 16, (4, 3)
    vote = SegmentVote(5)
    around = Window.of_shape(plane.shape).expand(vote.receptive_radius)
    for seed in range(3):
        ids = np.random.default_rng(seed).integers(0, 5, 12)
        scores = np.eye(5, dtype=np.float32)[ids[cell_of(around, plane.shape, cell, grid)]]
        image = (read_patch(plane, around)[0] - 110) / 60
        wanted = vote(torch.from_numpy(scores).permute(2, 0, 1)[None], image[None])[0].argmax(0)
        found = voted(plane, ids, (grid, cell, vote.receptive_radius), (mean, std))
        assert np.array_equal(found, wanted.numpy())
        whole = ids[cell_of(Window.of_shape(plane.shape), plane.shape, cell, grid)]
        assert not np.array_equal(found, whole)  # segments do change the map


def test_cells_of_a_mirrored_window_are_the_mirrored_cells():
    inside = cell_of(Window(0, 0, 61, 47), (61, 47), 16, (4, 3))
    assert inside[0, 0] == 0
    assert inside[60, 46] == 11
    assert inside[16, 0] == 3
    part = cell_of(Window(20, 40, 30, 7), (61, 47), 16, (4, 3))
    assert np.array_equal(part, inside[20:50, 40:47])
    padded = np.pad(inside, 20, mode="symmetric")
    assert np.array_equal(cell_of(Window(-20, -20, 101, 87), (61, 47), 16, (4, 3)), padded)


def selection(labels, fates):
    n = len(labels)
    nothing = np.zeros(n, np.float32)
    around = Neighbours(np.zeros((n, 1), np.int64), np.zeros((n, 1), np.float32))
    return Selection(
        np.array(labels, np.uint8), nothing, np.array(fates, np.uint8), around, nothing, nothing, 5
    )


def test_precision_counts_the_labels_that_pass_each_stage():
    f = SampleStatus
    chosen = selection(
        [0, 0, 0, 0, 1, 1, 1],
        [f.KEPT, f.KEPT, f.DISAGREE, f.UNSURE, f.NEAR, f.DUPLICATE, f.MIXED],
    )
    truth = np.array([0, IGNORE, 2, 0, 1, 1, 3], np.uint8)
    found = precision(chosen, truth, NAMES)
    assert found["sure"]["all"] == {"samples": 5, "known": 4, "precision": 0.5}
    assert found["confirmed"]["all"] == {"samples": 3, "known": 2, "precision": 1.0}
    assert found["kept"][NAMES[0]] == {"samples": 2, "known": 1, "precision": 1.0}
    assert found["kept"][NAMES[1]]["precision"] is None
    assert found["sure"][NAMES[1]]["precision"] == 0.5


def test_the_oracle_keeps_all_labelled_cells_with_their_classes():
    from geopipe.learn.transfer.rounds import Round

    chosen = selection([0, 0, 0], [SampleStatus.UNSURE, SampleStatus.KEPT, SampleStatus.DISAGREE])
    found = Round(chosen, Evidence((0, 0, 0), (), ()), None)
    true = true_labels(found, np.array([3, IGNORE, 1], np.uint8)).selected
    assert true.selected.tolist() == [0, 2]
    assert true.labels[true.selected].tolist() == [3, 1]


# -- cost and page


def test_more_parts_cost_more_and_shared_ones_are_counted_once():
    count, settings = cost.Counts(278, 200, 386, 150), Settings()

    def of(parts, **other):
        return cost.patches(count, settings, parts, **{"first": True, "train": False, **other})

    assert of("A") - of("") == cost.CROP * (278 + 386)
    assert of("AB") - of("B") == 0
    assert of("F") > of("F", first=False) == of("")
    assert of("CF") == of("C") < of("CF", train=True)
    each = [of("A"), of("AB"), of("ABC"), of("ABCD"), of("ABCDE")]
    assert each == sorted(set(each))


def metrics(right):
    matrix = np.full((5, 5), 1) + np.diag([right] * 5)
    matrix[0, 1] += 7  # user's and producer's accuracy differ
    return Metrics(NAMES, matrix)


def maps(right):
    return {kind: metrics(right + i).to_dict() for i, kind in enumerate(KINDS)}


def moved(seed, goes_on):
    chosen = selection([0, 1, 2, 3, 4], [SampleStatus.KEPT] * 5)
    gain = Interval(2.0, -1.0, 4.0)
    reasons = () if goes_on else ("There is little to gain.",)
    return {
        "seed": seed,
        "methods": {m: maps(20 + 10 * i + seed) for i, m in enumerate(METHODS)},
        "samples": chosen.table(NAMES),
        "precision": precision(chosen, np.array([0, 1, 2, 3, 0]), NAMES),
        "evidence": Evidence((9, 9, 9), (), reasons, gain=gain).to_dict(),
        "goes_on": goes_on,
        "true_gain": 1.25,
    }


def oa(right):
    return metrics(right).overall_accuracy


def test_the_page_says_what_was_found(tmp_path):
    choices = moved(0, goes_on=True)
    sizes = [{"source": maps(60 + s), "target": maps(30)} for s in (0, 1)]
    tables = {
        "command": "c",
        "machine": "m",
        "software": "s",
        "seeds": [0, 1],
        "settings": {"steps": 5},
        "sensor": vars(Sensor()),
        "figures": {"a.png": "bars"},
        "parts": {
            "A": sizes,
            "B": [moved(0, goes_on=True), moved(1, goes_on=False)],
            "F": {
                "threshold-0.5": {k: choices[k] for k in ("samples", "precision")},
                "neighbours-5": {**choices, "maps": maps(25)},
            },
        },
    }
    write_page(tmp_path / "page.md", json.loads(json.dumps(tables)))
    lines = (tmp_path / "page.md").read_text().splitlines()

    def row(start, nth=0):
        return [line for line in lines if line.startswith(f"| {start} |")][nth]

    at, all_at = list(KINDS).index(SEGMENTS), list(KINDS).index(ALL)
    assert percent([oa(60 + at), oa(61 + at)]) in row("all sizes + segments")
    assert "±" in row("all sizes")
    users = [(60 + s + all_at + 1) / (60 + s + all_at + 5 + 7) for s in (0, 1)]
    assert row("all sizes").split(" | ")[4] == percent(users)
    assert "± 0.0" in row("all sizes", 1)  # the same twice on the target
    both = row("pseudo-labels and retrieval")
    assert percent([oa(40 + all_at), oa(41 + all_at)]) in both
    assert f"| {percent([oa(40 + s + all_at) - oa(20 + s + all_at) for s in (0, 1)])} |" in both
    # One seed trained, the other kept the model as it was.
    cautious = row("retrieval, unless it abstains (1 of 2 trained)")
    assert f"| {percent([oa(40 + all_at), oa(21 + all_at)])} |" in cautious
    assert "| trains |" in row("0")
    assert "| abstains |" in row("1")
    assert "| 2.0 (-1.0 to 4.0) | 1.2 |" in row("1")
    assert "| 80.0 | 100.0 |" in row("threshold 0.5")
    assert row("threshold 0.5").endswith("| not trained |")
    assert percent([oa(25 + all_at)]) in row("neighbours 5")
    assert sum(line.startswith("| threshold 0.5") for line in lines) == len(STAGES)
    assert "![bars](a.png)" in lines
    found = groups(tables, lambda part: part)
    assert found["B"][METHODS["none"]] == [oa(20 + all_at), oa(21 + all_at)]


def test_classes_that_were_never_mapped_have_no_figure():
    assert percent([float("nan"), None]) == "n/a"
    assert percent([float("nan"), 0.5]) == "50.0"
    assert percent([0.5, 0.7]) == "60.0 ± 14.1"
