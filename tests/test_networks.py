"""Base networks by name: each name is known wherever one is read."""

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from geopipe.checkpoint.header import Architecture
from geopipe.learn import BaseNetworkPlan
from geopipe.learn.fine_tuning import FineTuningPlan
from geopipe.nets import build_base_network
from geopipe.networks import DEFAULT_NET, DISPLAY_NAMES, BaseNetworkName

NAMES = get_args(BaseNetworkName)


def test_every_network_has_a_name_that_people_read():
    assert tuple(DISPLAY_NAMES) == NAMES
    assert len(set(DISPLAY_NAMES.values())) == len(NAMES)
    assert DEFAULT_NET in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_built_saved_and_trained_by_its_name(name):
    with torch.device("meta"):
        architecture = build_base_network(3, 2, name).architecture
    assert architecture["net"] == name
    assert TypeAdapter(Architecture).validate_python(architecture).net == name
    for schedule in ("short", "paper"):
        assert BaseNetworkPlan.of(name, schedule).net == name
        assert FineTuningPlan.of(name, schedule).steps > 0


@pytest.mark.parametrize(
    ("name", "sizes", "images"),
    [
        ("cnn", {}, None),
        ("unet", {}, None),
        ("lite-unet", {}, "ImageNet"),
        ("patches", {"backbone": "dinov2_vits14"}, "LVD-142M"),
        ("patches", {"backbone": "mobilenet_v2+dinov2_vits14"}, "ImageNet and LVD-142M"),
        ("scenes", {"model": "fusion:alexnet.c5+resnet18.c5"}, "ImageNet"),
    ],
)
def test_a_network_says_what_images_its_weights_come_from(name, sizes, images):
    with torch.device("meta"):
        assert build_base_network(3, 2, name, **sizes).pretrained_on == images
