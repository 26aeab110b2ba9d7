import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from odc.geo.geobox import GeoBox
from safetensors import safe_open
from safetensors.torch import save_file

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.classes import load_scheme
from geopipe.errors import CheckpointError, OutputError
from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel, UNet
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEME = load_scheme("buildings-roads")


def model(postprocessor=None, bands=3, **fields):
    torch.manual_seed(0)
    net = SegmentationModel(
        MnihCNN(bands, 3), postprocessor and RefinementRNN(bands, 3, **postprocessor)
    )
    fields = {
        "mean": tuple(np.linspace(0.1, 300, bands).tolist()),
        "std": (1 / 3,) * bands,
        "dtype": "uint16",
        "gsd": 0.8,
        **fields,
    }
    return Checkpoint(net, SCHEME, **fields)


def image_for(net, bands):
    side = 8 + 2 * net.halo
    return torch.randn(1, bands, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("postprocessor", "bands"),
    [
        (None, 3),
        (None, 8),
        ({"iterations": 5}, 3),
        ({"iterations": 2, "class_agnostic": True}, 4),
        ({"iterations": 3, "recurrent": False}, 1),
    ],
)
def test_what_is_loaded_is_what_was_saved(tmp_path, postprocessor, bands):
    saved = model(
        postprocessor, bands, provenance={"base": {"steps": 3, "lr": 0.01}, "credit": "me"}
    )
    path = tmp_path / "deeper" / "a.model"
    saved.save(path)
    loaded = Checkpoint.load(path)
    image = image_for(saved.net, bands)
    with torch.inference_mode():
        assert torch.equal(loaded.net(image), saved.net(image))
    for name in ("scheme", "mean", "std", "dtype", "gsd", "provenance", "bands"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert (loaded.net.halo, loaded.net.iterations) == (saved.net.halo, saved.net.iterations)
    assert not loaded.net.training
    assert not any(p.requires_grad for p in loaded.net.parameters())
    assert [p.name for p in path.parent.iterdir()] == ["a.model"]


def test_saving_again_writes_the_same_bytes(tmp_path):
    model({"iterations": 2}).save(tmp_path / "a")
    Checkpoint.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b")
    model({"iterations": 3}).save(tmp_path / "b")
    assert file_hash(tmp_path / "a") != file_hash(tmp_path / "b")


def test_the_file_is_safetensors_and_says_what_it_is(tmp_path):
    path = tmp_path / "a.model"
    model({"iterations": 2}).save(path)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(path.read_bytes())
    with safe_open(path, "np") as file:
        header = json.loads(file.metadata()["geopipe"])
        assert "base.conv1.weight" in file.keys()  # noqa: SIM118
    assert (header["gsd"], header["halo"], header["stride"]) == (0.8, 36, 4)
    assert [c["name"] for c in header["scheme"]["classes"]] == list(SCHEME.names)


def test_whoever_may_read_other_files_may_read_models(tmp_path):
    model({"iterations": 2}).save(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


# What is no model


def rewritten(path, change=lambda header: header, drop=(), **tensors):
    """A saved model with its header or its tensors changed."""
    model({"iterations": 2}).save(path)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["geopipe"])
        state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    state = {k: v for k, v in (state | tensors).items() if k not in drop}
    save_file(state, path, {"geopipe": json.dumps(change(header))})
    return path


def without(key):
    return lambda header: {k: v for k, v in header.items() if k != key}


def test_a_rewritten_model_is_still_one(tmp_path):
    assert Checkpoint.load(rewritten(tmp_path / "m")).bands == 3


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no model .*none\.model"):
        Checkpoint.load(tmp_path / "none.model")
    with pytest.raises(CheckpointError, match="is a folder"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", bytes(range(256)) * 9, pickle.dumps({"w": [1.0]}), b"\xff" * 64],
    ids=["empty", "text", "bytes", "pickle", "ff"],
)
def test_garbage_is_no_model(tmp_path, content):
    path = tmp_path / "garbage.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"garbage\.model is not a geopipe model"):
        Checkpoint.load(path)


def test_a_torch_pickle_is_not_opened(tmp_path):
    path, trap = tmp_path / "m.pt", tmp_path / "trap"

    class Trap:
        def __reduce__(self):
            return trap.touch, ()

    torch.save({"w": Trap()}, path)
    with pytest.raises(CheckpointError, match="is not a geopipe model"):
        Checkpoint.load(path)
    assert not trap.exists()


def test_a_truncated_model(tmp_path):
    path = tmp_path / "half.model"
    model().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is not a geopipe model"):
        Checkpoint.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"geopipe": "no JSON"}])
