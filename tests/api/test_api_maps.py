"""`map_scene` and `evaluate`: the command line's files and figures."""

import json
import pickle

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from tiny_place import fingerprints

import geopipe as gp
from geopipe.cli import main
from geopipe.errors import ConfigError, JobError, SceneError


@pytest.fixture(scope="module")
def result(town, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "map"
    return gp.map_scene(model, town / "test.tif", out, scores=True, polygons=True, device="cpu")


def digests(folder):
    """Of the files whose bytes depend on inputs alone."""
    found = fingerprints(folder)
    kept = (".tif", ".qml", ".aux.xml")
    return {p.rpartition("/")[2]: d for p, (_, d) in found.items() if p.endswith(kept)}


def test_the_map_is_the_command_lines(town, model_path, result, tmp_path):
    words = [
        "map",
        town / "test.tif",
        model_path,
        "-o",
        tmp_path / "map",
        "--scores",
        "--vectors",
        "--device",
        "cpu",
        "--json",
    ]
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert digests(result.folder) == digests(tmp_path / "map")
    assert len(digests(result.folder)) >= 4
    assert result.areas == json.loads(done.stdout)["areas_m2"]
    assert result.confidence is None
    for path in (result.classes, result.scores, result.polygons, result.report):
        assert path.is_file()


def test_its_rasters_open_as_arrays(result):
    classes, scores = result.to_xarray(), result.to_xarray("scores", chunk=64)
    assert classes.dims == ("y", "x")
    assert classes.chunks is not None
    with rasterio.open(result.classes) as src:
        np.testing.assert_array_equal(classes, src.read(1))
    assert scores.attrs["long_name"] == ("background", "building", "road")
    assert classes.attrs["flag_meanings"] == "background building road"
    with pytest.raises(ConfigError, match=r"has no confidence .*confidence=True"):
        result.to_xarray("confidence")


def test_a_dask_client_computes_the_same_map(town, model, result, tmp_path):
    from distributed import Client

    with Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as client:
        there = gp.map_scene(model, town / "test.tif", tmp_path / "map", client=client, scores=True)
        assert client.status == "running"  # it stays its owner's
    assert digests(there.folder) == digests(result.folder)
    with pytest.raises(JobError, match="the dask client is closed"):
        gp.map_scene(model, town / "test.tif", tmp_path / "again", client=client)
    with pytest.raises(ConfigError, match=r"client='tcp://.*' is no dask client"):
        gp.map_scene(model, town / "test.tif", tmp_path / "again", client="tcp://here:1")


def test_a_map_that_is_there_is_kept(town, model, result):
    with pytest.raises(SceneError, match=r"exists already .*set `overwrite`"):
        gp.map_scene(model, town / "test.tif", result.folder)
    with pytest.raises(ConfigError, match="polygons=True"):
        gp.map_scene(model, town / "test.tif", result.folder, orthogonalize=True)


def test_evaluate_gives_the_command_lines_figures(town, result, tmp_path):
    truth = town / "test.gpkg"
    found = gp.evaluate(result, truth, classes="buildings-roads")
    words = ["evaluate", result.classes, truth, "--classes", "buildings-roads", "--json"]
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert found.to_dict() == json.loads(done.stdout)
    same = gp.evaluate(result.classes, gp.open_labels(truth), classes="buildings-roads")
    np.testing.assert_array_equal(same.matrix, found.matrix)
    assert f"{100 * found.mean_iou:.2f} %" in repr(found)
    assert "<table>" in found._repr_html_()


def test_results_say_what_a_person_wants_to_know(result, model, model_path):
    for part in ("classes.tif", "area of building", " ha (", "features.gpkg"):
        assert part in repr(result)
        assert part in result._repr_html_()
    for part in ("0 background, 1 building, 2 road", "3 bands (uint8) at 1 m", str(model_path)):
        assert part in repr(model)
        assert part in model._repr_html_()
    assert pickle.loads(pickle.dumps(model)).sha256 == model.sha256


def test_html_is_escaped(result, tmp_path):
    odd = gp.MapResult(tmp_path / "<script>", {"a<b": 1.0}, 1.0, ("tile",))
    assert "<script>" not in odd._repr_html_()
    assert "a&lt;b" in odd._repr_html_()
    assert "1 tiles, nodata" in repr(odd)


def test_a_model_is_saved_elsewhere(model, tmp_path):
    again = model.save(tmp_path / "new" / "copy.safetensors")
    assert (again.sha256, again.path.name) == (model.sha256, "copy.safetensors")
