"""What the image is accepted to show: by classifiers of its own labels, or by a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geopipe.errors import CheckpointError, LabelError
from geopipe.grid import Window
from geopipe.mapping.tile import score_window
from geopipe.register import PixelClassifier
from geopipe.register.label_qc import LabelQC, ModelLikelihood

pytestmark = pytest.mark.usefixtures("one_thread")


class Always:
    """A classifier that always says the same."""

    def __init__(self, class_id):
        self.class_id = class_id

    def predict_proba(self, features):
        return np.eye(3)[np.full(len(features), self.class_id)]


def test_no_half_of_the_checkerboard_judges_itself(checked):
    """The first of the two was fitted off the squares of colour 0, and judges those."""
    look = PixelClassifier(checked.grid, (Always(1), Always(2)), 3)
    likely = look.read(Window(0, 0, 500, 500))
    side = min(round(100 / checked.grid.gsd), min(checked.grid.shape) // 4)
    rows, cols = (np.arange(500) // side for _ in "12")
    colour = (rows[:, None] + cols) % 2
    inside = np.s_[: 2 * side, : 2 * side]
    assert (likely.argmax(0)[inside] == 1 + colour[inside]).mean() > 0.99


def test_it_sees_what_it_never_learnt_from(checked, town):
    """On the truth, which is not what it was fitted to."""
    window = Window(100, 100, 400, 400)
    likely = checked.likelihood.read(window)
    ids = town.truth.read(checked.grid.geobox[100:500, 100:500])
    assert likely.shape == (3, 400, 400)
    assert np.allclose(likely.sum(0), 1, atol=1e-5)
    for k in (1, 2):
        assert likely[k][ids == k].mean() > 3 * likely[k][ids != k].mean()


def test_windows_agree_and_nothing_is_seen_beyond_the_scene(checked):
    look = checked.likelihood
    large = look.read(Window(-60, -60, 300, 300))
    assert not large[:, :58].any()
    assert not large[:, :, :58].any()
    small = look.read(Window(100, 90, 81, 77))
    assert np.abs(small - large[:, 160:241, 150:227]).mean() < 0.01


def test_a_class_that_is_not_there_is_named(town):
    only = town.osm.ids == 1
    labels = replace(town.osm, shapes=town.osm.shapes[only], ids=town.osm.ids[only])
    with pytest.raises(LabelError, match="too few labelled pixels of road to learn") as e:
        _ = LabelQC(town.scene, labels).likelihood
    assert "give a `model`" in e.value.hint
    assert "`classes`" in e.value.hint


# -- a model


@pytest.fixture
def model(make_model):
    return make_model(seed=2)


@pytest.mark.parametrize("window", [(-150, -40, 260, 200), (600, 650, 200, 90), (10, 20, 30, 40)])
def test_a_model_is_asked_part_by_part(checked, town, model, window, monkeypatch):
    monkeypatch.setattr("geopipe.register.label_qc._TILE_PX", 256)
    window = Window(*window)
    found = ModelLikelihood(model, checked.grid).read(window)
    inside = window.clip(town.scene.shape)
    (scores,) = score_window(model, town.scene, inside)
    expected = np.zeros((3, *window.shape), np.float32)
    expected[(slice(None), *inside.within(window))] = torch.softmax(scores, 0).numpy()
    # Lambert-93 stretches by a little: pixels of the plane are the scene's.
    assert np.abs(found - expected).max() < 1e-4


def test_a_model_of_other_classes_is_refused(town, model, tmp_path, make_model):
    make_model(classes=2).save(tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"knows background, building, the labels .*road"):
        _ = LabelQC(town.scene, town.osm, tmp_path / "two.safetensors").likelihood
    make_model(bands=4).save(tmp_path / "four.safetensors")
    with pytest.raises(CheckpointError, match=r"takes 4 bands"):
        _ = LabelQC(town.scene, town.osm, tmp_path / "four.safetensors").likelihood
