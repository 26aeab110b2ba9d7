"""The driver of the papers' tables, on tiny chips, and its paired tests."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from scipy.stats import binomtest

from reproduce.chips import run
from reproduce.chips.paired import compare
from reproduce.chips.rows import Settings, pairs, rows

pytestmark = pytest.mark.usefixtures("one_thread")


def predictions(right):
    return pd.DataFrame(
        {
            "fold": [1] * 10 + [2] * 10,
            "chip": [f"c{i}" for i in range(10)] * 2,
            "class": "x",
            "predicted": ["x" if r else "y" for r in right],
        }
    )


def test_a_paired_test_by_hand():
    a = predictions([1] * 8 + [0] * 2 + [1] * 10)
    b = predictions([0] * 3 + [1] * 6 + [0] + [1] * 9 + [0])
    found = compare("a", a, "b", b.sample(frac=1, random_state=0))
    assert (found.only_a, found.only_b) == ((3, 1), (1, 0))
    assert found.points == pytest.approx((20 + 10) / 2)
    assert found.mcnemar == pytest.approx((binomtest(3, 4).pvalue, 1.0))
    with pytest.raises(ValueError, match="other chips"):
        compare("a", a, "b", b.iloc[1:])


def test_a_fusion_is_compared_with_its_best_part():
    found = pairs(
        {
            "finetune:googlenet": 0.9,
            "finetune:alexnet": 0.95,
            "finetune:vgg16": 0.99,
            "fusion:googlenet.im+alexnet.c5": 0.96,
            "ResNet-18 + AM": 0.9,
            "ResNet-18 + AM of the true class": 1.0,
        }
    )
    assert found == [
        ("fusion:googlenet.im+alexnet.c5", "finetune:alexnet"),
        ("ResNet-18 + AM of the true class", "ResNet-18 + AM"),
    ]


def test_rows_are_those_whose_weights_are_there():
    settings = Settings(weights={"alexnet": "random:0", "resnet18": "random:0"})
    names = [(r.part, r.name) for r in rows(settings, "abcd")]
    assert ("c", "fusion:alexnet.c5+alexnet.c5") in names
    assert not any("googlenet" in name for _, name in names)
    shorter = replace(settings, epochs=8, side=96, batch=16)
    assert rows(shorter, "a") == rows(settings, "a")
    assert {r.training.design.side for r in rows(shorter, "bcd")} == {96}
    assert [r.training.plan.center for r in rows(settings, "d")] == [0, 0, 0.5, 0]


def test_it_runs_resumes_and_writes_its_page(chips, tmp_path, monkeypatch, capsys):
    words = [
        "--parts",
        "a",
        "b",
        "c",
        "--only",
        "alexnet",
        "--weights",
        "alexnet=random:0",
        "--chips",
        chips,
        "--seeds",
        2,
        "--share",
        0.75,
        "--epochs",
        1,
        "--side",
        64,
        "--batch",
        8,
        "--device",
        "cpu",
        "--out",
        tmp_path / "o",
        "--results",
        tmp_path / "r",
    ]
    monkeypatch.setenv("GEOPIPE_DATA", str(tmp_path))
    run.main([str(w) for w in words])
    told = json.loads((tmp_path / "r" / "scenes.json").read_text())
    assert [r["name"] for r in told["rows"]] == [
        "finetune:alexnet",
        "finetune:alexnet",
        "fusion:alexnet.c5+alexnet.c5",
    ]
    assert [(p["a"], p["b"]) for p in told["pairs"]] == [
        ("fusion:alexnet.c5+alexnet.c5", "finetune:alexnet")
    ]
    page = (tmp_path / "r" / "README.md").read_text()
    assert "97.31 (CaffeNet twice" in page
    assert "No weights of" in page

    def never(*_, **__):
        raise AssertionError("run again")

    monkeypatch.setattr(run, "evaluate_chips", never)
    run.main([str(w) for w in words])
    assert json.loads((tmp_path / "r" / "scenes.json").read_text())["rows"] == told["rows"]
