"""A scene mapped tile by tile: the same map whoever computes it and however it is cut."""

import math
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from pyproj import Geod, Transformer
from tiny_place import GSD, LEFT, TOP, draw_place, lively, write_scene

from geopipe.errors import ConfigError, GridError, JobError, SceneError
from geopipe.grid import Window, ground_gsd
from geopipe.mapping import (
    LOCAL,
    WORK,
    Budget,
    Engine,
    Workers,
    choose_device,
    forget_tiles,
    map_scene,
    plan_map,
)
from geopipe.mapping.tile import TileJob, score_window
from geopipe.raster import Scene
from geopipe.raster.cog import write_class_cog

pytestmark = pytest.mark.usefixtures("one_thread")


def mapped(place, folder, *, core=None, workers=LOCAL, **options):
    folder.mkdir(exist_ok=True)
    engine = Engine("cpu", workers, Budget(core))
    return map_scene(place.scene, place.model_file, folder, engine, **options)


def finished(class_map, target, place):
    write_class_cog(class_map, target, place.model.scheme, {"credit": "me"})


def read(path):
    with rasterio.open(path) as src:
        return src.read()


@pytest.fixture(scope="module")
def here(place, tmp_path_factory):
    """The map of this process, 6 tiles."""
    return mapped(place, tmp_path_factory.mktemp("here") / "map", core=256, with_scores=True)


def test_the_map_has_the_scenes_pixels_and_255_exactly_where_it_is_not_valid(place, here):
    valid = place.scene.read().valid
    assert not valid[:24, :24].any()
    for path, bands in ((here.classes[-1], 1), (here.scores, 3)):
        with rasterio.open(path) as src:
            assert (src.shape, src.count, src.crs) == (place.scene.shape, bands, 2154)
            assert src.transform == place.scene.geobox.affine
            assert src.nodata == 255
            np.testing.assert_array_equal((src.read() != 255).all(axis=0), valid)
    ids = read(here.classes[-1])[0][valid]
    assert set(np.unique(ids)) == {0, 1, 2}, "the model of the test should see all classes"


def test_the_map_is_what_the_whole_scene_at_once_gives(place, here):
    (scores,) = score_window(place.model, place.scene, Window.of_shape(place.scene.shape))
    valid = place.scene.read().valid
    wrong = (read(here.classes[-1])[0] != scores.argmax(0).numpy()) & valid
    first, second = scores.topk(2, dim=0).values
    assert not (wrong & (first - second > 1e-4).numpy()).any()
    stored = read(here.scores)[:, valid].astype(int)
    np.testing.assert_allclose(stored, 250 * scores.softmax(0).numpy()[:, valid], atol=0.51)


def test_workers_give_the_same_bytes_as_this_process(place, here, tmp_path, cluster):
    """Those of a cluster; the local ones of ``--workers`` do so in engine/test_cluster.py."""
    finished(here.classes[-1], tmp_path / "here.tif", place)
    expected = (tmp_path / "here.tif").read_bytes()
    workers = Workers(scheduler=cluster)
    other = mapped(place, tmp_path / "cluster", core=256, with_scores=True, workers=workers)
    finished(other.classes[-1], tmp_path / "cluster.tif", place)
    assert (tmp_path / "cluster.tif").read_bytes() == expected
    np.testing.assert_array_equal(read(other.scores), read(here.scores))
    np.testing.assert_allclose(other.areas, here.areas, rtol=1e-12)


def test_a_cluster_in_another_folder_finds_a_scene_given_by_a_relative_path(
    place, here, tmp_path, cluster, monkeypatch
):
    monkeypatch.chdir(place.model_path.parent)
    there = replace(
        place,
        scene=Scene.open("scene.tif"),
        model_path=place.model_path.relative_to(place.model_path.parent),
    )
    other = mapped(there, tmp_path / "map", core=256, workers=Workers(scheduler=cluster))
    np.testing.assert_array_equal(read(other.classes[-1]), read(here.classes[-1]))


