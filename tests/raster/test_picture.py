"""The picture that tiles add up is the mean of the scene's valid pixels, cell by cell."""

import numpy as np
import pytest
import rasterio

from geopipe.grid import Tiling
from geopipe.mapping import preview as module
from geopipe.mapping.preview import part_path, preview_shape, read_preview, write_part
from geopipe.raster import Scene


def expected(data, valid, shape):
    """From the definition: pixel r of n lies in cell r m // n."""
    sums, counts = np.zeros((len(data), *shape)), np.zeros(shape)
    rows, cols = (np.arange(n) * m // n for n, m in zip(valid.shape, shape, strict=True))
    at = np.ix_(rows, cols)
    np.add.at(counts, at, valid)
    for band, total in zip(data, sums, strict=True):
        np.add.at(total, at, np.where(valid, band, 0.0))
    return sums / np.maximum(counts, 1), counts > 0


def added_up(folder, data, valid, core, shape):
    paths = []
    for tile in Tiling(valid.shape, core):
        inside = tile.core.within(tile.core.__class__.of_shape(valid.shape))
        paths.append(part_path(folder, tile.index))
        pixels = data[(slice(None), *inside)]
        write_part(paths[-1], pixels, valid[inside], tile.core, valid.shape, shape)
    return paths


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (37, 22), (100, 61)])
def test_cells_are_means(tmp_path, dtype, shape):
    rng = np.random.default_rng(0)
    valid = rng.random((700, 431)) > 0.3
    valid[:200, :200] = False
    data = (rng.random((4, 700, 431)) * 250).astype(dtype)
    data[:, ~valid] = 0
    paths = added_up(tmp_path, data, valid, 256, shape)
    means, there = expected(data[:3], valid, shape)
    found = read_preview(paths, dtype, shape)
    assert found.data.dtype == dtype
    assert np.array_equal(found.valid, there)
    tolerance = 0.5001 if dtype != "float32" else 1e-3
    assert np.abs(found.data - means)[:, there].max() <= tolerance


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"PK\x03\x04")])
def test_no_picture_rather_than_half_of_one(tmp_path, damage):
    data, valid = np.ones((3, 600, 600), np.uint8), np.ones((600, 600), bool)
    paths = added_up(tmp_path, data, valid, 256, (20, 20))
    damage(paths[4])
    assert read_preview(paths, "uint8", (20, 20)) is None


def test_only_large_scenes_without_overviews(make_raster, monkeypatch):
    path = make_raster(np.ones((3, 800, 400), np.uint8), tiled=True, blockxsize=128, blockysize=128)
    assert preview_shape(Scene.open(path), 800 // module._MIN_SHRINK + 1) is None
    assert preview_shape(Scene.open(path), 100) == (100, 50)
    with rasterio.open(path, "r+") as out:
        out.build_overviews([2, 4], rasterio.enums.Resampling.average)
    assert preview_shape(Scene.open(path), 100) is None
