"""The clean split of the Gaofen crops: which crops share pixels, and class mixes."""

import numpy as np
import pytest

from geopipe.errors import LabelError
from reproduce.gid import data
from reproduce.gid.mixes import Accuracy, class_mixes, draw, recalls
from reproduce.gid.overlap import overlap_groups, shared_with_source


def test_windows_of_one_scene_at_any_offset_are_one_group():
    scene = np.random.default_rng(0).integers(0, 255, (3, 80, 90), dtype=np.uint8)
    other = np.random.default_rng(1).integers(0, 255, (3, 48, 48), dtype=np.uint8)
    lake = np.full((3, 48, 48), 90, np.uint8)
    crops = [
        scene[:, :48, :48],
        other,
        scene[:, 29:77, 37:85],  # 19 x 11 px of the first
        lake,
        scene[:, 32:80, 41:89],  # shares with the third alone
        lake.copy(),  # equal water proves nothing
    ]
    groups = overlap_groups(crops)
    assert groups[0] == groups[2] == groups[4]
    assert len(set(groups.tolist())) == 4


def test_halves_part_no_group():
    names = ["a"] * 8 + ["b"] * 8
    groups = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 9, 9])
    for seed in range(5):
        first, second = data.halves(names, seed, groups)
        assert not set(groups[first]) & set(groups[second])
        assert sorted([*first, *second]) == list(range(16))
        assert 5 <= len(first) <= 8


def test_crops_that_share_anything_are_read_from_the_table(tmp_path):
    (tmp_path / "overlap.csv").write_text(
        "class,crop,share_in_source\nlake,3,0.001\nlake,4,0.0\npond,1,1.0\n"
    )
    assert shared_with_source(tmp_path) == {"lake/3", "pond/1"}
    (tmp_path / "overlap.csv").write_text("class,crop\nlake,3\n")
    with pytest.raises(LabelError, match="share_in_source"):
        shared_with_source(tmp_path)


def test_a_mix_draws_whole_crops_by_its_shares():
    ids = np.repeat(np.arange(5), 40).astype(np.uint8)
    crops = np.arange(200) // 2
    mix = np.array([0.5, 0.3, 0.2, 0, 0])
    among = np.arange(200) % 4 < 2
    cells = draw(mix, ids, crops, among, 0)
    assert np.bincount(ids[cells], minlength=5).tolist() == [100, 60, 40, 0, 0]
    assert among[cells].all()


def test_accuracy_of_a_mix_weighs_the_recalls():
    mixes = class_mixes(5, 0)
    assert np.allclose(mixes.sum(1), 1)
    assert len(mixes) == 31
    right = recalls(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1]), 5)
    assert right[:2].tolist() == [1.0, 0.5]
    accuracy = Accuracy.of([np.array([1.0, 0, 0, 0, 0])] * 31, mixes)
    assert accuracy.balanced == pytest.approx(20)
    assert np.allclose(accuracy.mixes, 100 * mixes[1:, 0])
