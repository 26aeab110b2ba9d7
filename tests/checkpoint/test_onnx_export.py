"""ONNX files: the same probabilities in ONNX Runtime, in tiles as Deepness cuts and joins them."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F  # noqa: N812

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.onnx_export import OPSETS, TOLERANCE, export_onnx, tile_sizes
from geopipe.cli import main
from geopipe.errors import CheckpointError
from geopipe.nets import SegmentationModel, build_base_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_model):
    """``models(name)``: the file of a CNN, of one with its RNN, or of a lite U-Net."""
    folder = tmp_path_factory.mktemp("models")
    small = {"mean": (80.0, 90.0, 100.0), "std": (30.0, 40.0, 50.0), "gsd": 0.5}

    def make(name):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            model = make_model(iterations=2 if name == "cnn-rnn" else 0, **small)
            if name == "lite-unet":
                torch.manual_seed(0)
                net = SegmentationModel(build_base_network(3, 3, name)).eval()
                model = model.with_net(net, {})
            model.save(path)
        return path

    return make


def deepness_tiles(session, image, tile_px, overlap_px, metadata):
    """(classes, h, w): neighbouring tiles, standardized and joined as the plugin does it."""
    mean, std = (
        np.array(json.loads(metadata[f"standardization_{k}"]))[:, None, None]
        for k in ("mean", "std")
    )
    stride, half = tile_px - overlap_px, overlap_px // 2
    count = (image.shape[2] - tile_px) // stride + 1
    joined = np.zeros((3, *image.shape[1:]), np.float32)
    for i in range(count):
        tile = image[:, :, i * stride : i * stride + tile_px]
        tensor = np.float32((np.float32(tile / 255.0) - mean) / std)[None]
        (scores,) = session.run(None, {session.get_inputs()[0].name: tensor})
        first, last = half if i else 0, tile_px - (half if i < count - 1 else 0)
        joined[:, :, i * stride + first : i * stride + last] = scores[0, :, :, first:last]
    return joined


@pytest.mark.parametrize("name", ["cnn", "cnn-rnn", "lite-unet"])
def test_joined_tiles_are_the_scores_of_the_whole_image(models, tmp_path, name):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = models(name)
    model = Checkpoint.load(path)
    size, percent = min(tile_sizes(model.net))
    made = export_onnx(path, tmp_path / "model.onnx", tile_px=size)
    assert made.max_difference < TOLERANCE
    assert made.overlap_px == 2 * model.net.halo == int(size * percent / 100 * 2) // 2
    session = runtime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, size, size]
    assert session.get_outputs()[0].shape == [1, 3, size, size]
    metadata = session.get_modelmeta().custom_metadata_map
    width = 2 * size - made.overlap_px
    image = np.random.default_rng(0).integers(0, 256, (3, size, width), np.uint8)
    joined = deepness_tiles(session, image, size, made.overlap_px, metadata)
    with torch.inference_mode():
        whole = model.normalize(torch.from_numpy(image).float(), torch.ones(size, width) > 0)
        expected = torch.softmax(model.net(F.pad(whole[None], (model.net.halo,) * 4)), 1)[0]
    assert np.abs(joined - expected.numpy()).max() < TOLERANCE
    assert expected.std() > 0.01  # they are no constants
    values = {key: json.loads(value) for key, value in metadata.items()}
    assert values["model_type"] == "Segmentor"
    assert values["class_names"] == {"0": "background", "1": "building", "2": "road"}
    assert (values["resolution"], values["tiles_overlap"]) == (50, percent)
    assert values["tile_size"] == values["tiles_size"] == size
    assert values["standardization_mean"][0] == pytest.approx(80 / 255)


def test_the_default_tile_is_near_640(models, make_model):
    for model, size in ((Checkpoint.load(models("cnn")), 640), (make_model(iterations=5), 500)):
        sizes = [px for px, _ in tile_sizes(model.net)]
        assert size in sizes
        assert all(px % model.net.stride == 0 for px in sizes)


def test_what_cannot_be_exported_is_told(models, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def run(*more):
        words = ["export", str(models("cnn")), "-o", str(tmp_path / "m.onnx"), *more]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 1
        assert not list(tmp_path.iterdir())
        return result.stderr

    for opset in ("21", "99", "3"):
        assert run("--opset", opset) == (
            f"error: opset {opset} is not supported - give --opset 13 to 20\n"
        )
    assert "give --tile-size 200, 256, 320, 400" in run("--tile-size", "300")
    monkeypatch.setattr("geopipe.checkpoint.onnx_export.find_spec", lambda _: None)
    assert "onnx and onnxruntime is not installed - pip install geopipe[onnx]" in run()


@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_the_first_and_the_last_opset_are_written(models, tmp_path, opset):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    made = export_onnx(models("cnn"), tmp_path / "m.onnx", tile_px=128, opset=opset)
    assert [o.version for o in onnx.load(made.path).opset_import if not o.domain] == [opset]


def test_the_extra_is_not_needed_to_ask_for_help():
    assert CliRunner().invoke(main, ["export", "--help"]).exit_code == 0


def test_a_model_of_patches_is_refused(models, tmp_path, monkeypatch):
    monkeypatch.setattr(SegmentationModel, "patchwise", True)
    with pytest.raises(CheckpointError, match="classifies patches"):
        export_onnx(models("cnn"), tmp_path / "m.onnx")