def test_how_a_scene_is_cut_does_not_show(tmp_path, place):
    # 0.3 m: the net's pixels are no whole number of the scene's, the hardest case.
    rng = np.random.default_rng(1)
    data = rng.integers(1, 255, (3, 1100, 1150)).astype(np.uint8)
    path = write_scene(tmp_path / "s.tif", data, transform=Affine(0.3, 0, LEFT, 0, -0.3, TOP))
    large = replace(place, scene=Scene.open(path))
    cuts = [
        read(mapped(large, tmp_path / str(core), core=core).classes[0])[0]
        for core in (256, 512, 1024)
    ]
    (scores,) = score_window(large.model, large.scene, Window.of_shape(large.scene.shape))
    first, second = scores.topk(2, dim=0).values
    margin = (first - second).numpy()
    assert len(np.unique(cuts[0])) == 3
    for a, b in pairwise(cuts):
        assert (a != b).mean() <= 1e-6
        assert (margin[a != b] < 1e-4).all()


def test_iterations_asked_for_come_in_order_and_differ(place, tmp_path):
    files = mapped(place, tmp_path / "m", iterations=(0, 1, 2))
    assert [p.name for p in files.classes] == [f"classes-{t}.tmp.vrt" for t in (0, 1, 2)]
    assert files.scores is None
    maps = [read(p)[0] for p in files.classes]
    assert all((a != b).any() for a, b in pairwise(maps))
    last = mapped(place, tmp_path / "last")
    np.testing.assert_array_equal(read(last.classes[0])[0], maps[-1])


@pytest.mark.parametrize("crs", ["EPSG:2154", "EPSG:3857"])
def test_areas_are_pixels_times_their_ground_area(place, tmp_path, crs):
    place_there = (LEFT, TOP) if crs == "EPSG:2154" else (450_000, 5_740_000)  # 45.8 N
    data = np.random.default_rng(0).integers(1, 255, (3, 300, 280)).astype(np.uint8)
    path = write_scene(
        tmp_path / "s.tif",
        data,
        crs=crs,
        transform=Affine(GSD, 0, place_there[0], 0, -GSD, place_there[1]),
    )
    there = replace(place, scene=Scene.open(path))
    files = mapped(there, tmp_path / "m", core=256)
    pixels = np.bincount(read(files.classes[0]).ravel(), minlength=3)
    metres = math.prod(ground_gsd(there.scene.geobox))
    np.testing.assert_allclose(files.areas, pixels * metres, rtol=1e-4)
    shrunk = math.cos(math.radians(45.77)) ** 2 if crs == "EPSG:3857" else 1
    np.testing.assert_allclose(sum(files.areas), data[0].size * GSD**2 * shrunk, rtol=5e-3)


def test_areas_follow_the_scale_of_the_map_across_a_tall_scene(place, tmp_path):
    """Web Mercator, 47 km tall, only the south valid: the centre's scale would be 0.4 % off."""
    data = np.zeros((3, 3072, 16), np.uint8)
    data[:, -512:] = np.random.default_rng(0).integers(1, 255, (3, 512, 16))
    at = Affine(22, 0, 450_000, 0, -22, 5_740_000)
    model = replace(place.model, gsd=22.0)
    model.save(tmp_path / "model.safetensors")
    scene = Scene.open(
        write_scene(tmp_path / "s.tif", data, crs="EPSG:3857", transform=at, nodata=0)
    )
    there = replace(place, scene=scene, model=model, model_path=tmp_path / "model.safetensors")
    files = mapped(there, tmp_path / "m", core=256)
    south = shapely.box(450_000, 5_740_000 - 3072 * 22, 450_352, 5_740_000 - 2560 * 22)
    to_lonlat = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    ring = shapely.transform(shapely.segmentize(south, 50), to_lonlat.transform, interleaved=False)
    expected = abs(Geod(ellps="WGS84").geometry_area_perimeter(ring)[0])
    np.testing.assert_allclose(sum(files.areas), expected, rtol=3e-4)