def test_other_safetensors(tmp_path, metadata):
    save_file({"w": torch.zeros(3)}, tmp_path / "other", metadata)
    with pytest.raises(CheckpointError, match="is not a geopipe model"):
        Checkpoint.load(tmp_path / "other")


@pytest.mark.parametrize("number", [1, 99, None])
def test_another_format(tmp_path, number):
    path = rewritten(
        tmp_path / "m", lambda h: {"format": number, "geopipe": "9.1", "unknown": h["bands"]}
    )
    with pytest.raises(CheckpointError, match=rf"format {number}, .*reads 2 .*9\.1"):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"base.conv1.weight": torch.zeros(64, 4, 12, 12)},
        {"base.conv9.weight": torch.zeros(1)},
        {"drop": ("postprocessor.updates.0.m",)},
    ],
    ids=["shape", "extra", "missing"],
)
def test_weights_that_do_not_fit_their_header(tmp_path, change):
    with pytest.raises(
        CheckpointError, match=r"(?s)weights in .* do not fit its header: .*(conv|\.m)"
    ):
        Checkpoint.load(rewritten(tmp_path / "m", **change))


def test_a_header_of_fewer_bands_than_the_weights(tmp_path):
    path = rewritten(tmp_path / "m", lambda h: h | {"bands": 4})
    with pytest.raises(CheckpointError, match="mean: 3 values for 4 bands"):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    "change",
    [
        without("scheme"),
        without("mean"),
        lambda h: h | {"postprocessor": {"steps": 3}},
        lambda h: h | {"scheme": {"name": "x", "classes": []}},
        lambda h: [h],
    ],
    ids=["no scheme", "no mean", "unknown refinement", "empty scheme", "list"],
)
def test_a_damaged_header(tmp_path, change):
    path = rewritten(tmp_path / "m", change)
    with pytest.raises(CheckpointError):
        Checkpoint.load(path)


# Whole or not at all


