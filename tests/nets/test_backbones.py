"""Backbones: every net of the table, its features, and what it is compared with."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch

from geopipe.errors import ConfigError
from geopipe.nets.backbones import BACKBONES, BackboneNet, backbone, build_backbone
from geopipe.nets.backbones import library as library_module
from geopipe.nets.backbones.build import empty_backbone, initialise
from geopipe.nets.backbones.library import torchvision_models

pytestmark = pytest.mark.usefixtures("one_thread")
LIBRARY = ("mobilenet_v2", "alexnet", "vgg16", "vgg19", "resnet18", "resnet50")


def seeded(name, upto="c5", seed=0):
    return build_backbone(name, upto, torch.Generator().manual_seed(seed)).eval()


def image(px, n=1):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", BACKBONES)
def test_features_of_any_size_have_the_promised_width(name):
    net = seeded(name)
    x = image(96, 2)[..., :65]  # no multiple of anything
    with torch.no_grad():
        c5, pooled = net.feature(x, "c5"), net(x)
    assert c5.shape[:2] == (2, net.width("c5"))
    assert pooled.shape == (2, net.width())
    torch.testing.assert_close(pooled, c5.mean((2, 3)))
    assert pooled.isfinite().all()
    assert pooled.std() > 0


@pytest.mark.parametrize(
    ("name", "c5", "pool5"),
    [("alexnet", 13, 6), ("caffenet", 13, 6), ("cnn_m", 13, 6), ("vgg16", 14, 7), ("vgg19", 14, 7)],
)
def test_maps_at_the_usual_size_are_those_of_the_papers(name, c5, pool5):
    """Krizhevsky et al. 2012; Chatfield et al. 2014, table 1; Simonyan and Zisserman 2015."""
    net, _ = empty_backbone(name)
    x = torch.zeros(1, 3, net.spec.px, net.spec.px, device="meta")
    assert net.feature(x, "c5").shape[2:] == (c5, c5)
    assert net.feature(x, "pool5").shape[2:] == (pool5, pool5)
    for which, width in (("fc6", 4096), ("fc7", 4096), ("logits", 1000)):
        assert net.feature(x, which).shape == (1, width) == (1, net.width(which))


@pytest.mark.parametrize("name", ["googlenet", "efficientnet_lite0", "resnet18", "mobilenet_v2"])
def test_nets_without_hidden_layers_end_in_7x7_and_classes(name):
    net, _ = empty_backbone(name)
    x = torch.zeros(1, 3, 224, 224, device="meta")
    assert net.feature(x, "c5").shape[2:] == (7, 7)
    assert net.feature(x, "logits").shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "millions"),
    # weights and biases as published, without auxiliary classifiers
    [
        ("efficientnet_lite0", 4.652),
        ("mobilenet_v2", 3.505),
        ("alexnet", 61.101),
        ("caffenet", 60.965),
        ("cnn_m", 102.9),
        ("vgg16", 138.358),
        ("vgg19", 143.667),
        ("googlenet", 6.999),
        ("resnet18", 11.690),
        ("resnet50", 25.557),
    ],
)
def test_number_of_weights(name, millions):
    net, _ = empty_backbone(name)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize("name", LIBRARY)
def test_blocks_are_all_of_the_librarys_net(name):
    _, published = empty_backbone(name)
    with torch.device("meta"):
        theirs = getattr(torchvision_models(), name)().state_dict()
    assert set(published) == set(theirs)
    assert len(set(published.values())) == len(theirs)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "alexnet"])
def test_blocks_in_a_row_are_the_librarys_forward(name):
    ours, published = empty_backbone(name)
    ours.to_empty(device="cpu")
    initialise(ours, torch.Generator().manual_seed(3))
    theirs = getattr(torchvision_models(), name)().eval()
    state = ours.state_dict()
    theirs.load_state_dict({key: state[ours_key] for key, ours_key in published.items()})
    x = image(64)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.eval().feature(x, "logits"), theirs(x), rtol=1e-3, atol=1e-4
        )


def test_feature_runs_no_later_block():
    net = seeded("resnet18", "logits")
    for name in ("layer4", "logits"):
        net.blocks[name].register_forward_pre_hook(lambda *_: pytest.fail("ran"))
    assert len(net.parts("c5")) == 5
    with pytest.raises(pytest.fail.Exception):
        net(image(64))
    ran = []
    net = seeded("resnet18", "logits")
    for name, block in net.blocks.items():
        block.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    net(image(64))
    assert ran == ["stem", "layer1", "layer2", "layer3", "layer4"]


def test_parts_hold_every_weight_of_the_feature():
    net = seeded("resnet18", "logits")
    net(image(64)).sum().backward()
    with_gradient = {id(p) for p in net.parameters() if p.grad is not None}
    assert with_gradient == {id(p) for part in net.parts() for p in part.parameters()}


def test_cut_drops_later_blocks_and_says_so():
    net = seeded("resnet18", "pooled")
    assert net.features == ("c5", "pooled")
    with pytest.raises(ConfigError, match=r"ends before logits.*c5, pooled"):
        net.feature(image(64), "logits")
    with pytest.raises(ConfigError, match="no feature 'fc6'"):
        net.width("fc6")


def test_unknown_name_tells_the_names():
    with pytest.raises(ConfigError, match=r"no backbone 'vgg'.*googlenet"):
        backbone("vgg")


def test_normalise_is_in_units_of_bytes():
    net = seeded("efficientnet_lite0")
    x = net.normalize(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.ones(1, 3, 2, 2))
    blue = torch.zeros(1, 3, 1, 1)
    blue[0, 2] = 104  # Caffe's mean of blue comes last in RGB
    assert seeded("googlenet").normalize(blue).flatten().tolist() == [-123, -117, 0]


def test_a_net_can_be_copied_and_sent():
    net = seeded("resnet18")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other, BackboneNet)
        assert torch.equal(other(image(64)), net(image(64)))


def test_lrn_is_caffes():
    """Caffe divides alpha by the number of channels in the window; so does this net's."""
    norm = empty_backbone("googlenet")[0].blocks["conv1"][3]
    x = torch.rand(1, 8, 1, 1) * 50
    squares = torch.nn.functional.pad(x[0, :, 0, 0] ** 2, (2, 2)).unfold(0, 5, 1).sum(1)
    expected = x[0, :, 0, 0] / (1 + 1e-4 / 5 * squares) ** 0.75
    torch.testing.assert_close(norm(x)[0, :, 0, 0], expected)


