"""The experiments run whole on a tiny place, and their pages say what was found."""

import json

import pytest
from tiny_place import ROLES, draw_place

from geopipe.learn import BaseNetworkPlan
from geopipe.metrics import Metrics
from reproduce import noisy_labels
from reproduce.maggiori import run as maggiori
from reproduce.maggiori import sensitivity
from reproduce.maggiori.methods import METHODS
from reproduce.maggiori.page import write_page
from reproduce.site import Site

WORKFLOW = (
    ROLES
    + """
[refinement]
steps = 3
batch = 2
precision = "float32"
"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    text = WORKFLOW
    for i, name in enumerate(("train", "enhance", "test")):
        draw_place(folder, name, (300, 300), east=500.0 * i, seed=i)
        text = text.replace(f'"{name}.', f'"../{name}.')
    (folder / "workflows").mkdir()
    (folder / "workflows" / "tiny.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Site.open("tiny", folder / "made")


def test_a_training_is_not_done_twice(site):
    plan = BaseNetworkPlan(steps=2, batch=2, precision="float32")
    model = site.coarse("once", site.labels("train"), plan)
    made = model.stat().st_mtime_ns
    assert site.coarse("once", site.labels("train"), plan).stat().st_mtime_ns == made
    longer = BaseNetworkPlan(steps=3, batch=2, precision="float32")
    assert site.coarse("once", site.labels("train"), longer).stat().st_mtime_ns != made


def test_every_option_for_noisy_labels_has_labels_of_its_own(site):
    paths = {o: noisy_labels.labels_of(site, o) for o in noisy_labels.OPTIONS}
    assert paths["raw"] == paths["robust"]
    assert len(set(paths.values())) == 4


def test_the_methods_give_a_figure_after_each_iteration(site, monkeypatch):
    monkeypatch.setattr(
        "reproduce.maggiori.methods.BaseNetworkPlan",
        lambda seed: BaseNetworkPlan(steps=2, batch=2, seed=seed, precision="float32"),
    )
    runs = {m: [METHODS[m].does(site, 0)] for m in ("cnn", "rnn", "agnostic", "unshared", "beyond")}
    assert [len(runs[m][0].steps) for m in runs] == [1, 6, 6, 6, 16]
    # The refinement starts from the CNN's map, and running on changes nothing of the first five.
    same = [[m.to_dict() for m in runs[n][0].steps[:k]] for n, k in (("cnn", 1), ("rnn", 1))]
    assert same[0] == same[1]
    long, short = ([m.to_dict() for m in runs[n][0].steps[:6]] for n in ("beyond", "rnn"))
    assert long == short
    assert runs["rnn"][0].map.exists()


def test_a_quarter_of_the_tile_is_a_quarter(site):
    area = sensitivity._west(site.scene("enhance").geobox, 0.25)
    inside = area.inside(site.scene("enhance").geobox)
    assert inside.mean() == pytest.approx(0.25, abs=0.01)
    assert inside[:, 0].all()
    assert not inside[:, -1].any()


def test_the_page_holds_our_figures_and_the_papers(tmp_path):
    right = Metrics(("background", "building"), _matrix(90, 10, 5, 95))
    worse = Metrics(("background", "building"), _matrix(80, 20, 25, 75))
    runs = {
        "cnn": [{"test": [worse.to_dict()], "tile": []}] * 2,
        "rnn": [{"test": [worse.to_dict()] * 5 + [right.to_dict()], "tile": [right.to_dict()]}] * 2,
    }
    site = {"methods": runs, "cases": {"tile-0.5": [worse.to_dict(), right.to_dict()]}}
    tables = {
        "command": "c",
        "machine": "m",
        "software": "s",
        "seeds": [0, 1],
        "sites": {"x": site},
    }
    write_page(tmp_path / "page.md", json.loads(json.dumps(tables)))
    text = (tmp_path / "page.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| CNN+RNN |"))
    assert f"{100 * right.mean_iou:.1f} ± 0.0" in row
    assert "98.24, 72.90" in row
    before, after, overall = worse.mean_iou, right.mean_iou, right.overall_accuracy
    figures = " | ".join(f"{100 * x:.1f}" for x in (before, after, overall))
    assert f"| 50 % of the enhancement tile | {figures} |" in text


def _matrix(*counts):
    import numpy as np

    return np.array(counts, np.int64).reshape(2, 2)


def test_a_page_is_written_only_from_what_was_run(site, tmp_path, monkeypatch):
    monkeypatch.setattr(maggiori, "OUT", tmp_path)
    monkeypatch.setattr(maggiori, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(
        "sys.argv",
        ["run", "--sites", "tiny", "--seeds", "0", "--methods", "cnn", "--cases", "--no-page"],
    )
    monkeypatch.setattr(
        "reproduce.maggiori.methods.BaseNetworkPlan",
        lambda seed: BaseNetworkPlan(steps=2, batch=2, seed=seed, precision="float32"),
    )
    maggiori.main()
    assert not (tmp_path / "results").exists()
