"""Images to vectors: any feature of any backbone, views, and whose weights they are."""

import numpy as np
import pytest
import torch

from geopipe.errors import ChipIndexError, ConfigError
from geopipe.nets.backbones import BACKBONES
from geopipe.retrieve import EmbeddingConfig, EmbeddingModel
from geopipe.retrieve.embedding import generalised_mean
from geopipe.retrieve.normalization import gaussian

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 255, (3, *s), dtype=np.uint8) for s in ((40, 40), (37, 52), (64, 64))]


def described(config, images=IMAGES):
    return EmbeddingModel(config, "random:0").embed(images)


@pytest.mark.parametrize(
    ("backbone", "feature", "pooling", "width"),
    [
        ("alexnet", "pool5", "flat", 256),  # 1 x 1 of 64 px
        ("alexnet", "c5", "gem", 256),
        ("alexnet", "fc6", "flat", 4096),
        ("googlenet", "pooled", "flat", 1024),
        ("resnet18", "c5", "max", 512),
        ("mobilenet_v2", "c5", "flat", 1280 * 4),
    ],
)
def test_features_by_name(backbone, feature, pooling, width):
    found = described(EmbeddingConfig(backbone, feature, 64, pooling))
    assert found.shape == (3, width)
    assert found.dtype == np.float32
    assert found.mean(1) == pytest.approx(0.5, abs=1e-5)


def test_mean_pooled_c5_is_pooled():
    by_name = described(EmbeddingConfig("resnet18", "pooled", 64))
    assert described(EmbeddingConfig("resnet18", "c5", 64, "mean")) == pytest.approx(
        by_name, abs=1e-5
    )


def test_a_batch_is_its_images():
    config = EmbeddingConfig(side=32)
    alone = np.concatenate([described(config, [i]) for i in IMAGES])
    assert described(config) == pytest.approx(alone, abs=1e-5)


def test_generalised_mean_between_mean_and_maximum():
    x = torch.rand(2, 3, 5, 5)
    assert torch.allclose(generalised_mean(x, 1), x.mean((2, 3)), atol=1e-5)
    assert torch.allclose(generalised_mean(x, 200), x.amax((2, 3)), atol=2e-2)
    assert generalised_mean(x, 3).equal(x.pow(3).mean((2, 3)).pow(1 / 3))


def test_eight_views_do_not_see_turns():
    image = IMAGES[2]
    turned = [image, np.rot90(image, 1, (1, 2)), image[:, :, ::-1]]
    eight = described(EmbeddingConfig(side=64, rotations=8), turned)
    assert eight[1:] == pytest.approx(np.repeat(eight[:1], 2, 0), abs=1e-4)
    one = described(EmbeddingConfig(side=64), turned)
    assert np.abs(one[1] - one[0]).max() > 1e-2


def test_scales_are_averaged():
    image = [IMAGES[2]]
    both = described(EmbeddingConfig(side=64, scales=(1.0, 0.5)), image)
    parts = [described(EmbeddingConfig(side=64, scales=(s,)), image) for s in (1.0, 0.5)]
    assert both == pytest.approx(gaussian(np.mean(parts, 0)), abs=1e-5)


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="no feature 'fc6'"):
        EmbeddingConfig(feature="fc6")
    with pytest.raises(ConfigError, match="pooled is a vector, there is nothing to pool by gem"):
        EmbeddingConfig(pooling="gem")
    with pytest.raises(ConfigError, match="1, 4 or 8"):
        EmbeddingConfig(rotations=3)
    with pytest.raises(ConfigError, match="below 32 px"):
        EmbeddingConfig(side=40, scales=(1.0, 0.5))
    assert all(EmbeddingConfig(name).px == spec.px for name, spec in BACKBONES.items())


def test_another_model_is_refused():
    mine = EmbeddingModel(EmbeddingConfig(side=32), "random:0").loaded()
    known = mine.identity()
    mine.require(known)
    assert EmbeddingConfig.from_dict(mine.config.to_dict()) == mine.config
    with pytest.raises(ChipIndexError, match="weights_sha256"):
        EmbeddingModel(EmbeddingConfig(side=32), "random:1").loaded().require(known)
    with pytest.raises(ChipIndexError, match="side: 32, not 64"):
        EmbeddingModel(EmbeddingConfig(side=64), "random:0").loaded().require(known)
    with pytest.raises(ChipIndexError, match="other weights"):
        EmbeddingModel(mine.config, "random:1", mine.sha256).embed(IMAGES)
