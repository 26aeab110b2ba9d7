"""A U-Net maps as the CNN does: through the same file, the same tiles, without seams."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.grid import Window
from geopipe.mapping.tile import score_window
from geopipe.nets import SegmentationModel, UNet
from geopipe.nets.liteunet import LiteUNet
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")


KINDS = {
    "at 1 m": (lambda: UNet(3, 3, base=4, depth=3), 1.0),
    "at 0.5 m": (lambda: UNet(3, 3, base=4, depth=3), 0.5),
    "on Lite0": (lambda: LiteUNet(3, 3), 0.5),
}
HALO = {"UNet": (48, 46, 8), "LiteUNet": (112, 105, 16)}
"""Declared, measured, stride."""


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory, make_model):
    torch.manual_seed(3)
    make, gsd = KINDS[request.param]
    net = make()
    with torch.no_grad():
        for _ in range(20):  # stored statistics of something
            net.train()(torch.randn(2, 3, 256, 256))
        net.head.weight *= 3
    path = tmp_path_factory.mktemp("unet") / "unet.safetensors"
    net = SegmentationModel(net.eval().requires_grad_(False))
    replace(make_model(gsd=gsd), net=net).save(path)
    return path


def test_tiles_make_up_the_map_that_the_scene_at_once_gives(geopipe, drawn, model, tmp_path):
    scene, out = Scene.open(str(drawn.scene)), tmp_path / "map"
    said = geopipe("map", drawn.scene, model, "-o", out, "--device", "cpu", "--tile-size", "256")
    assert said.code == 0, said.err
    (scores,) = score_window(Checkpoint.load(model), scene, Window.of_shape(scene.shape))
    with rasterio.open(out / "classes.tif") as src:
        ids = src.read(1)
    valid = scene.read().valid
    np.testing.assert_array_equal(ids != 255, valid)
    assert set(np.unique(ids[valid])) == {0, 1, 2}, "the model of the test should see all classes"
    first, second = scores.topk(2, dim=0).values
    assert not ((ids != scores.argmax(0).numpy()) & valid & (first - second > 1e-4).numpy()).any()


def test_its_tiles_have_no_seams(geopipe, drawn, model):
    said = geopipe("verify-seams", drawn.scene, model, "--device", "cpu", "--json")
    assert (said.code, said.err) == (0, "")
    report = json.loads(said.out)
    assert (report["changed"], report["errors"]) == (0, 0)
    net = type(Checkpoint.load(model).net.base).__name__
    assert (report["declared_halo"], report["measured_halo"], report["stride"]) == HALO[net]
    assert report["nonlocal_layers"] == []


def test_its_memory_is_planned(geopipe, drawn, model, tmp_path):
    words = ("map", drawn.scene, model, "-o", tmp_path / "map", "--device", "cpu")
    little = geopipe(*words, "--ram", "300")
    assert little.code == 1
    assert "300 MB of memory are too little" in little.err
