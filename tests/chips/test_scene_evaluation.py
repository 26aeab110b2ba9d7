"""`geopipe chips evaluate`: what is told of the folds, and runs that were stopped."""

import json

import numpy as np
import pandas as pd
import pytest
from scene_world import FROZEN, TINY, run

from geopipe.errors import SceneError
from geopipe.learn.chips import cross_validation as evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_evaluation_tells_what_was_right(chips, tmp_path):
    out = tmp_path / "e"
    done = run("evaluate", chips, "-o", out, *FROZEN, "--folds", 4, "--json")
    said = json.loads(done.stdout)
    told = json.loads((out / "evaluation.json").read_text())
    assert sorted(p.name for p in out.iterdir()) == [
        "classes.png",
        "confusion.png",
        "evaluation.json",
        "evaluation.md",
        "predictions.csv",
        "tsne.png",
    ]
    found = pd.read_csv(out / "predictions.csv")
    right = (found["class"] == found["predicted"]).groupby(found["fold"]).mean()
    assert np.allclose(right, told["overall_accuracy"]["folds"])
    assert said["overall_accuracy"] == pytest.approx(right.mean())
    assert told["overall_accuracy"]["deviation"] == pytest.approx(right.std(ddof=1))
    assert sorted(found["chip"]) == sorted(set(found["chip"]))
    assert np.sum(told["matrix"]) == 32
    from sklearn.metrics import confusion_matrix

    assert told["matrix"] == confusion_matrix(found["class"], found["predicted"]).tolist()
    page = (out / "evaluation.md").read_text()
    assert f"{100 * right.mean():.2f} ±" in page
    assert list(tmp_path.iterdir()) == [out]


def test_another_evaluation_leaves_nothing_of_the_one_before(chips, tmp_path):
    out = tmp_path / "e"
    run("evaluate", chips, "-o", out, *FROZEN, "--folds", 2)
    assert (out / "tsne.png").exists()
    run("evaluate", chips, "-o", out, *FROZEN, "--folds", 2, "--no-tsne", "--overwrite")
    assert not (out / "tsne.png").exists()
    (out / "notes.txt").write_text("mine")
    words = ["evaluate", chips, "-o", out, *FROZEN, "--folds", 2, "--overwrite"]
    assert "did not make, such as notes.txt" in run(*words, ok=False).stderr
    assert (out / "notes.txt").read_text() == "mine"


def test_killed_it_goes_on_with_its_fold_and_gives_the_same(chips, tmp_path, monkeypatch):
    words = ["evaluate", chips, *FROZEN, "--share", 0.75, "--repeats", 3, "--no-tsne"]
    run(*words, "-o", tmp_path / "whole")
    judge, done = evaluate.predict, []

    def dying(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return judge(*args)

    monkeypatch.setattr(evaluate, "predict", dying)
    run(*words, "-o", tmp_path / "e", ok=False)
    assert not (tmp_path / "e").exists()
    assert len(list((tmp_path / "e.work").glob("fold-*"))) == 2
    done[:] = [1]
    run(*words, "-o", tmp_path / "e")
    assert len(done) == 2  # only the last split was computed
    for name in ("evaluation.json", "predictions.csv"):
        assert (tmp_path / "e" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "e.work").exists()


def test_an_error_costs_no_fold_that_is_done(chips, tmp_path, monkeypatch, caplog):
    words = ["evaluate", chips, "-o", tmp_path / "e", *FROZEN, "--folds", 2, "--no-tsne"]
    judge, done = evaluate.predict, []

    def failing(*args):
        if done:
            raise SceneError("cannot write", "is the disk full?")
        done.append(1)
        return judge(*args)

    monkeypatch.setattr(evaluate, "predict", failing)
    assert "cannot write" in run(*words, ok=False).stderr
    assert "e.work keeps what is done" in caplog.text
    monkeypatch.setattr(evaluate, "predict", lambda *args: done.append(2) or judge(*args))
    run(*words)
    assert done == [1, 2]  # the first fold was there


def test_with_a_center_loss_features_are_drawn_without_it_too(chips, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(evaluate, "scatter", lambda path, points, *_: drawn.update(points))
    run(
        "evaluate",
        chips,
        "-o",
        tmp_path / "e",
        "--model",
        "finetune:alexnet",
        *TINY,
        "--share",
        0.5,
        "--repeats",
        1,
        "--epochs",
        1,
        "--center-loss",
        0.5,
    )
    assert list(drawn) == ["without center loss", "with center loss"]
    assert drawn["with center loss"].shape == (16, 2)


def test_repeats_are_of_random_splits(chips, tmp_path):
    done = run("evaluate", chips, "-o", tmp_path / "e", *FROZEN, "--repeats", 3, ok=False)
    assert done.exit_code == 2
    assert "--repeats is for --share" in done.stderr
