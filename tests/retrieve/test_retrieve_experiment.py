"""The experiments on a folder per class: feedback, scene models, costs, and the page of them."""

import json

import numpy as np
import pytest
from retrieve_world import NAMES, SMALL, draw_chips

from geopipe.retrieve import evaluate_vectors
from geopipe.retrieve.normalization import gaussian
from reproduce.retrieval import page, paper
from reproduce.retrieval.bovw import bags
from reproduce.retrieval.experiment import Images, embed_images
from reproduce.retrieval.query_expansion import expansions, feedback, scene_model

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(0)
CLASSES = [name for name in "abcd" for _ in range(20)]
MIXED = gaussian(RNG.normal(size=(80, 24)) + np.repeat(RNG.normal(size=(4, 24)), 20, 0) * 0.8)
"""Four classes that overlap."""


def test_feedback_helps_and_what_was_shown_does_not_count():
    reply = feedback(MIXED, CLASSES, "gauss")
    assert reply.before < reply.like
    assert reply.before < reply.both
    # Where the shown hits are all there is to find, nothing is left to judge.
    few = feedback(np.repeat(np.eye(3), 15, 0).astype(np.float32), list("abc" * 15), "none")
    assert 0 < few.before <= 1


def test_expansions_are_of_others():
    vectors = np.array([[0.0, 1], [0.1, 1], [5, 1], [5.1, 1]], np.float32)
    moved = expansions(vectors, 1, "none")
    assert moved[:, 0] == pytest.approx([0.05, 0.05, 5.05, 5.05])


def test_a_scene_model_is_asked_about_images_it_has_not_seen():
    before, after = scene_model(MIXED, CLASSES, 1.0)
    assert len(before.metrics.ap) == len(after.metrics.ap) == 40
    assert "40 labels" in after.name
    assert after.width == 4
    assert after.metrics.mean_ap > before.metrics.mean_ap
    noise = np.random.default_rng(1).normal(size=MIXED.shape)
    _, nothing = scene_model(noise, CLASSES, 1.0)  # learnt by heart, it would be 1
    assert nothing.metrics.mean_ap < 0.45


def test_images_are_described_once_and_timed(tmp_path, chips, monkeypatch):
    images = Images(chips, max_per_class=3)
    assert images.classes == [n for n in NAMES for _ in range(3)]
    first = embed_images(images, SMALL, "random:0", tmp_path)
    assert first.vectors.shape == (12, 1280)
    assert first.ms > 0
    monkeypatch.setattr("geopipe.retrieve.EmbeddingModel.embed", None)
    again = embed_images(images, SMALL, "random:0", tmp_path)
    assert (again.vectors == first.vectors).all()
    assert again.ms == first.ms


def test_the_page_sets_the_papers_figures_beside_ours(tmp_path):
    judged = evaluate_vectors(MIXED, CLASSES)
    rows = [page.Row("BoVW", "150 words", 150, judged), page.Row("vgg16", "pool5", 9, judged, 3.0)]
    options = list(scene_model(MIXED, CLASSES, 1.0))
    reply = feedback(MIXED, CLASSES, "gauss")
    page.write(tmp_path, "ucmerced", 80, rows, [("BoVW", judged)], options, reply)
    text = (tmp_path / "ucmerced.md").read_text()
    mine = 100 * judged.mean_ap
    assert f"| {mine:.1f} | 30.2 | {mine - 30.2:+.1f} | {judged.anmrr:.3f} | 0.601 |" in text
    assert f"| {mine:.1f} | 53.6 | {mine - 53.6:+.1f} |" in text
    gain = 100 * (options[1].metrics.mean_ap - options[0].metrics.mean_ap)
    assert f"| {gain:+.1f} |" in text
    assert f"| {100 * reply.both:.1f} |" in text
    told = json.loads((tmp_path / "ucmerced.json").read_text())
    assert told["feedback"]["like"] == pytest.approx(reply.like, abs=1e-5)
    assert told["rows"][0]["classes"]["a"]["map"] == pytest.approx(
        judged.by_class["a"].mean_ap, abs=1e-5
    )
    assert (tmp_path / "ucmerced-pr.svg").read_text().startswith("<svg")
    assert paper.anmrr("whu-rs", "vgg16", "fc6") == 0.291


def test_words_are_those_of_the_images_that_are_asked_for(tmp_path, chips):
    cache = tmp_path / "cache"
    found = bags(Images(chips, max_per_class=3), cache, n_words=5)
    assert found.shape == (12, 5)
    assert (found**2).sum(1) == pytest.approx(1, abs=1e-5)
    assert (bags(Images(chips, max_per_class=3), cache, n_words=5) == found).all()
    bags(Images(draw_chips(tmp_path / "others", each=3)), cache, n_words=5)  # as many, others
    assert len(list(cache.iterdir())) == 2