def test_provenance_that_is_no_json_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        model(provenance={"x": object()}).save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def failing(monkeypatch, error):
    def write(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise error

    monkeypatch.setattr(Path, "write_bytes", write)


def test_a_failed_save_leaves_the_old_model(tmp_path, monkeypatch):
    path = tmp_path / "a"
    model().save(path)
    before = file_hash(path)
    failing(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model({"iterations": 1}).save(path)
    assert file_hash(path) == before


def test_a_failed_save_leaves_no_part(tmp_path, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model().save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*/file/a: .* is in the way"):
        model().save(tmp_path / "file" / "a")


# Fits and values


def scene(bands, dtype):
    return Scene("s.tif", GeoBox.from_bbox((0, 0, 9, 9), "EPSG:3857", shape=(9, 9)), bands, dtype)


def test_another_number_of_bands_is_refused():
    with pytest.raises(CheckpointError, match=r"takes 3 bands, s\.tif gives 4 .*`bands`"):
        model().check_fits(scene((1, 2, 3, 4), "uint16"))


def test_another_dtype_is_a_warning():
    assert model().check_fits(scene((3, 2, 1), "uint16")) == []
    (warning,) = model().check_fits(scene((1, 2, 3), "uint8"))
    assert "uint8" in warning
    assert "uint16" in warning


def test_normalised_pixels_have_mean_0_and_deviation_1():
    image = torch.from_numpy(np.random.default_rng(0).normal(50, 7, (2, 30, 30))).float()
    valid = torch.from_numpy(np.random.default_rng(1).random((30, 30)) < 0.6)
    image[:, ~valid] = 0
    inner = image[:, valid]
    m = model(bands=2, mean=tuple(inner.mean(1).tolist()), std=tuple(inner.std(1).tolist()))
    out = m.normalize(image, valid)
    assert (out[:, ~valid] == 0).all()
    torch.testing.assert_close(out[:, valid].mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, valid].std(1), torch.ones(2))


def test_invalid_pixels_never_make_a_nan():
    image = torch.full((1, 3, 3), torch.nan)
    out = model(bands=1).normalize(image, torch.zeros(3, 3, dtype=torch.bool))
    assert (out == 0).all()


def test_another_net_keeps_the_rest():
    first = model(provenance={"base": {"steps": 3}, "credit": "a"})
    net = SegmentationModel(first.net.base, RefinementRNN(3, 3, iterations=1))
    second = first.with_net(net, {"refinement": {"steps": 4}, "credit": "a; b"})
    assert second.net is net
    assert second.provenance == {
        "base": {"steps": 3},
        "refinement": {"steps": 4},
        "credit": "a; b",
    }
    assert first.provenance == {"base": {"steps": 3}, "credit": "a"}
    assert (second.mean, second.gsd, second.dtype) == (first.mean, first.gsd, first.dtype)


# Other nets


def with_unet(**sizes):
    torch.manual_seed(0)
    net = UNet(3, 3, **sizes)
    net.train()(torch.randn(2, 3, 64, 64))  # statistics of its own
    return replace(model(), net=SegmentationModel(net))


@pytest.mark.parametrize("sizes", [{"base": 2, "depth": 1}, {"base": 5, "depth": 2}])
def test_a_u_net_is_loaded_as_it_was_saved(tmp_path, sizes):
    saved = with_unet(**sizes)
    saved.save(tmp_path / "u.model")
    loaded = Checkpoint.load(tmp_path / "u.model")
    assert loaded.net.base.architecture == {"net": "unet", **sizes}
    image = image_for(saved.net, 3)
    with torch.inference_mode():
        assert torch.equal(loaded.net(image), saved.net.eval()(image))
    assert (loaded.net.halo, loaded.net.stride) == (saved.net.halo, saved.net.stride)
    loaded.save(tmp_path / "again")
    assert file_hash(tmp_path / "again") == file_hash(tmp_path / "u.model")


def test_a_model_of_before_there_was_another_net_is_a_cnn(tmp_path):
    path = rewritten(tmp_path / "m", without("architecture"))
    assert isinstance(Checkpoint.load(path).net.base, MnihCNN)


DAMAGED = {
    "none": (None, "architecture: Input should be an object"),
    "text": ("unet", "architecture: Input should be an object"),
    "unknown": ({"net": "vit"}, "architecture: Input tag 'vit'"),
    "list": ({"net": ["unet"]}, "architecture: Input tag"),
    "nothing wide": ({"net": "unet", "base": 0, "depth": 1}, "unet.base: .* equal to 1 .got 0"),
    "huge": ({"net": "unet", "base": 10**9, "depth": 1}, "unet.base: .* equal to 1024"),
    "deep": ({"net": "unet", "base": 2, "depth": 40}, "unet.depth: .* equal to 10 .got 40"),
    "too wide": ({"net": "unet", "base": 1000, "depth": 9}, "makes no network: a U-Net of base"),
    "half": ({"net": "unet", "base": 2.5, "depth": 1}, "unet.base: .*integer"),
    "words": ({"net": "unet", "base": "2", "depth": 1}, "unet.base: .*integer .got '2'"),
    "yes": ({"net": "unet", "base": True, "depth": 1}, "unet.base: .*integer .got True"),
    "more": ({"net": "unet", "base": 2, "depth": 1, "bands": 3}, "unknown key .*unet.bands"),
    "another width": (
        {"net": "unet", "base": 3, "depth": 1},
        r"do not fit its header: base.down.0.convs.0.weight has the shape \[2, 3, 3, 3\], not \[3",
    ),
    "another depth": ({"net": "unet", "base": 2, "depth": 2}, "do not fit .* is missing"),
    "another net": ({"net": "cnn"}, "do not fit its header: base.conv1.weight is missing"),
}


@pytest.mark.parametrize(("architecture", "said"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_architecture(tmp_path, architecture, said):
    path = tmp_path / "u.model"
    with_unet(base=2, depth=1).save(path)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["geopipe"])
        state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    save_file(state, path, {"geopipe": json.dumps(header | {"architecture": architecture})})
    with pytest.raises(CheckpointError, match=said):
        Checkpoint.load(path)
