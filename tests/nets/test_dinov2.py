"""DINOv2 by its definition, under all of its published keys, and joined to another backbone."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from geopipe.checkpoint.weights import load_backbone, weights_hash
from geopipe.errors import CheckpointError, ConfigError
from geopipe.nets.backbones import backbone, build_backbone, filled_backbone
from geopipe.nets.backbones.build import empty_backbone

pytestmark = pytest.mark.usefixtures("one_thread")
NAME = "dinov2_vits14"


@pytest.fixture(scope="module")
def net():
    return build_backbone(NAME, generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def hub(net):
    """The weights as torch hub has them."""
    _, published = empty_backbone(NAME)
    state = net.state_dict()
    return {key: state[own] for key, own in published.items()} | {"mask_token": torch.zeros(1, 384)}


def hugging_face(hub):
    """The same under the keys of transformers' Dinov2Model, with query, key and value apart."""
    raw = {}
    for key, value in hub.items():
        match key.split("."):
            case ["blocks", number, "attn", "qkv", kind]:
                for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    raw[f"encoder.layer.{number}.attention.attention.{name}.{kind}"] = part
            case ["blocks", number, "attn", "proj", kind]:
                raw[f"encoder.layer.{number}.attention.output.dense.{kind}"] = value
            case ["blocks", number, ("ls1" | "ls2") as scale, "gamma"]:
                raw[f"encoder.layer.{number}.layer_scale{scale[-1]}.lambda1"] = value
            case ["blocks", number, *rest]:
                raw[f"encoder.layer.{number}.{'.'.join(rest)}"] = value
            case ["patch_embed", "proj", kind]:
                raw[f"embeddings.patch_embeddings.projection.{kind}"] = value
            case ["norm", kind]:
                raw[f"layernorm.{kind}"] = value
            case ["pos_embed"]:
                raw["embeddings.position_embeddings"] = value
            case _:
                raw[f"embeddings.{key}"] = value
    return raw


