"""The nets: as the papers say, and what they look at as others compute it."""

import numpy as np
import pytest
import torch
from torch import nn

from geopipe.errors import ConfigError
from geopipe.nets import SegmentationModel, build_base_network
from geopipe.nets.backbones import backbone, build_backbone
from geopipe.nets.chips import (
    AttentionNet,
    BackboneFeature,
    ChipNet,
    ModelSpec,
    SpatialFeatureTransformer,
    VectorNet,
    attention_map,
    grad_cam,
    linear_cam,
)
from geopipe.nets.local import nonlocal_layers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def frozen(net):
    return net.eval().requires_grad_(False)


# -- recipes


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("finetune:alexnet", ["alexnet.pooled"]),
        ("finetune:alexnet.fc6", ["alexnet.fc6"]),
        ("fusion:googlenet+alexnet", ["googlenet.im", "alexnet.c5"]),
        ("fusion:googlenet.c5+vgg16.fc7", ["googlenet.c5", "vgg16.fc7"]),
        ("ddrl-am", ["resnet18.c5"]),
        ("ddrl-am:efficientnet_lite0", ["efficientnet_lite0.c5"]),
    ],
)
def test_a_word_says_what_a_net_is_made_of(word, parts):
    recipe = ModelSpec.parse(word)
    assert [f"{p.backbone}.{p.feature}" for p in recipe.parts] == parts
    assert ModelSpec.parse(str(recipe)) == recipe


@pytest.mark.parametrize(
    "word",
    [
        "",
        "fusion:alexnet",
        "finetune",
        "finetune:lenet",
        "fusion:alexnet.im+vgg16",
        "ddrl-am:vgg16",
        "finetune:alexnet+vgg16",
        "ddrl-am:resnet18.pooled",
        "svm:alexnet",
        "ddrl-am:googlenet",
    ],
)
def test_other_words_are_refused_with_a_way_out(word):
    with pytest.raises(ConfigError) as told:
        ModelSpec.parse(word)
    assert told.value.hint


# -- fusion


def test_fusion_is_the_concatenation_of_pooled_features():
    parts = (BackboneFeature("googlenet", "im"), BackboneFeature("alexnet", "c5"))
    net = frozen(VectorNet(parts, 3))
    image = torch.randn(2, 3, 64, 64)
    first, second = (b.net for b in net.branches)
    raw = image + torch.tensor(backbone("googlenet").mean)[:, None, None]  # its deviations are 1
    expected = torch.cat([first(image), second(second.normalize(raw))], 1)
    assert net.features(image).shape == (2, 1024 + 256)
    assert torch.allclose(net.features(image), expected, atol=1e-4)


def test_a_fully_connected_layer_lies_between():
    net = frozen(VectorNet((BackboneFeature("alexnet", "c5"),) * 2, 3, hidden=7))
    image = torch.randn(2, 3, 64, 64)
    joined = torch.cat([b.net(image) for b in net.branches], 1)
    assert torch.allclose(net.features(image), net.between[0](joined).relu(), atol=1e-5)
    assert torch.allclose(net(image), net.head(net.features(image)))


def test_pretrained_parts_learn_at_a_lower_rate():
    net = ChipNet(3, 4, model="fusion:alexnet+resnet18", chip=64, step=64, side=64, hidden=8)
    net.parameter_groups()
    old, new = net.rates(1e-4, 1e-3)
    assert (old["lr"], new["lr"]) == (1e-4, 1e-3)
    inside = {id(p) for b in net.backbone.branches for p in b.parameters()}
    assert {id(p) for p in old["params"]} == inside
    assert {id(p) for p in new["params"]} == {id(p) for p in net.parameters()} - inside
    assert len(new["params"]) == 4  # weights and biases of two layers


def test_batch_norm_keeps_its_statistics_where_it_is_pretrained():
    net = ChipNet(3, 4, model="ddrl-am", chip=64, step=64, side=64)
    net.parameter_groups()
    inner = net.backbone
    assert not any(
        m.training for part in (inner.rgb, inner.attention_backbone) for m in part.modules()
    )
    assert all(m.training for m in inner.sft.modules())
    assert not any(p.requires_grad for p in inner.attention_backbone.parameters())
    assert not inner.looker_head.weight.requires_grad
    learnt = {id(p) for g in net.rates(1e-4, 1e-3) for p in g["params"]}
    assert not learnt & {id(p) for p in inner.attention_backbone.parameters()}


