"""Windows in which to draw: their uncertainty, their order, and training on what was drawn."""

import json
import shutil
import sqlite3
from contextlib import closing

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
import torch
from click.testing import CliRunner
from tiny_place import draw_place, lively

from geopipe.checkpoint import Checkpoint
from geopipe.classes import load_scheme
from geopipe.cli.main import main
from geopipe.errors import ConfigError, LabelError, OutputError, SceneError
from geopipe.grid import Window
from geopipe.labels.area import Area
from geopipe.labels.drawn import drawn_windows, is_drawing_file
from geopipe.labels.openvector import read_dataframe
from geopipe.mapping import Budget, Engine
from geopipe.mapping.out_of_domain import LAYER
from geopipe.mapping.tile import score_window
from geopipe.mapping.uncertainty import uncertainty_of, window_uncertainties
from geopipe.mapping.where_to_draw import DrawingPlan, ask_where_to_draw
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.sources import label_source

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, make_model):
    """A map of a scene of 120 x 200 m at 0.5 m; its folder has scene and model too."""
    home = tmp_path_factory.mktemp("mapped")
    scene, _ = draw_place(home, "scene", (240, 400))
    model = home / "model.safetensors"
    lively(make_model(seed=3)).save(model)
    write_bundle(
        Scene.open(scene), model, home / "map", MapOptions(Engine("cpu", budget=Budget(256)))
    )
    return home


@pytest.fixture
def windows(mapped, tmp_path):
    out = tmp_path / "draw.gpkg"
    return out, ask_where_to_draw(mapped / "map", out, DrawingPlan(6, 40), device="cpu")


def test_doubt_is_that_of_the_mean_over_flips(mapped):
    """The network alone on a whole scene that was flipped beforehand, by its own pixels."""
    scene, model = Scene.open(mapped / "scene.tif"), Checkpoint.load(mapped / "model.safetensors")
    window = Window(100, 100, 128, 128)
    uncertainty, valid = uncertainty_of(scene, model, window)
    best = torch.softmax(score_window(model, scene, window)[0], 0).amax(0).numpy()
    assert valid.all()
    assert uncertainty.min() >= 0
    assert uncertainty.max() <= 1 - 1 / 3 + 1e-6
    # The mean of four never is surer than the surest of them; alike they are correlated.
    assert np.corrcoef(uncertainty.ravel(), 1 - best.ravel())[0, 1] > 0.3


def test_windows_add_up_to_the_scene_whatever_the_blocks(mapped, monkeypatch):
    scene, model = Scene.open(mapped / "scene.tif"), Checkpoint.load(mapped / "model.safetensors")
    large = list(window_uncertainties(scene, model, 40))
    monkeypatch.setattr("geopipe.mapping.uncertainty._NET_PX", 40)
    small = list(window_uncertainties(scene, model, 40))
    assert {d.window for d in large} == {d.window for d in small}
    assert {d.window.shape for d in large} == {(80, 80)}
    by_window = {d.window: d for d in small}
    for a in large:
        b = by_window[a.window]
        assert a.share == pytest.approx(b.share, rel=0.02)
        assert a.area_m2 <= a.share * 40 * 40 * 1.01
    with pytest.raises(ConfigError, match="windows of 2 m are 4 pixels"):
        next(window_uncertainties(scene, model, 2))
    monkeypatch.setattr("geopipe.mapping.uncertainty._MOST_NET_PX", 40)
    with pytest.raises(ConfigError, match="5000 m are too large"):
        next(window_uncertainties(scene, model, 5000))


def test_the_windows_are_ranked_and_first_apart(windows):
    out, result = windows
    table = read_dataframe(out, layer="windows")
    assert result.total == 3 * 5
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert not table["drawn"].any()
    np.testing.assert_allclose(table.geometry.area, 1600, rtol=1e-6)
    assert table.crs.to_epsg() == 2154
    apart = [a for i, a in enumerate(table.geometry) if not any(
        a.intersects(b) for b in table.geometry[:i])]  # fmt: skip
    assert len(apart) >= 2  # of 3 x 5 windows no more may fit
    gains = table["gain_m2"].tolist()
    assert gains[0] == max(gains)
    assert len(read_dataframe(out, layer="outlines")) == 0


def test_what_is_unlike_the_training_images_weighs_more(mapped, tmp_path):
    plain = ask_where_to_draw(mapped / "map", tmp_path / "a.gpkg", DrawingPlan(15, 40))
    last = plain.windows[-1]
    shutil.copytree(mapped, tmp_path / "home")
    cells = gpd.GeoDataFrame({"score": [9.0]}, geometry=[last.shape], crs="EPSG:2154")
    cells.to_file(tmp_path / "home" / "map" / "out_of_domain.gpkg", layer=LAYER)
    moved = ask_where_to_draw(tmp_path / "home" / "map", tmp_path / "b.gpkg", DrawingPlan(15, 40))
    found = next(w for w in moved.windows if w.shape.equals(last.shape))
    assert found.out_of_domain == pytest.approx(1)
    assert found.gain_m2 == pytest.approx(3 * last.gain_m2)


