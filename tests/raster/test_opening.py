"""Datasets that stay open, GDAL's cache, and files that lost a part."""

import logging
import os
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config

from geopipe.errors import SceneError
from geopipe.grid import Window
from geopipe.raster import Scene, opening
from geopipe.raster.scene import opened


def grey(value, height=40, width=50):
    return np.full((1, height, width), value, np.uint8)


@pytest.fixture
def opens(monkeypatch):
    """The paths opened so far; files count as settled from the first moment on."""
    opening.release()
    monkeypatch.setattr(opening, "MIN_AGE_S", -60)
    monkeypatch.setattr(opening, "_MAX_FILES_CHECKED", 100)
    paths = []
    real = rasterio.open

    def counted(path, *args, **kwargs):
        paths.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(opening.rasterio, "open", counted)
    yield paths
    opening.release()


def test_a_scene_read_twice_is_opened_once(make_raster, opens):
    scene = Scene.open(make_raster(grey(3)))
    opens.clear()
    for row in range(5):
        assert (scene.read(Window(row, 0, 9, 9)).data == 3).all()
    assert len(opens) == 1


def test_a_file_changed_a_moment_ago_is_not_kept_open(make_raster, opens, monkeypatch):
    monkeypatch.setattr(opening, "MIN_AGE_S", 60)
    scene = Scene.open(make_raster(grey(3)))
    opens.clear()
    scene.read()
    scene.read()
    assert len(opens) == 2


def rewritten_anew(path, make_raster):
    path.unlink()
    make_raster(grey(5), path.name)


def rewritten_in_place(path, make_raster):
    stat = path.stat()
    with rasterio.open(path, "r+") as dst:
        dst.write(grey(5))
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as some copying tools do


def replaced(path, make_raster):
    make_raster(grey(5), "other.tif").replace(path)


@pytest.mark.parametrize("change", [rewritten_anew, rewritten_in_place, replaced])
def test_a_file_rewritten_under_its_path_is_noticed(make_raster, opens, change):
    path = make_raster(grey(3))
    scene = Scene.open(path)
    assert (scene.read().data == 3).all()
    time.sleep(0.02)  # the clock of a file system may tick in steps of 4 or 10 ms
    change(path, make_raster)
    assert (scene.read().data == 5).all()


def test_a_mask_that_appears_beside_the_file_is_noticed(make_raster, opens):
    path = make_raster(grey(3))
    scene = Scene.open(path)
    assert scene.read().valid.all()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dst:
        dst.write_mask(np.zeros((40, 50), bool))
    assert path.with_name("scene.tif.msk").exists()
    assert not scene.read().valid.any()


def mosaic(path, *names):
    parts = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{n}</SourceFilename><SourceBand>1'
        f'</SourceBand><SrcRect xOff="0" yOff="0" xSize="50" ySize="40"/>'
        f'<DstRect xOff="{50 * i}" yOff="0" xSize="50" ySize="40"/></SimpleSource>'
        for i, n in enumerate(names)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{50 * len(names)}" rasterYSize="40"><SRS>EPSG:2154</SRS>'
        "<GeoTransform>789000, 1, 0, 6501000, 0, -1</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1">{parts}</VRTRasterBand></VRTDataset>'
    )
    return path


def test_a_source_of_a_vrt_rewritten_under_its_path_is_noticed(make_raster, opens, tmp_path):
    paths = [make_raster(grey(v), f"{v}.tif") for v in (1, 2)]
    scene = Scene.open(mosaic(tmp_path / "m.vrt", "1.tif", "2.tif"))
    opens.clear()
    assert set(np.unique(scene.read().data)) == {1, 2}
    scene.read()
    assert len(opens) == 1
    time.sleep(0.02)
    rewritten_in_place(paths[1], make_raster)
    assert set(np.unique(scene.read().data)) == {1, 5}


def test_the_many_sources_of_a_vrt_are_looked_at_now_and_then(
    make_raster, opens, tmp_path, monkeypatch
):
    make_raster(grey(1), "1.tif")
    monkeypatch.setattr(opening, "_MAX_FILES_CHECKED", 2)
    scene = Scene.open(mosaic(tmp_path / "m.vrt", *["1.tif"] * 3))
    scene.read()
    looked = []
    real = opening._stamps
    monkeypatch.setattr(opening, "_stamps", lambda files: looked.extend(files) or real(files))
    monkeypatch.setattr(opening, "MIN_AGE_S", 60)
    scene.read()
    assert [Path(f).name for f in looked] == ["m.vrt"]
    monkeypatch.setattr(opening, "MIN_AGE_S", 0)
    scene.read()
    assert str(tmp_path / "1.tif") in looked


def test_relative_paths_follow_the_working_folder(make_raster, opens, tmp_path, monkeypatch):
    for value, folder in ((1, "a"), (2, "b")):
        (tmp_path / folder).mkdir()
        make_raster(grey(value), f"{folder}/s.tif")
    for value, folder in ((1, "a"), (2, "b"), (1, "a")):
        monkeypatch.chdir(tmp_path / folder)
        assert (Scene.open("s.tif").read().data == value).all()


def test_a_scene_of_another_size_than_described(make_raster, opens):
    scene = Scene.open(make_raster(grey(3)))
    scene.read()
    make_raster(grey(3, 40, 49))
    with pytest.raises(SceneError, match=r"1 bands of 40 x 49 pixels now, it was 40 x 50"):
        scene.read(Window(0, 0, 5, 5))


def open_files(folder):
    fds = Path("/proc/self/fd")
    links = [str(fd.readlink()) for fd in fds.iterdir() if fd.is_symlink()]
    return [name for name in links if name.startswith(str(folder))]


linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")