def test_padding_is_tensorflows():
    """Four pixels in steps of two under a kernel of three: one zero to the right, one below."""
    conv = build_backbone("efficientnet_lite0", "c5").blocks["stem"].conv
    with torch.no_grad():
        conv.weight.fill_(1)
        assert conv(torch.ones(1, 3, 4, 4))[0, 0].tolist() == [[27, 18], [18, 12]]
        assert conv(torch.ones(1, 3, 5, 5))[0, 0, 0].tolist() == [12, 18, 12]


def test_guard_declares_only_what_is_missing(monkeypatch):
    """The import fails twice for missing operators, then works; other errors come through."""
    declared, errors = (
        [],
        ["operator torchvision::nms does not exist", "operator torchvision::qnms does not exist"],
    )

    def fake(name):
        if errors:
            raise RuntimeError(errors.pop(0))
        return name

    monkeypatch.setattr(library_module.importlib, "import_module", fake)
    monkeypatch.setattr(torch.library, "define", lambda name, _: declared.append(name))
    assert torchvision_models() == "torchvision.models"
    assert declared == ["torchvision::nms", "torchvision::qnms"]
    assert torchvision_models() == "torchvision.models"
    assert len(declared) == 2
    errors.append("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        torchvision_models()


def test_import_takes_no_torchvision():
    code = (
        "import sys, geopipe.nets.backbones, geopipe.checkpoint.weights;"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
