import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_nets import Blind, Padding, Pooling, Squeezing, Tiny, tiny_net, with_net
from torch import nn

from geopipe.checkpoint import Checkpoint
from geopipe.errors import CheckpointError, ConfigError, GridError, SceneError
from geopipe.grid import Window
from geopipe.mapping.reference import reference_scores
from geopipe.mapping.seams import SeamReport, TilingResult, _tiles, verify_seams
from geopipe.mapping.tile import score_window
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")

HALF = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
BANEPA = Affine(0.2986, 0, 9_520_000, 0, -0.2986, 3_203_000)
numbers = itertools.count()


@pytest.fixture
def held(tmp_path, monkeypatch):
    """``held(model)``: a path that loads as `model`, whatever net it has."""

    def hold(model):
        path = tmp_path / f"{next(numbers)}.model"
        path.write_text(path.name)
        monkeypatch.setattr(Checkpoint, "load", lambda _: model)
        return path

    return hold


@pytest.fixture
def scene(make_raster):
    """Half-metre pixels, more than a tile each way, with a hole."""
    data = np.random.default_rng(0).integers(1, 255, (3, 301, 389)).astype(np.uint8)
    data[:, 40:90, 200:290] = 0
    return Scene.open(make_raster(data, nodata=0, transform=HALF))


@pytest.fixture
def seams(scene, held, make_model):
    """``seams(net)``: the report of a tiny net on `scene` in tiles of 256 px."""

    def verify(net, **options):
        path = held(with_net(make_model(), net))
        return verify_seams(scene, path, cores=(256,), **options)

    return verify


# Nets that keep the law


@pytest.mark.parametrize(
    ("crs", "transform", "factor"), [("EPSG:2154", HALF, 2), ("EPSG:3857", BANEPA, 3.78)]
)
def test_geopipes_own_nets_have_no_seams(make_raster, make_model, tmp_path, crs, transform, factor):
    data = np.random.default_rng(0).integers(1, 255, (3, 270, 300)).astype(np.uint8)
    data[:, :60, :80] = 0
    scene = Scene.open(make_raster(data, nodata=0, crs=crs, transform=transform))
    path = tmp_path / "m.model"
    make_model(iterations=1).save(path)
    report = verify_seams(scene, path, cores=(256, 512))
    assert report.ok
    assert (report.changed, report.errors) == (0, 0)
    assert report.max_difference < 1e-5
    assert report.pixels == 270 * 300 - 60 * 80
    assert report.crop == Window(0, 0, 270, 300)
    assert report.factor == pytest.approx((factor, factor), rel=7e-3)
    assert (report.declared_halo, report.measured_halo, report.stride) == (32, 32, 4)
    assert [(w.core, w.tiles) for w in report.tilings] == [(300, 1), (256, 4), (512, 1), (256, 4)]
    assert [w.origin for w in report.tilings[:3]] == [(0, 0)] * 3
    assert all(o < 0 and o % 2 for o in report.tilings[3].origin)


@pytest.mark.parametrize("stride", [1, 2, 3, 8])
def test_nets_of_any_stride_have_no_seams(seams, stride):
    report = seams(tiny_net(Tiny(stride), 1))
    assert report.ok
    assert report.stride == stride
    assert report.changed == 0
    assert report.max_difference < 1e-5


def test_a_report_says_all_in_json(seams):
    report = seams(tiny_net(Tiny(4)))
    said = json.loads(json.dumps(report.to_dict()))
    assert said["ok"] is True
    assert said["tiles"] == sum(w["tiles"] for w in said["tilings"]) == report.tiles
    assert (said["declared_halo"], said["measured_halo"]) == (8, 8)
    assert said["crop"] == {"row": 0, "col": 0, "height": 301, "width": 389}
    assert said["pixels"] == 301 * 389 - 50 * 90


class Asking(Tiny):
    """Notes whether its convolutions on a GPU would compute in TF32."""

    def forward(self, image):
        self.tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
        return super().forward(image)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_tf32_is_used_where_it_is_asked_for_alone(scene, make_model, monkeypatch, precision):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as torch has it
    net = tiny_net(Asking(4))
    model, window = with_net(make_model(), net), Window(0, 0, 24, 24)
    score_window(model, scene, window, precision=precision)
    assert net.base.tf32 == (precision == "tf32")
    torch.backends.cudnn.allow_tf32 = True
    reference_scores(scene, model, window, net.halo)
    assert not net.base.tf32, "what tiles are held against is exact"


