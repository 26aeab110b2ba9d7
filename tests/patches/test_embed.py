"""Features are those of the net, computed once, and kept over a kill."""

import numpy as np
import pytest
import rasterio
import torch

from geopipe.grid import Window
from geopipe.learn.patches import ChipRaster, PatchGrid, SceneRaster, embed
from geopipe.mapping.tile import score_window
from geopipe.nets import PatchNet
from geopipe.raster import Scene
from geopipe.raster.chips import Chip, ChipFolder


@pytest.fixture(autouse=True)
def no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


@pytest.fixture
def cells(chips):
    planes = [ChipRaster(c, 3) for c in ChipFolder.open(chips).chips[::4]]
    return PatchGrid.of(planes, 16)


def test_probabilities_are_those_of_the_map(model, mosaic, make_raster):
    with rasterio.open(mosaic[0]) as src:
        rows = src.read()[:, :100]  # the last row of cells is cut short
        scene = Scene.open(make_raster(rows, crs=src.crs, transform=src.transform))
    cells = PatchGrid.of([SceneRaster(scene, 4)], 16)
    seen = embed(model, "m", cells)
    (scores,) = score_window(model, scene, Window.of_shape(scene.shape))
    mapped = scores[:, 8::16, 8::16].exp().numpy()
    found = seen.summed(model.net.base.weights).T.reshape(5, 6, 20)
    assert np.allclose(found[:, : mapped.shape[1]], mapped, atol=1e-4)
    assert np.allclose(seen.probabilities.sum(2), 1, atol=1e-5)


def test_features_are_a_mean_over_sizes(model, cells):
    net = model.net.base
    seen = embed(model, "m", cells)
    plane = cells.rasters[0]
    image = torch.from_numpy(plane.chip.read().astype(np.float32))
    image = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (16, 16), (16, 16)), "symmetric"))
    shown = model.normalize(image, torch.ones(image.shape[1:], dtype=torch.bool))[None]
    with torch.inference_mode():
        features, _ = net.by_size(shown)
    assert np.allclose(seen.features[:3], features.mean(0)[0, :, 0].T[:3], atol=1e-4)


def test_any_choice_of_cells_gives_the_same(model, cells):
    whole = embed(model, "m", cells)
    some = np.random.default_rng(0).permutation(len(cells))[:40]
    part = embed(model, "m", cells.subset(some))
    assert np.allclose(part.features, whole.features[some], atol=1e-4)
    assert np.array_equal(part.digests, whole.digests[some])


def test_nothing_is_computed_twice(model, cells, tmp_path, monkeypatch):
    first = embed(model, "m", cells, cache=tmp_path / "c")

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(PatchNet, "by_size", never)
    again = embed(model, "m", cells, cache=tmp_path / "c")
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.probabilities, again.probabilities)
    with pytest.raises(AssertionError):
        embed(model, "another model", cells, cache=tmp_path / "c")


def test_a_killed_run_goes_on_and_damage_is_mended(model, cells, tmp_path, monkeypatch):
    whole, calls, real = embed(model, "m", cells), [], PatchNet.by_size

    def dying(net, image):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(1)
        return real(net, image)

    monkeypatch.setattr(PatchNet, "by_size", dying)
    with pytest.raises(KeyboardInterrupt):
        embed(model, "m", cells, cache=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    files[0].write_bytes(b"half a file")
    calls.clear()
    monkeypatch.setattr(PatchNet, "by_size", lambda net, image: calls.append(1) or real(net, image))
    again = embed(model, "m", cells, cache=tmp_path)
    assert len(calls) == len(cells.rasters) - 3
    assert np.allclose(again.features, whole.features, atol=1e-5)


def test_equal_pixels_have_equal_digests(chips, model):
    plane = ChipRaster(Chip(str(chips / "water" / "0.png")), 3)
    other = ChipRaster(Chip(str(chips / "water" / "1.png")), 3)
    digests = embed(model, "m", PatchGrid.of([plane, plane, other], 16)).digests.reshape(3, -1)
    assert np.array_equal(digests[0], digests[1])
    assert not np.isin(digests[2], digests[0]).any()
    assert len(np.unique(digests[0])) == digests.shape[1]


def test_invalid_cells_are_told(model, make_raster):
    data = np.full((3, 64, 64), 90, np.uint8)
    data[:, :40, :16] = 0
    scene = Scene.open(make_raster(data, nodata=0, crs="EPSG:32631"))
    cells = PatchGrid.of([SceneRaster(scene, 1)], 16)
    invalid = embed(model, "m", cells).valid.reshape(4, 4)
    assert np.array_equal(~invalid, [[1, 0, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4])


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="no bfloat16 instructions")
def test_bfloat16_is_near(model, cells, monkeypatch):
    exact = embed(model, "m", cells)
    monkeypatch.undo()
    near = embed(model, "m", cells)
    assert not np.array_equal(near.features, exact.features)
    assert np.abs(near.probabilities - exact.probabilities).mean() < 0.01