# -- DDRL-AM


def test_the_transformer_gives_512_maps_of_7_by_7():
    net = SpatialFeatureTransformer()
    assert net(torch.rand(2, 1, 224, 224)).shape == (2, 512, 7, 7)
    convs = [m for m in net if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0], c.padding[0]) for c in convs] == [
        (64, 7, 2, 3),
        (128, 3, 2, 1),
        (256, 3, 2, 1),
        (512, 3, 2, 1),
    ]
    assert [m.momentum for m in net if isinstance(m, nn.BatchNorm2d)] == [0.1] * 4


@pytest.mark.parametrize(("side", "cells"), [(224, 49), (64, 4), (100, 16)])
def test_streams_are_multiplied_element_by_element(side, cells):
    image, grey = torch.randn(1, 3, side, side), torch.rand(1, 1, side, side)
    net = frozen(AttentionNet(BackboneFeature("resnet18", "c5"), 3, side=side, flat=True))
    product = net.rgb.maps(image) * net.sft(grey)
    assert torch.allclose(net.modulated(image, grey), product.flatten(1))
    assert net.modulated(image, grey).shape == (1, 512 * cells)
    net.flat = False
    assert torch.allclose(net.modulated(image, grey), product.mean((2, 3)))


def test_its_map_is_that_of_the_class_step_1_predicts():
    net = frozen(AttentionNet(BackboneFeature("resnet18", "c5"), 5, side=96))
    image = torch.randn(3, 3, 96, 96)
    best = net.looker_head(net.attention_backbone.net(image)).argmax(1)
    assert torch.equal(net.cam(image), net.cam(image, best))
    other = net.cam(image, (best + 1) % 5)
    assert not torch.allclose(net.cam(image), other)
    assert torch.allclose(
        net.features(image), net.modulated(image, attention_map(net.cam(image), 96))
    )
    assert not torch.allclose(net.features(image), net.features(image, other))


# -- Grad-CAM