def test_a_tile_that_fails_is_named_and_the_others_stay_for_the_next_run(
    place, here, tmp_path, monkeypatch
):
    works, computed = TileJob.__call__, []

    def fails(job, tile):
        if tile.index == 4:
            raise RuntimeError("lightning")
        return works(job, tile)

    def counts(job, tile):
        computed.append(tile.index)
        return works(job, tile)

    folder = tmp_path / "m"
    monkeypatch.setattr(TileJob, "__call__", fails)
    text = r"tile 4 \(rows 256-300, columns 256-512\): RuntimeError: lightning"
    with pytest.raises(JobError, match=text):
        mapped(place, folder, core=256, with_scores=True)
    assert {p.name for p in folder.iterdir()} == set(WORK)
    monkeypatch.setattr(TileJob, "__call__", counts)
    again = mapped(place, folder, core=256, with_scores=True)
    assert 4 in computed
    assert len(computed) <= 2
    np.testing.assert_array_equal(read(again.classes[0]), read(here.classes[0]))
    np.testing.assert_array_equal(read(again.scores), read(here.scores))
    np.testing.assert_allclose(again.areas, here.areas)
    forget_tiles(folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_a_damaged_scene_is_named_with_tile_and_place(place, tmp_path, cluster, where):
    path, _ = draw_place(tmp_path, "cut", (300, 560))
    broken = replace(place, scene=Scene.open(path))
    os.truncate(path, path.stat().st_size // 2)
    workers = LOCAL if where == "here" else Workers(scheduler=cluster)
    text = r"tile \d \(rows .*\): cannot read rows \d+.*cut.tif"
    with pytest.raises(JobError, match=text) as caught:
        mapped(broken, tmp_path / "m", core=256, with_scores=True, workers=workers)
    assert "`skip_bad`" in caught.value.hint


def test_a_disk_without_room_is_told_before_the_first_tile(place, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(SceneError, match=r"has 0\.0 GB free, the map needs"):
        mapped(place, tmp_path / "m", with_scores=True)
    assert not list((tmp_path / "m").iterdir())


def test_a_core_off_the_blocks_is_an_error_that_names_a_good_one(place, tmp_path):
    with pytest.raises(GridError, match="a tile size of 300 is not a multiple of 256; try 256"):
        mapped(place, tmp_path / "m", core=300)


def test_the_plan_counts_tiles_and_grows_with_what_is_asked_for(place):
    plan = plan_map(place.scene, place.model_file, Engine("cpu", budget=Budget(256)))
    assert (plan.tiles, plan.need.core) == (6, 256)
    assert plan.net_shape == (150, 280)
    assert plan.halo_px == 2 * place.model.net.halo
    assert 0 < plan.seconds < 60
    assert plan.need.memory_mb > 300
    engine = Engine("cpu", Workers(4), Budget(512))
    more = plan_map(place.scene, place.model_file, engine, with_scores=True)
    assert more.tiles == 2
    assert more.need.memory_mb > 3 * plan.need.memory_mb
    assert more.disk_mb >= plan.disk_mb


def test_a_rewritten_model_is_read_again(place, tmp_path, make_model):
    path = tmp_path / "model.safetensors"
    maps = []
    for seed in (3, 0):
        model = lively(make_model(seed=seed))
        model.save(path)
        there = replace(place, model=model, model_path=path)
        maps.append(read(mapped(there, tmp_path / str(seed)).classes[0]))
    assert (maps[0] != maps[1]).any()


def test_tf32_without_a_gpu_is_refused(place, tmp_path):
    with pytest.raises(ConfigError, match="tf32 is arithmetic of GPUs, the device is cpu"):
        map_scene(place.scene, place.model_file, tmp_path, Engine("cpu", precision="tf32"))
    assert not list(tmp_path.iterdir())


def test_the_device_is_the_one_asked_for_or_an_error(monkeypatch):
    assert choose_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ConfigError, match=r"no device cuda: 0 GPU.*choose the device cpu"):
        choose_device("cuda")
    with pytest.raises(ConfigError, match="'gpu' is not one of auto, cpu, cuda:N"):
        choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda:0"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(ConfigError, match=r"no device cuda:2: 2 GPU"):
        choose_device("cuda:2")
    for wrong in ("cuda:x", "cudafoo", "cuda1"):
        with pytest.raises(ConfigError, match=f"'{wrong}' is not one of"):
            choose_device(wrong)
