"""The net of patches: as the paper says, and the same in every window."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from geopipe.checkpoint import Checkpoint
from geopipe.errors import CheckpointError, ConfigError
from geopipe.grid import Tiling, Window
from geopipe.mapping.memory import Budget
from geopipe.mapping.tile import score_window
from geopipe.nets import PatchNet, SegmentationModel
from geopipe.nets.local import nonlocal_layers, require_local
from geopipe.parallel import LOCAL
from geopipe.raster import Scene


def by_hand(model, pixels, row, col):
    """Log of the mean probability of one cell's patches, cut from the mirrored image."""
    net, total = model.net.base, 0
    for size, weight in zip(net.sizes, net.weights, strict=True):
        out = (size - net.stride) // 2
        padded = np.pad(pixels, ((0, 0), (96, 96), (96, 96)), mode="symmetric")
        r, c = 96 + row * net.stride - out, 96 + col * net.stride - out
        patch = torch.from_numpy(padded[:, r : r + size, c : c + size].astype(np.float32))
        patch = model.normalize(patch, torch.ones(patch.shape[1:], dtype=torch.bool))
        patch = F.interpolate(patch[None], (net.side, net.side), mode="bilinear")
        total = total + weight * net.head(net.backbone(patch)).softmax(1)[0]
    return total.log().numpy()


@pytest.fixture(scope="module")
def whole(model, mosaic):
    scene = Scene.open(mosaic[0])
    (scores,) = score_window(model, scene, Window.of_shape(scene.shape))
    return scores.numpy()


@pytest.mark.parametrize(("row", "col"), [(0, 0), (5, 7), (18, 19), (0, 19), (18, 3)])
def test_a_cell_is_the_mean_over_the_sizes_of_its_patches(model, mosaic, whole, row, col):
    pixels = Scene.open(mosaic[0]).read().data
    cell = whole[:, 16 * row : 16 * row + 12, 16 * col : 16 * col + 16]
    assert np.ptp(cell.reshape(5, -1), axis=1).max() < 1e-5
    assert np.allclose(cell[:, 0, 0], by_hand(model, pixels, row, col), atol=2e-4)


def test_any_window_gives_the_same_scores(model, mosaic, whole):
    scene = Scene.open(mosaic[0])
    for tile in Tiling(scene.shape, 256):
        (scores,) = score_window(model, scene, tile.core)
        assert np.allclose(scores.numpy(), whole[(slice(None), *tile.core.slices)], atol=1e-4)
    odd = Window(133, 77, 41, 90)
    (scores,) = score_window(model, scene, odd)
    assert np.allclose(scores.numpy(), whole[(slice(None), *odd.slices)], atol=1e-4)


def test_scores_tell_cells_apart(whole):
    assert whole[:, ::16, ::16].std(axis=(1, 2)).min() > 1e-3


def test_weights_of_sizes_count(model, mosaic):
    scene, window = Scene.open(mosaic[0]), Window(0, 0, 32, 32)
    net = model.net.base
    one = PatchNet(
        3, 5, **{**{k: v for k, v in net.architecture.items() if k != "net"}, "weights": [0, 1]}
    )
    one.load_state_dict(net.state_dict())
    (alone,) = score_window(model.with_net(SegmentationModel(one.eval()), {}), scene, window)
    (both,) = score_window(model, scene, window)
    assert not torch.allclose(alone, both, atol=1e-3)


def test_it_is_saved_and_loaded_whole(model, mosaic, tmp_path):
    model.save(tmp_path / "m.model")
    again = Checkpoint.load(tmp_path / "m.model")
    assert again.net.base.architecture == model.net.base.architecture
    scene, window = Scene.open(mosaic[0]), Window(0, 0, 48, 48)
    (a,), (b,) = (score_window(m, scene, window) for m in (model, again))
    assert torch.equal(a, b)


def test_pooling_of_a_patch_is_local(model):
    assert nonlocal_layers(model.net) == []
    require_local(model.net)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": (16, 31)},
        {"sizes": (8, 32)},
        {"sizes": ()},
        {"cell": 0},
        {"side": 8},
        {"weights": (1,)},
        {"weights": (0, 0)},
        {"weights": (-1, 2)},
    ],
)
def test_impossible_designs_are_refused(wrong):
    good = {"backbone": "efficientnet_lite0", "sizes": (16, 32), "cell": 16, "side": 32}
    with pytest.raises(ValueError):
        PatchNet(3, 5, **{**good, **wrong})


def test_a_damaged_header_is_told(model, tmp_path):
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    model.save(tmp_path / "m.model")
    with safe_open(tmp_path / "m.model", "pt") as file:
        header = json.loads(file.metadata()["geopipe"])
        state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    header["architecture"]["sizes"] = [16, 31]
    save_file(state, tmp_path / "n.model", {"geopipe": json.dumps(header)})
    with pytest.raises(CheckpointError, match=r"n\.model"):
        Checkpoint.load(tmp_path / "n.model")
    header["architecture"] |= {"sizes": [16, 32], "backbone": "no-such-net"}
    save_file(state, tmp_path / "n.model", {"geopipe": json.dumps(header)})
    with pytest.raises((CheckpointError, ConfigError), match="no-such-net"):
        Checkpoint.load(tmp_path / "n.model")


def test_cores_cut_no_cell_where_they_can(model, mosaic):
    scene = Scene.open(mosaic[0])
    assert Budget().fit(scene, model, LOCAL, "cpu").core % (16 * 16) == 0
    assert Budget(core=512).fit(scene, model, LOCAL, "cpu").core == 512