class Small(nn.Module):
    """Maps, and a head that is more than linear."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 6, 5, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(8 * 12 * 12, 20), nn.Tanh(), nn.Linear(20, 4)
        )

    def forward(self, x):
        return self.head(self.conv(x))


@pytest.mark.parametrize("choice", ["predicted", "given"])
def test_it_is_what_captum_computes(choice):
    attr = pytest.importorskip("captum.attr")
    net, image = Small().eval(), torch.randn(3, 3, 32, 32)
    classes = net(image).argmax(1) if choice == "predicted" else torch.tensor([3, 0, 1])
    theirs = attr.LayerGradCam(net, net.conv).attribute(
        image, classes, relu_attributions=True, attr_dim_summation=True
    )
    ours = grad_cam(net.conv(image), net.head, None if choice == "predicted" else classes)
    assert torch.allclose(ours, theirs[:, 0].detach(), atol=1e-6)
    assert ours.max() > 1e-5


def test_captum_agrees_on_the_whole_net_too():
    attr = pytest.importorskip("captum.attr")
    net, image = (
        VectorNet((BackboneFeature("resnet18", "c5"),), 4).eval(),
        torch.randn(2, 3, 96, 96),
    )
    classes = torch.tensor([1, 2])
    layer = net.branches[0].net.blocks["layer4"]
    theirs = attr.LayerGradCam(net, layer).attribute(image, classes, relu_attributions=True)
    ours = frozen(net).cam(image, classes)
    assert torch.allclose(ours, theirs[:, 0].detach(), rtol=1e-4, atol=1e-6)


def test_of_a_linear_head_no_gradient_is_needed():
    head, maps = nn.Linear(8, 4), torch.rand(5, 8, 7, 7)
    classes = torch.tensor([0, 1, 2, 3, 0])
    exact = linear_cam(maps, head.weight.detach(), classes)
    assert torch.allclose(exact, grad_cam(maps, lambda x: head(x.mean((2, 3))), classes), atol=1e-7)


@pytest.mark.parametrize("word", ["finetune:resnet18", "fusion:resnet18+alexnet", "ddrl-am"])
def test_the_engine_without_gradients_gets_the_same(word):
    recipe = ModelSpec.parse(word)
    parts = recipe.parts
    net = AttentionNet(parts[0], 3, side=64) if word == "ddrl-am" else VectorNet(parts, 3, 5)
    image = torch.randn(2, 3, 64, 64)
    outside = frozen(net).cam(image)
    with torch.inference_mode():
        assert torch.equal(net.cam(image.clone()), outside)
    assert outside.shape == (2, 2, 2)
    assert all(p.grad is None for p in net.parameters())


def test_a_map_is_a_grey_image():
    cam = torch.tensor([[[0.0, 2.0], [1.0, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
    grey = attention_map(cam, 64)
    assert grey.shape == (2, 1, 64, 64)
    assert (grey.min(), grey.max()) == (0, 1)
    assert grey[0, 0, 0, -1] == 1
    assert not grey[1].any()


# -- the base network


@pytest.fixture(scope="module")
def chip_net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return frozen(ChipNet(3, 4, model="finetune:alexnet", chip=72, step=48, side=64))


def test_cells_have_the_log_probability_of_the_chip_around_them(chip_net):
    net = chip_net
    assert (net.stride, net.receptive_radius) == (48, 48)
    image = torch.randn(1, 3, 48 * 3 + 96, 48 * 2 + 96)
    scores = net(image)
    assert scores.shape == (1, 4, 144, 96)
    for row, col in ((0, 0), (2, 1), (1, 0)):
        top, left = 48 + row * 48 - 12, 48 + col * 48 - 12
        chip = image[..., top : top + 72, left : left + 72]
        shown = nn.functional.interpolate(chip, (64, 64), mode="bilinear", antialias=True)
        alone = net.backbone(shown).log_softmax(1)[0]
        assert torch.allclose(scores[0, :, row * 48 + 5, col * 48 + 40], alone, atol=1e-4)


def test_any_window_gives_the_same_scores(chip_net):
    image = torch.randn(1, 3, 48 * 4 + 96, 48 * 4 + 96)
    whole = chip_net(image)
    part = chip_net(image[..., 48 : 48 * 3 + 96, 96 : 96 + 48 + 96])
    assert torch.allclose(part, whole[..., 48 : 48 * 3, 96 : 96 + 48], atol=1e-5)


@pytest.mark.parametrize("word", ["fusion:alexnet.fc6+efficientnet_lite0", "ddrl-am"])
def test_it_is_built_from_its_header_and_local(word):
    net = ChipNet(3, 4, model=word, chip=64, step=64, side=64, hidden=6)
    made = build_base_network(3, 4, **net.architecture)
    assert made.architecture == net.architecture
    assert made.state_dict().keys() == net.state_dict().keys()
    assert nonlocal_layers(SegmentationModel(net.eval())) == []
    assert net.patchwise


@pytest.mark.parametrize("word", ["fusion:alexnet.pool5+caffenet.fc6", "ddrl-am:mobilenet_v2"])
@pytest.mark.parametrize("side", [64, 77])
def test_nets_take_any_side_that_they_accept(word, side):
    net = frozen(ChipNet(3, 2, model=word, chip=64, step=64, side=side))
    assert net.class_scores(torch.randn(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize(
    "wrong", [{"step": 65}, {"step": 63}, {"step": 0}, {"side": 63}, {"hidden": -1}]
)
def test_impossible_grids_are_refused(wrong):
    with pytest.raises(ValueError):
        ChipNet(3, 4, **{"model": "finetune:alexnet", "chip": 64, "step": 64, "side": 64, **wrong})
    with pytest.raises(ValueError):
        ChipNet(4, 4, model="finetune:alexnet")


def test_branches_start_from_the_weights_they_are_given():
    generator = torch.Generator().manual_seed(3)
    given = build_backbone("alexnet", "c5", generator)
    net = VectorNet((BackboneFeature("alexnet", "c5"),), 3)
    net.branches[0].net.load_state_dict(given.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.allclose(frozen(net).features(image), given.eval()(image), atol=1e-5)
    assert np.isfinite(net(image).numpy()).all()