# Nets that break it


@pytest.mark.parametrize(("stride", "iterations"), [(1, 1), (2, 1), (4, 0)])
def test_one_pixel_less_context_is_found(seams, stride, iterations):
    report = seams(tiny_net(Tiny(stride), iterations, Blind))
    assert not report.ok
    assert report.errors > 0
    assert all(min(w.max_seam, w.max_difference) > 1e-3 for w in report.tilings[1:])


def test_a_declared_halo_that_is_too_small_is_found(seams):
    report = seams(tiny_net(Padding(2), 1))
    assert report.measured_halo > report.declared_halo
    assert not report.ok
    assert report.errors > 0


@pytest.mark.parametrize("core", [Pooling(4), Squeezing(4)])
def test_a_net_that_looks_everywhere_is_found(seams, core):
    report = seams(tiny_net(core))
    assert not report.ok
    assert report.measured_halo > report.declared_halo


def test_layers_that_look_everywhere_are_found_and_named(seams):
    report = seams(tiny_net(Squeezing(4, nn.InstanceNorm2d(6))))
    assert not report.ok
    assert report.nonlocal_layers == ("base.conv2.1: InstanceNorm2d",)


def test_a_stretch_of_each_tile_is_found(seams, monkeypatch):
    """Per-tile statistics in place of those in the model."""

    def stretched(self, image, valid):
        return torch.where(valid, (image - image.mean()) / image.std(), 0)

    monkeypatch.setattr(Checkpoint, "normalize", stretched)
    report = seams(tiny_net(Tiny(4)))
    assert report.measured_halo == report.declared_halo
    assert not report.ok