@linux
def test_no_more_than_a_few_files_stay_open(make_raster, opens, tmp_path):
    for i in range(opening.MAX_IDLE + 3):
        Scene.open(make_raster(grey(i), f"{i}.tif")).read()
    assert len(open_files(tmp_path)) == opening.MAX_IDLE
    opening.release()
    assert not open_files(tmp_path)


@linux
def test_threads_hand_a_file_on_and_none_stays_open_after_an_error(make_raster, opens, tmp_path):
    path = make_raster(np.random.default_rng(0).integers(0, 255, (1, 64, 64), np.uint8))
    scene = Scene.open(path)
    seen = []
    worker = threading.Thread(target=lambda: seen.extend([scene.read(), open_files(tmp_path)]))
    worker.start()
    worker.join()
    assert len(seen[1]) == 1
    scene.read()
    assert open_files(tmp_path) == seen[1], "what another thread opened serves this one"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(SceneError, match="rows 0-64"):
        scene.read()
    assert not open_files(tmp_path)
    path.unlink()
    with pytest.raises(SceneError, match="there is no file"):
        scene.read()


def test_threads_read_side_by_side(make_raster, opens):
    data = np.random.default_rng(0).integers(0, 255, (3, 256, 256), np.uint8)
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
    scene = Scene.open(make_raster(data, **tiles))
    opens.clear()

    def equal(seed):
        row, col = np.random.default_rng(seed).integers(0, 200, 2).tolist()
        read = scene.read(Window(row, col, 56, 56)).data
        return np.array_equal(read, data[:, row : row + 56, col : col + 56])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(equal, range(200)))
    assert len(opens) <= 4


SCRIPT = """
import os, sys, rasterio
from rasterio.env import get_gdal_config
from geopipe.raster import (Scene, opening)
opening.SETTLED_S = -60
scene = Scene.open(sys.argv[1])
scene.read()
if hasattr(os, "fork") and len(sys.argv) > 2:
    child = os.fork()
    assert scene.read().valid.all()
    if child:
        assert os.waitpid(child, 0)[1] == 0
print(get_gdal_config("GDAL_CACHEMAX") >> 20)
"""


def run(path, *args, **env):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_process_ends_well_with_files_open_and_its_cache_is_bounded(make_raster):
    result = run(make_raster(grey(3)), "fork")
    assert result.stderr == ""
    assert result.stdout.split()[-1] == str(opening.CACHE_MB)


def test_a_cache_size_that_the_user_chose(make_raster, monkeypatch):
    def refuse(name, value):
        raise AssertionError("the cache was resized")

    path = make_raster(grey(3))
    assert run(path, GDAL_CACHEMAX="33").stdout.split() == ["33"]
    with rasterio.Env(gdal_cachemax=7 << 20), monkeypatch.context() as patched:
        patched.setattr(opening, "set_gdal_config", refuse)
        with opened(path):
            assert get_gdal_config("GDAL_CACHEMAX") == 7 << 20
    with opened(path):
        assert get_gdal_config("GDAL_CACHEMAX") == opening.CACHE_MB << 20


# Files that lost a part


def directories(path):
    """Where in a little-endian TIFF its directories start."""
    data = path.read_bytes()
    (at,) = struct.unpack_from("<I", data, 4)
    while at:
        yield at
        (entries,) = struct.unpack_from("<H", data, at)
        (at,) = struct.unpack_from("<I", data, at + 2 + 12 * entries)


def test_a_file_cut_off_before_its_mask_is_refused(make_raster):
    """GDAL opens it and says that all pixels are valid."""
    path = make_raster(grey(3), mask=np.eye(40, 50, dtype=bool))
    image, mask = directories(path)
    assert image < mask
    scene = Scene.open(path)
    path.write_bytes(path.read_bytes()[:mask])
    with rasterio.open(path) as src:
        assert src.read_masks(1).all()
    for attempt in (lambda: Scene.open(path), scene.read, scene.read):
        with pytest.raises(SceneError, match=r"cannot read all of what .* truncated"):
            attempt()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_whose_nodata_value_is_lost_is_refused(make_raster):
    """GDAL opens it and only warns that it ignores the tag."""
    path = make_raster(grey(3).astype("float32"), nodata=3)
    with rasterio.open(path, "r+") as dst:  # puts what it says of itself at the end
        dst.update_tags(LONG="x" * 500)
        dst.nodata = 3.0000000000000004
    scene = Scene.open(path)
    assert not scene.read().valid.any()
    whole = path.read_bytes()
    answers = []
    for cut in range(1, 1500, 25):
        path.write_bytes(whole[:-cut])
        try:
            answers.append(scene.read().valid.any())
        except SceneError:
            answers.append("refused")
    assert set(answers) <= {"refused", False}
    assert answers.count("refused") > 40


@pytest.mark.parametrize("level", [logging.NOTSET, logging.INFO, logging.ERROR])
def test_listening_changes_no_log_of_others(make_raster, level, caplog):
    """rasterio tells GDAL's errors at INFO: seen where INFO was asked for, heard in any case."""
    path = make_raster(grey(3), mask=np.eye(40, 50, dtype=bool))
    path.write_bytes(path.read_bytes()[: list(directories(path))[1]])
    caplog.set_level(level, "rasterio")
    with pytest.raises(SceneError, match="cannot read all"):
        Scene.open(path)
    told = any("signalled an error" in r.getMessage() for r in caplog.records)
    assert told == (level == logging.INFO)


def test_a_logger_that_was_switched_off_still_hears(make_raster, monkeypatch):
    monkeypatch.setattr(logging.getLogger("rasterio._env"), "disabled", True)
    test_a_file_cut_off_before_its_mask_is_refused(make_raster)
