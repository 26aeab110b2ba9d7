"""Label maps on disk: exactly the scene's pixels, counted, credited, whole or not at all."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.classes import IGNORE
from geopipe.errors import GeopipeError, LabelError, OutputError
from geopipe.labels import LabelCounts, open_labels, write_label_raster
from geopipe.raster import Scene


@pytest.fixture
def scene(tmp_path, plane):
    """An image whose right edge is black and declared as nodata."""
    image = np.full((3, *plane.shape), 90, np.uint8)
    image[:, :, 380:] = 0
    return write_scene(tmp_path / "scene.tif", image, plane)


def write_scene(path, image, plane):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=plane.shape[0],
        width=plane.shape[1],
        count=3,
        dtype="uint8",
        crs=str(plane.crs),
        transform=plane.affine,
        nodata=0,
    ) as dst:
        dst.write(image)
    return Scene.open(path)


@pytest.fixture
def source(tmp_path, mapped, scheme, plane):
    mapped.to_file(tmp_path / "osm_map.gpkg")
    return open_labels(tmp_path / "osm_map.gpkg", scheme, plane)


def test_the_map_and_its_counts(tmp_path, scene, source, plane, scheme):
    out = tmp_path / "labels.tif"
    counts = write_label_raster(scene, source, out, tags={"made_for": "a test"})
    want = source.read(plane)
    want[:, 380:] = IGNORE
    with rasterio.open(out) as src:
        got = src.read(1)
        assert (src.crs, src.transform, src.nodata) == (plane.crs.to_wkt(), plane.affine, 255)
        assert src.dtypes == ("uint8",)
        assert src.compression.value == "DEFLATE"
        assert src.profile["tiled"]
        assert [src.colormap(1)[i][:3] for i in range(3)] == [c.rgb for c in scheme.classes]
        tags = src.tags()
    np.testing.assert_array_equal(got, want)
    assert counts.pixels == tuple(int((want == i).sum()) for i in range(3))
    assert counts.ignored == 300 * 20
    assert counts.of("building") == counts.pixels[1] > 0
    assert counts.missing == ()
    assert tags["credit"] == "(c) OpenStreetMap contributors, ODbL 1.0"
    assert tags["pixels_road"] == str(counts.pixels[2])
    assert tags["made_for"] == "a test"
    again = open_labels(out, scheme, plane)
    np.testing.assert_array_equal(again.read(plane), want)
    assert again.credit == source.credit


def test_a_scene_larger_than_a_window(tmp_path, mapped, scheme):
    plane = GeoBox((2300, 2100), Affine(0.1, 0, 789_000, 0, -0.1, 6_501_000), "EPSG:2154")
    scene = write_scene(tmp_path / "scene.tif", np.full((3, *plane.shape), 9, np.uint8), plane)
    mapped.to_file(tmp_path / "a.gpkg")
    source = open_labels(tmp_path / "a.gpkg", scheme, plane)
    counts = write_label_raster(scene, source, tmp_path / "labels.tif")
    want = source.read(plane)
    with rasterio.open(tmp_path / "labels.tif") as src:
        np.testing.assert_array_equal(src.read(1), want)
    assert counts.pixels == tuple(np.bincount(want.ravel(), minlength=3))
    assert "credit" not in rasterio.open(tmp_path / "labels.tif").tags()


def test_classes_without_a_pixel_are_told(scheme):
    assert LabelCounts(scheme, (10, 0, 3), 0).missing == ("building",)


def test_files_are_not_overwritten_unasked(tmp_path, scene, source):
    out = tmp_path / "labels.tif"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_label_raster(scene, source, out)
    assert out.read_text() == "mine"
    write_label_raster(scene, source, out, overwrite=True)
    assert rasterio.open(out).count == 1
    with pytest.raises(OutputError, match="is what it would be made from"):
        write_label_raster(scene, source, tmp_path / "scene.tif", overwrite=True)


class Torn:
    """A source that gives up."""

    credit = ""

    def __init__(self, scheme):
        self.scheme = scheme

    def read(self, geobox):
        raise LabelError("torn")


def test_a_failure_leaves_nothing(tmp_path, scene, scheme):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LabelError, match="torn"):
        write_label_raster(scene, Torn(scheme), tmp_path / "labels.tif")
    assert sorted(tmp_path.iterdir()) == before
    old = tmp_path / "old.tif"
    old.write_text("mine")
    with pytest.raises(LabelError, match="torn"):
        write_label_raster(scene, Torn(scheme), old, overwrite=True)
    assert old.read_text() == "mine"


def test_folders_that_cannot_be_written(tmp_path, scene, source):
    with pytest.raises(OutputError, match="no folder"):
        write_label_raster(scene, source, tmp_path / "nowhere" / "labels.tif")
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user writes into read-only folders")
    with pytest.raises(GeopipeError, match="cannot write"):
        write_label_raster(scene, source, closed / "labels.tif")
    assert list(closed.iterdir()) == []


def test_a_disk_that_refuses(tmp_path, scene, source, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=r"labels\.tif: the file system is read-only"):
        write_label_raster(scene, source, tmp_path / "labels.tif")