def draw(path, shapes, ranks):
    """What an analyst does in QGIS."""
    frame = gpd.GeoDataFrame({"class": ["building"] * len(shapes)}, geometry=shapes, crs=2154)
    pyogrio.write_dataframe(frame, path, layer="outlines", append=True)
    with closing(sqlite3.connect(path)) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.executemany("UPDATE windows SET drawn = 1 WHERE rank = ?", [(r,) for r in ranks])


def test_labels_are_the_outlines_inside_the_drawn_windows(mapped, windows):
    out, result = windows
    assert is_drawing_file(out)
    first, second = (w.shape for w in result.windows[:2])
    draw(out, [shapely.box(*first.centroid.buffer(5).bounds), second.buffer(-10)], [1])
    scene = Scene.open(mapped / "scene.tif")
    settings = LabelledScene(scene=str(scene.path), labels=out)
    ids = label_source(settings, load_scheme("buildings"), scene).read(scene.geobox)
    assert (ids != 255).sum() == 80 * 80
    assert (ids == 1).sum() == 20 * 20
    assert Area.open(out, scene.geobox).inside(scene.geobox).sum() == 80 * 80


def test_a_second_file_leaves_out_what_was_drawn(mapped, windows, tmp_path):
    out, result = windows
    draw(out, [result.windows[0].shape.buffer(-5)], [1])
    again = ask_where_to_draw(mapped / "map", tmp_path / "b.gpkg", DrawingPlan(6, 40), drawn=[out])
    assert not any(w.shape.equals(result.windows[0].shape) for w in again.windows)
    assert any(w.shape.equals(result.windows[1].shape) for w in again.windows)


def test_with_everything_drawn_nothing_is_asked(mapped, tmp_path):
    all_of_it = ask_where_to_draw(mapped / "map", tmp_path / "a.gpkg", DrawingPlan(1, 5000))
    assert all_of_it.total == 1
    draw(tmp_path / "a.gpkg", [all_of_it.windows[0].shape], [1])
    with pytest.raises(SceneError, match="no valid window of 40 m left"):
        ask_where_to_draw(
            mapped / "map", tmp_path / "b.gpkg", DrawingPlan(2, 40), drawn=[tmp_path / "a.gpkg"]
        )


def test_what_was_drawn_is_not_overwritten(mapped, windows):
    out, result = windows
    draw(out, [result.windows[0].shape], [])
    with pytest.raises(OutputError, match="exists already, with 1 outlines"):
        ask_where_to_draw(mapped / "map", out, overwrite=True)
    with pytest.raises(LabelError, match=r"none of the 6 windows of .* is marked as drawn") as e:
        drawn_windows(out)
    assert "set its field 'drawn' to true" in e.value.hint


def test_bad_inputs_are_one_error(mapped, tmp_path):
    with pytest.raises(SceneError, match="holds no map"):
        ask_where_to_draw(tmp_path, tmp_path / "x.gpkg")
    with pytest.raises(ConfigError, match="no file of windows"):
        ask_where_to_draw(mapped / "map", tmp_path / "x.gpkg", drawn=[mapped / "scene.gpkg"])
    with pytest.raises(OutputError, match="would be a GeoPackage"):
        ask_where_to_draw(mapped / "map", tmp_path / "x.shp")
    assert not list(tmp_path.iterdir())


def test_the_command_says_how_much_may_be_wrong(mapped, tmp_path):
    words = ["ask", mapped / "map", "-o", tmp_path / "d.gpkg", "--windows", 3, "--metres", 40]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.stderr
    assert "3 of 15 windows of 40 m, in which about" in done.stdout
    done = CliRunner().invoke(main, [*map(str, words), "--json", "--overwrite"])
    assert len(json.loads(done.stdout)["windows"]) == 3


def test_training_takes_what_was_drawn_without_other_labels(mapped, tmp_path, monkeypatch):
    """The command gives the training the drawn file as accurate labels of the whole scene."""
    given = {}

    def train_model(train, out, settings, **roles):
        given.update(train=train, settings=settings, **roles)
        return Checkpoint.load(mapped / "model.safetensors")

    monkeypatch.setattr("geopipe.workflow.train.train_model", train_model)
    scene, drawn = str(mapped / "scene.tif"), str(tmp_path / "d.gpkg")
    words = ["train", scene, "-o", str(tmp_path / "n.safetensors"), "--steps", "0", "--from"]
    words.append(str(mapped / "model.safetensors"))
    done = CliRunner().invoke(main, [*words, "--tile", scene, "--truth", drawn])
    assert done.exit_code == 0, done.stderr
    assert str(given["accurate"].labels) == str(given["train"].labels) == drawn
    assert given["train"].align is False
    assert given["settings"].steps == 0
    assert given["settings"].classes == "buildings-roads", "geopipe has not the model's by name"
    for more, classes in ([], "buildings"), (["--classes", "buildings-roads"], "buildings-roads"):
        starter = [*words[:-1], "starter", "--tile", scene, "--truth", drawn, *more]
        assert CliRunner().invoke(main, starter).exit_code == 0
        assert given["settings"].classes == classes
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