def test_tiles_that_begin_off_the_stride_are_found(seams, monkeypatch):
    """The stride law: windows of the right size and halo that begin where their tile needs them."""

    def unsnapped(self, step):
        height, width = (-(-n // step) * step for n in self.shape)
        return Window(self.row, self.col, height, width)

    monkeypatch.setattr(Window, "snap", unsnapped)
    report = seams(tiny_net(Tiny(4)))
    assert not report.ok
    assert report.errors > 100
    assert report.tilings[-1].max_seam > 0.01
    assert seams(tiny_net(Tiny(1))).ok  # no stride, no law


# What is compared


def test_holes_are_not_compared(make_raster, held, make_model, monkeypatch):
    """A map that is wrong in holes alone has no seams; the same one is wrong without the hole."""
    import geopipe.mapping.seams as module

    data = np.random.default_rng(0).integers(1, 255, (3, 90, 120)).astype(np.uint8)
    mask = np.ones((90, 120), bool)
    mask[10:30, 50:90] = False
    path = held(with_net(make_model(), tiny_net(Tiny(2))))
    honest = module.score_window

    def wrong(model, scene, window, **options):
        (scores,) = honest(model, scene, window, **options)
        return [scores + torch.from_numpy(~mask[window.slices])]

    monkeypatch.setattr(module, "score_window", wrong)
    with_hole = Scene.open(make_raster(data, "a.tif", mask=mask))
    assert verify_seams(with_hole, path, cores=(256,)).ok
    assert not verify_seams(Scene.open(make_raster(data, "b.tif")), path, cores=(256,)).ok


def test_nothing_but_holes_cannot_be_compared(make_raster, held, make_model):
    scene = Scene.open(make_raster(np.zeros((3, 30, 30), np.uint8), nodata=0))
    with pytest.raises(SceneError, match=r"rows 0-30, columns 0-30 of .* no valid pixel"):
        verify_seams(scene, held(make_model()))


def test_a_class_that_changed_by_rounding_is_no_error_but_is_told():
    way = TilingResult(256, (0, 0), 4, 1e-6, 2e-6, changed=3, errors=0)
    report = SeamReport(
        "s", "m", Window(0, 0, 9, 9), 81, (2.0, 2.0), 4, 32, 32, (), 5.0, (way, way)
    )
    assert report.ok
    assert (report.changed, report.errors, report.tiles) == (6, 0, 8)
    assert not replace(report, tilings=(way, replace(way, errors=1))).ok
    # a seam that changes no class is one all the same
    assert not replace(report, tilings=(replace(way, max_seam=1e-4),)).ok
    assert not replace(report, tilings=(replace(way, max_difference=1e-4),)).ok
    # and float32 has seven digits, no more
    large = replace(report, max_score=50.0, tilings=(replace(way, max_difference=4e-5),))
    assert large.ok


# The crop


def crops(scene, path, **options):
    return verify_seams(scene, path, cores=(256,), **options).crop


@pytest.fixture
def large(make_raster, held, make_model):
    data = np.random.default_rng(0).integers(1, 255, (3, 1200, 700)).astype(np.uint8)
    path = held(with_net(make_model(), tiny_net(Tiny(4))))
    return Scene.open(make_raster(data)), path


def test_the_crop_is_the_middle_and_begins_at_a_block(large):
    crop = crops(*large, crop_px=300)
    assert crop == Window(256, 0, 300, 300)


def test_the_crop_lies_where_it_is_asked_for(large):
    assert crops(*large, crop_px=100, at=(700, 333)) == Window(650, 283, 100, 100)
    assert crops(*large, crop_px=100, at=(1199, 2)) == Window(1100, 0, 100, 100)


@pytest.mark.parametrize(("px", "advice"), [(0, "take 1 to"), (5000, "crop of 5000 px.*take 1 to")])
def test_a_crop_that_no_memory_holds_is_refused(large, px, advice):
    with pytest.raises(ConfigError, match=advice):
        crops(*large, crop_px=px)


def test_memory_bounds_the_crop_by_classes_and_resolution(large, make_model, held):
    """As many net pixels as 1.6 GB hold: 1,000 a side with 3 classes, half of that with 12."""
    scene, _ = large
    with pytest.raises(ConfigError, match=r"1100 px of the net's grid, 3 classes.*1 to 1004 px"):
        crops(scene, held(with_net(make_model(), tiny_net(Tiny(4)))), crop_px=1100)


@pytest.mark.parametrize("at", [(1200, 0), (-1, 0), (0, 700)])
def test_a_place_outside_the_scene_is_refused(large, at):
    with pytest.raises(ConfigError, match=r"not in the scene of 1200 x 700"):
        crops(*large, crop_px=100, at=at)


def test_cores_off_the_block_and_bands_that_do_not_fit(large, make_model, held):
    scene, path = large
    with pytest.raises(GridError, match="a tile size of 300"):
        verify_seams(scene, path, cores=(300,), crop_px=64)
    with pytest.raises(CheckpointError, match="4 bands"):
        verify_seams(scene, held(make_model(bands=4)), crop_px=64)


sides = st.integers(1, 700)


@given(sides, sides, st.sampled_from([256, 512]), st.integers(0, 255), st.integers(0, 255))
@example(1, 1, 256, 255, 255)
@settings(max_examples=40, deadline=None)
def test_tiles_of_any_origin_cover_the_crop_once(height, width, core, up, left):
    crop = Window(77, 31, height, width)
    owners = np.zeros((height, width), int)
    for tile in _tiles(crop, core, (-up, -left)):
        assert min(tile.core.shape) > 0
        owners[tile.core.within(crop)] += 1
    assert (owners == 1).all()


# The oracle's own oracle


def test_at_the_nets_own_resolution_the_whole_is_the_net_on_the_padded_image(
    make_raster, make_model
):
    data = np.random.default_rng(0).integers(0, 255, (3, 40, 52)).astype(np.uint8)
    scene, model = Scene.open(make_raster(data)), make_model(iterations=1)
    padded = np.pad((data - 100.0) / 50, ((0, 0), (32, 32), (32, 32))).astype(np.float32)
    with torch.inference_mode():
        truth = model.net.base(torch.from_numpy(padded)[None])
        truth = model.net.postprocessor(truth, torch.from_numpy(padded[None, :, 30:-30, 30:-30]))[0]
    whole = reference_scores(scene, model, Window(0, 0, 40, 52), 32)
    np.testing.assert_allclose(whole, truth, rtol=0, atol=1e-5)
    part = reference_scores(scene, model, Window(3, 9, 20, 11), 45)
    np.testing.assert_allclose(part, truth[:, 3:23, 9:20], rtol=0, atol=1e-5)
