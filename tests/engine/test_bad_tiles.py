"""Damaged scenes and full disks: one line says where; the rest of the work is kept."""

import json
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from stopping import done_tiles

from geopipe.mapping import map_rasters
from geopipe.mapping import scene as mapping
from geopipe.workflow import bundle as bundles

pytestmark = pytest.mark.usefixtures("one_thread")

BAD = [1, 2, 4, 5]
"""Tiles that see the block in the scene's lower right corner, with their halo of 80 px."""


@pytest.fixture(scope="module")
def damaged(place, tmp_path_factory):
    """The place, its scene in blocks of which the last one is damaged in its middle."""
    whole = tmp_path_factory.mktemp("damaged") / "whole.tif"
    rasterio.shutil.copy(
        place.scene,
        whole,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
        driver="GTiff",
    )
    with rasterio.open(whole) as src:
        at, size = (
            int(src.get_tag_item(f"BLOCK_{name}_2_1", "TIFF", 1)) for name in ("OFFSET", "SIZE")
        )
    data = bytearray(whole.read_bytes())
    data[at + size // 2 : at + size] = b"\xff" * (size - size // 2)
    scene = whole.with_name("scene.tif")
    scene.write_bytes(data)
    return replace(place, scene=scene)


def read(path):
    with rasterio.open(path) as src:
        return src.read()


def test_a_damaged_block_is_named_with_tile_place_and_scene(damaged, geopipe, tmp_path):
    for _ in range(2):  # by one thread: of two tiles that touch it, the first is named
        said = geopipe(*damaged.words(tmp_path / "map"), "--threads", 1)
        assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (1, "", 1)
        tile = "tile 1 (rows 0-256, columns 256-512): cannot read rows 0-300, columns 176-560"
        assert f"{tile} of {damaged.scene}: " in said.stderr
        assert said.stderr.endswith("; --skip-bad maps all other tiles\n")
        assert set(done_tiles(tmp_path / "map")) == {0}, "what is done is kept"


@pytest.mark.parametrize("threads", [1, 3])
def test_skip_bad_maps_all_else_and_says_so_everywhere(place, damaged, geopipe, tmp_path, threads):
    out = tmp_path / "map"
    said = geopipe(*damaged.words(out, "--skip-bad", "--json", "--threads", threads))
    assert said.exit_code == 3
    told = json.loads(said.stdout)["bad_tiles"]
    assert [int(line.split()[1]) for line in told] == BAD
    assert [line for line in said.stderr.splitlines() if line.startswith("bad: ")] == [
        f"bad: {line}" for line in told
    ]
    with rasterio.open(out / "classes.tif") as src:
        assert src.tags()["bad_tiles"] == "; ".join(told)
    page = (out / "report.html").read_text()
    assert "4 tiles could not be read and are nodata: tile 1 (rows 0-256, columns 256-512)" in page
    for name in ("classes.tif", "scores.tif"):
        (tmp_path / name).write_bytes(place.whole[name])
        expected = read(tmp_path / name)
        expected[:, :, 256:] = 255
        np.testing.assert_array_equal(read(out / name), expected)


def test_the_picture_of_a_damaged_scene_lacks_only_the_damage(damaged):
    from geopipe.raster import Scene
    from geopipe.report.map_report import downscale

    image = downscale(Scene.open(damaged.scene), 560)
    pixels = read(damaged.scene.with_name("whole.tif"))
    np.testing.assert_array_equal(image[:, 24:200, :500], pixels[:, 24:200, :500])
    assert (image[:, 270:, 520:] == 225).all()


# -- a disk that others fill


@pytest.fixture
def disk(tmp_path):
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True
        ).returncode
    ):
        pytest.skip("only root can make a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder, leaving):
    """Write until the disk is full but for some bytes."""
    size = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - leaving
    (folder / "others").write_bytes(bytes(max(size, 0)))


MOMENTS = {
    "tiles": (mapping.Journal, "add", 3, 0),
    "half a tile": (mapping.Journal, "add", 3, 20_000),
    "class map": (map_rasters, "write_class_cog", 1, 10_000),
    "scores": (map_rasters, "write_score_cog", 1, 80_000),
    "report": (bundles, "write_report", 1, 4_000),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_disk_that_gets_full_stops_the_map_until_there_is_room(
    place, geopipe, same_map, disk, monkeypatch, moment
):
    owner, name, count, leaving = MOMENTS[moment]
    works, calls = getattr(owner, name), []

    def fills(*args, **options):
        calls.append(1)
        if len(calls) == count:
            fill(disk, leaving)
        return works(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fills)
        said = geopipe(*place.words(disk / "map"))
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr.startswith("error: cannot write ")
    assert said.stderr.count("\n") == 1
    assert "the disk is full - make room" in said.stderr
    known = done_tiles(disk / "map")
    assert len(known) >= (2 if "tile" in moment else 6)
    (disk / "others").unlink()
    said = geopipe(*place.words(disk / "map"))
    assert said.exit_code == 0, said.stderr
    same_map(disk / "map", place)