def by_hand(hub, image, blocks):
    """Mean of the patch tokens behind block `blocks` - 1, by the formulas of the papers."""
    x = F.conv2d(image, hub["patch_embed.proj.weight"], hub["patch_embed.proj.bias"], stride=14)
    n, _, rows, cols = x.shape
    place = hub["pos_embed"][0, 1:].T.reshape(1, 384, 37, 37)
    place = F.interpolate(place, (rows, cols), mode="bicubic")
    x = (x + place).reshape(n, 384, -1).transpose(1, 2)
    x = torch.cat([(hub["cls_token"] + hub["pos_embed"][:, :1]).repeat(n, 1, 1), x], 1)
    for k in range(blocks):
        w = {key.removeprefix(f"blocks.{k}."): v for key, v in hub.items() if f"blocks.{k}." in key}
        y = F.layer_norm(x, (384,), w["norm1.weight"], w["norm1.bias"], 1e-6)
        q, key, v = (y @ w["attn.qkv.weight"].T + w["attn.qkv.bias"]).chunk(3, 2)
        heads = []
        for h in range(6):
            part = slice(64 * h, 64 * h + 64)
            share = (q[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(64)).softmax(2)
            heads.append(share @ v[..., part])
        y = torch.cat(heads, 2) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
        x = x + w["ls1.gamma"] * y
        y = F.layer_norm(x, (384,), w["norm2.weight"], w["norm2.bias"], 1e-6)
        y = F.gelu(y @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"])
        x = x + w["ls2.gamma"] * (y @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"])
    return x[:, 1:].mean(1)


def image(px=56, n=2):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(1))


def test_features_are_the_papers_formulas(net, hub):
    with torch.no_grad():
        for blocks in (1, 3):
            expected = by_hand(hub, image(), blocks)
            assert torch.allclose(net.feature(image(), f"block{blocks - 1}"), expected, atol=1e-5)
        pooled, c5 = net(image()), net.feature(image(), "c5")
        blocks = [net.feature(image(), f"block{i}") for i in (5, 6, 7)]
    assert torch.equal(pooled, torch.cat(blocks, 1))
    assert c5.shape == (2, 1152, 4, 4)


def test_a_border_is_never_cut_off(net):
    """128 px are no multiple of 14: the last two columns still count."""
    changed = image(128)
    changed[..., -2:] += 1
    with torch.no_grad():
        assert not torch.allclose(net(image(128)), net(changed), atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "dinov2.", "module.backbone."])
@pytest.mark.parametrize("layout", [dict, hugging_face])
def test_published_keys_give_one_net(net, hub, layout, prefix):
    raw = {prefix + k: v for k, v in layout(hub).items()}
    assert weights_hash(filled_backbone(NAME, raw, "file")) == weights_hash(net)


def test_files_are_read(net, hub, tmp_path):
    torch.save(hub, tmp_path / "hub.pth")
    assert weights_hash(load_backbone(NAME, tmp_path / "hub.pth")) == weights_hash(net)
    short = load_backbone(NAME, tmp_path / "hub.pth", "pooled")
    assert "block8" not in short.features


def test_of_a_network_tuned_for_another_task_the_top_is_left_out(net, hub, tmp_path):
    """Exported to ONNX, linear layers lie turned around under numbers, positions in two parts."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    nodes, items = [], []

    def constant(name, value, node, op):
        items.append(numpy_helper.from_array(value.contiguous().numpy(), name))
        nodes.append(helper.make_node(op, ["x", name], [f"y{len(nodes)}"], name=node))

    raw = hugging_face(hub) | {"decoder.bn1.weight": torch.zeros(4)}
    positions = raw.pop("embeddings.position_embeddings")
    constant("onnx::Concat_1", positions[:, :1], "/backbone/embeddings/Concat_6", "Concat")
    constant("onnx::Reshape_2", positions[:, 1:], "/backbone/embeddings/Reshape_1", "Reshape")
    for key, value in raw.items():
        if value.ndim == 2 and key.startswith("encoder"):
            path = key.removesuffix(".weight").replace(".", "/").replace("layer/", "layer.")
            constant(f"onnx::MatMul_{len(items)}", value.T, f"/backbone/{path}/MatMul", "MatMul")
        else:
            name = key if key.startswith("decoder") else f"backbone.{key}"
            items.append(numpy_helper.from_array(value.contiguous().numpy(), name))
    graph = helper.make_graph(nodes, "g", [], [], items)
    onnx.save(helper.make_model(graph), tmp_path / "tuned.onnx")
    read = load_backbone(NAME, tmp_path / "tuned.onnx")
    assert "block8" in read.features
    assert "block9" not in read.features
    with torch.no_grad():
        assert torch.equal(read(image()), net(image()))


def test_other_and_spoilt_weights_are_refused(hub, tmp_path):
    base = {k: v.repeat(*[1] * (v.ndim - 1), 2) if v.ndim else v for k, v in hub.items()}
    with pytest.raises(CheckpointError, match="has shape"):
        filled_backbone(NAME, base, "vitb14.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected keys.*register_tokens"):
        filled_backbone(NAME, hub | {"register_tokens": torch.zeros(1, 4, 384)}, "reg.pth")
    spoilt = hub["blocks.3.mlp.fc1.weight"].clone()
    spoilt[5, 7] = torch.nan
    with pytest.raises(CheckpointError, match=r"blocks\.3\.mlp\.fc1\.weight holds .* no numbers"):
        filled_backbone(NAME, hub | {"blocks.3.mlp.fc1.weight": spoilt}, "file")
    lacking = {k: v for k, v in hub.items() if not k.startswith("blocks.2.")}
    with pytest.raises(CheckpointError, match="lacks 14 of"):
        filled_backbone(NAME, lacking, "file")
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 99)
    with pytest.raises(CheckpointError, match=r"broken\.onnx"):
        load_backbone(NAME, tmp_path / "broken.onnx")


def test_a_concatenation_is_its_nets_side_by_side():
    """Each sees the image as its own normalisation has it."""
    name = f"efficientnet_lite0+{NAME}"
    both = load_backbone(name, "random:4")
    lite, dino = (load_backbone(n, "random:4", "pooled") for n in name.split("+"))
    rgb = 255 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        joined = both(both.normalize(rgb))
        apart = torch.cat([lite(lite.normalize(rgb)), dino(dino.normalize(rgb))], 1)
    assert joined.shape == (2, both.width()) == (2, 1280 + 1152)
    torch.testing.assert_close(joined, apart, atol=1e-3, rtol=1e-3)
    assert both.features == ("pooled",)
    assert len(both.parts()) == len(lite.parts()) + len(dino.parts())


@pytest.mark.parametrize("name", ["resnet18+no-such", "resnet18+resnet18", "+", ""])
def test_names_that_join_nothing_are_refused(name):
    with pytest.raises(ConfigError):
        backbone(name)


def test_a_concatenation_wants_weights_for_each_of_its_nets():
    with pytest.raises(CheckpointError, match="for 2 backbones"):
        load_backbone(f"efficientnet_lite0+{NAME}", "weights.pth")
