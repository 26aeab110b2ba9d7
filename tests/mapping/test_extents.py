"""The same ground has the same map whatever the corner of its file."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window as RioWindow
from tiny_nets import Tiny, tiny_net, with_net

from geopipe.grid import Window
from geopipe.mapping.extents import SceneCrop
from geopipe.mapping.seams import verify_seams
from geopipe.mapping.tile import best_class, score_window
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")

PLANES = {
    "0.5 m": ("EPSG:2154", Affine(0.5, 0, 789_001.5, 0, -0.5, 6_501_000)),
    "half a pixel off": ("EPSG:2154", Affine(0.5, 0, 789_000.25, 0, -0.5, 6_501_000.25)),
    "2 m": ("EPSG:2154", Affine(2, 0, 789_000, 0, -2, 6_501_000)),
    "0.7 m": ("EPSG:2154", Affine(0.7, 0, 789_000, 0, -0.7, 6_501_000)),
    "Web Mercator": ("EPSG:3857", Affine(0.2986, 0, 9_520_000, 0, -0.2986, 3_203_000)),
    "degrees": ("EPSG:4326", Affine(4e-6, 0, 4.1, 0, -4e-6, 45.6)),
    "south-up": ("EPSG:2154", Affine(0.5, 0, 789_001.5, 0, 0.5, 6_501_000)),
}


def cropped(source, target, row, col, height, width):
    """A file of its own, as gdal_translate -srcwin cuts it."""
    window = RioWindow(col, row, width, height)
    with rasterio.open(source) as src:
        profile = src.profile | {
            "height": height,
            "width": width,
            "transform": src.window_transform(window),
        }
        with rasterio.open(target, "w", **profile) as out:
            out.write(src.read(window=window))
    return target


@pytest.fixture(params=PLANES)
def plane(request, make_raster):
    data = np.random.default_rng(0).integers(1, 255, (3, 400, 420)).astype(np.uint8)
    data[:, 170:180, 180:200] = 0
    crs, transform = PLANES[request.param]
    return make_raster(data, crs=crs, transform=transform, nodata=0)


@pytest.mark.parametrize("stride", [4, 8])
def test_the_inside_of_a_crop_has_the_bytes_of_the_whole(plane, make_model, tmp_path, stride):
    model = with_net(make_model(), tiny_net(Tiny(stride), 1))
    whole = Scene.open(plane)
    part = Window(160, 170, 50, 60)
    (truth,) = score_window(model, whole, part)
    for k in range(1, 8):
        file = cropped(plane, tmp_path / f"{k}.tif", k, 8 - k, 400 - k - 3, 420 - 8 + k - 5)
        inside = Window(part.row - k, part.col - 8 + k, *part.shape)
        (scores,) = score_window(model, Scene.open(file), inside)
        # sums in another order, where a window begins on another step of the network
        torch.testing.assert_close(scores, truth, rtol=0, atol=2e-6)
        assert torch.equal(best_class(scores), best_class(truth))


def test_a_crop_is_the_scene_read_from_its_file(plane, tmp_path):
    scene = Scene.open(plane)
    file = Scene.open(cropped(plane, tmp_path / "c.tif", 7, 11, 150, 140))
    crop = SceneCrop.of(scene, Window(7, 11, 150, 140))
    assert crop.shape == file.shape
    for window in (None, Window(-5, 90, 60, 80), Window(500, 500, 4, 4), Window(90, 90, 40, 40)):
        ours, theirs = crop.read(window), file.read(window)
        np.testing.assert_array_equal(ours.data, theirs.data)
        np.testing.assert_array_equal(ours.valid, theirs.valid)


@pytest.mark.parametrize("name", ["0.5 m", "Web Mercator"])
def test_verify_seams_compares_seven_other_corners(make_raster, make_model, tmp_path, name):
    crs, transform = PLANES[name]
    data = np.random.default_rng(0).integers(1, 255, (3, 330, 340)).astype(np.uint8)
    path = tmp_path / "m.model"
    make_model(iterations=0).save(path)
    scene = Scene.open(make_raster(data, crs=crs, transform=transform))
    report = verify_seams(scene, path, cores=(256,), crop_px=150, at=(255, 265))
    assert report.ok
    assert len(report.extents) == 7
    for extent in report.extents:
        assert extent.changed == 0
        assert extent.max_difference < 1e-5
        assert extent.pixels > 0
    said = report.to_dict()
    assert [e["offset"] for e in said["extents"]] == [e.offset for e in report.extents]


def test_a_grid_that_begins_at_the_file_is_found(make_raster, make_model, tmp_path, monkeypatch):
    data = np.random.default_rng(0).integers(1, 255, (3, 300, 300)).astype(np.uint8)
    scene = Scene.open(make_raster(data, transform=PLANES["0.5 m"][1]))
    path = tmp_path / "m.model"
    make_model(iterations=0).save(path)
    where = {"cores": (256,), "crop_px": 120, "at": (200, 200)}
    assert [e.offset[0] for e in verify_seams(scene, path, **where).extents] == [*range(1, 8)]
    monkeypatch.setattr("geopipe.grid.network_grid.pixel_origin", lambda _: (0, 0))
    report = verify_seams(scene, path, **where)
    assert not report.ok
    assert report.max_seam < 1e-5 < report.max_extent
    assert report.changed > 0


def test_of_a_rotated_scene_no_other_extent_is_compared(make_raster, make_model, tmp_path):
    data = np.random.default_rng(0).integers(1, 255, (3, 300, 300)).astype(np.uint8)
    turned = Affine(0.5, 0.1, 789_000, 0.1, -0.5, 6_501_000)
    path = tmp_path / "m.model"
    make_model(iterations=0).save(path)
    report = verify_seams(
        Scene.open(make_raster(data, transform=turned)), path, cores=(256,), crop_px=64
    )
    assert report.ok
    assert report.extents == ()
