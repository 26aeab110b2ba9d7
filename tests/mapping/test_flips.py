"""Probabilities averaged over flips of the image: what they are, and that nothing else shows."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from tiny_place import LEFT, TOP, write_scene

from geopipe.cli import main
from geopipe.errors import ConfigError
from geopipe.grid import Window
from geopipe.mapping import Budget, Engine, map_scene
from geopipe.mapping.tile import FLIPS, score_window
from geopipe.nets import SegmentationModel
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")


def mapped(scene, place, folder, flips, core=256):
    folder.mkdir()
    engine = Engine("cpu", budget=Budget(core), flips=flips)
    return map_scene(scene, place.model_file, folder, engine, with_scores=True)


def read(path):
    with rasterio.open(path) as src:
        return src.read()


def probabilities(place, path):
    scene = Scene.open(path)
    (scores,) = score_window(place.model, scene, Window.of_shape(scene.shape))
    return scores.softmax(0).numpy()


@pytest.mark.parametrize("flips", [2, 4])
def test_they_are_the_means_of_what_the_flipped_scenes_give(place, tmp_path, flips):
    data = np.random.default_rng(5).integers(1, 255, (3, 328, 296)).astype(np.uint8)
    at = Affine(1, 0, LEFT // 8 * 8, 0, -1, TOP // 8 * 8)  # as fine as the network, on its stride
    expected = []
    for i, axes in enumerate(FLIPS[:flips]):
        path = write_scene(tmp_path / f"{i}.tif", np.flip(data, axes), transform=at)
        expected.append(np.flip(probabilities(place, path), axes))
    made = mapped(Scene.open(tmp_path / "0.tif"), place, tmp_path / "map", flips)
    assert np.abs(expected[0] - np.mean(expected, 0)).max() > 0.1
    np.testing.assert_allclose(read(made.scores), 250 * np.mean(expected, 0), atol=0.51)


def test_how_a_scene_is_cut_does_not_show(place, tmp_path):
    small = mapped(place.scene, place, tmp_path / "small", 4)
    large = mapped(place.scene, place, tmp_path / "large", 4, core=768)
    for name in ("classes", "scores"):
        a, b = (getattr(m, name) for m in (small, large))
        np.testing.assert_array_equal(*(read(x[-1] if isinstance(x, tuple) else x) for x in (a, b)))


def test_a_map_says_it_is_verified_so_and_a_map_without_is_another(place, tmp_path):
    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
        return result.exit_code, result.output

    first = tmp_path / "map"
    command = ["map", place.scene.path, place.model_path, "-o", first, "--device", "cpu"]
    assert run(*command, "--flips", 2)[0] == 0
    item = json.loads((first / "item.json").read_text())
    assert item["properties"]["geopipe:computation"]["flips"] == 2
    assert json.loads(item["properties"]["processing:lineage"])["flips"] == "2"
    plain = tmp_path / "plain"
    command[command.index(first)] = plain
    assert run(*command)[0] == 0
    assert (read(plain / "classes.tif") != read(first / "classes.tif")).any()
    for folder in (first, plain):
        code, told = run("verify", folder, "--tiles", 2)
        assert code == 0, told


def test_other_numbers_and_models_of_patches_are_refused(place, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="flips is 3"):
        mapped(place.scene, place, tmp_path / "a", 3)
    monkeypatch.setattr(SegmentationModel, "patchwise", True)
    with pytest.raises(ConfigError, match="patches"):
        mapped(place.scene, place, tmp_path / "b", 2)
