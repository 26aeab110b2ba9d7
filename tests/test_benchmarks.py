"""The bench: its peers do what geopipe does, and its figures say what the runs were."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geopipe.learn import BaseNetworkPlan

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
try:
    from benchmarks import figures, page, runners, training
    from benchmarks import generated_scenes as scenes
    from benchmarks import memory_monitor as watch
    from benchmarks import run as bench
    from benchmarks.agreement import equal_pixels
    from benchmarks.peers import loops
    from benchmarks.peers.as_written import AsWritten, disagreement
    from benchmarks.peers.dask_overlap import dask_overlap
    from benchmarks.peers.job import Job
    from benchmarks.peers.threaded import tuned_threads
    from benchmarks.peers.windows import patches
finally:
    sys.path.remove(str(ROOT))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_model):
    """(folder, scene of 1,096 px, model): two windows each way, the second ones narrow."""
    from tiny_place import lively, write_scene

    folder = tmp_path_factory.mktemp("bench")
    tile = folder / "tile.tif"
    rng = np.random.default_rng(0)
    coarse = rng.integers(20, 230, (3, 25, 25)).astype(np.uint8)
    write_scene(tile, coarse.repeat(8, 1).repeat(8, 2))
    model = lively(make_model(iterations=2))
    model.save(folder / "model.safetensors")
    return folder, scenes.make_scene(folder, 1096, tile), folder / "model.safetensors"


@pytest.fixture(scope="module")
def reference(place):
    """geopipe's classes of the scene, from its own scoring."""
    from geopipe.checkpoint import Checkpoint
    from geopipe.grid import Window
    from geopipe.mapping.tile import best_class, score_window
    from geopipe.raster import Scene

    folder, path, model = place
    scene = Scene.open(path)
    (scores,) = score_window(Checkpoint.load(model), scene, Window.of_shape(scene.shape))
    classes = best_class(scores).numpy()
    out = folder / "reference.tif"
    with rasterio.open(path) as src:
        profile = Job(path, model, out).profile(src)
    with rasterio.open(out, "w", **profile) as dst:
        dst.write(classes, 1)
    return out, classes


def test_scene_mirrors_its_tile_with_noise(place):
    folder, path, _ = place
    with rasterio.open(path) as src, rasterio.open(folder / "tile.tif") as tile:
        scene, pixels = src.read().astype(float), tile.read().astype(float)
        assert src.block_shapes[0] == (512, 512)
        assert src.compression.name == "deflate"
        assert src.res == (0.5, 0.5)
    around = 1096 - 200
    noise = scene - np.pad(pixels, ((0, 0), (0, around), (0, around)), mode="symmetric")
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(scenes.NOISE, rel=0.02)
    for one, other in (  # no two pixels share their noise: bands, copies of the tile, strips
        (noise[0], noise[1]),
        (noise[:, :, :200], noise[:, :, 399:199:-1]),
        (noise[:, :512], noise[:, 512:1024]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


def test_scene_is_kept_and_its_size_fits_the_nets(place):
    folder, path, _ = place
    before = path.stat().st_mtime_ns
    assert scenes.make_scene(folder, 1096, folder / "no tile") == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="1100"):
        scenes.make_scene(folder, 1100)


@pytest.mark.parametrize("part", [None, 1032])
def test_patches_cover_every_pixel_once(part):
    seen = np.zeros((1096, 2056), int)
    for patch in patches(seen.shape, part):
        seen[patch.core.slices] += 1
        assert patch.net.row % 4 == patch.net.col % 4 == 0
    covered = (part or 1096, part or 2056)
    assert (seen[: covered[0], : covered[1]] == 1).all()
    assert seen.sum() == np.prod(covered)


@pytest.mark.parametrize(
    ("peer", "most"),
    # dask knows no border of the scene: its last pixel is interpolated with what lies beyond.
    [(loops.plain, 2), (loops.tuned, 2), (tuned_threads, 2), (dask_overlap, 60)],
)
def test_a_peer_makes_the_map_that_geopipe_makes(peer, most, place, reference):
    folder, scene, model = place
    expected, classes = reference
    assert np.bincount(classes.ravel()).min() > 1000  # no empty agreement
    out = folder / f"{peer.__name__}.tif"
    done = peer(Job(scene, model, out))
    assert done.pixels == 1096 * 1096
    assert done.seconds > 0
    assert (1 - equal_pixels(out, expected)) * done.pixels < most + 0.5


def test_the_slow_peer_maps_a_part(place, reference):
    folder, scene, model = place
    done = loops.as_written(Job(scene, model, folder / "part.tif", part=256))
    assert done.pixels == 256 * 256
    assert equal_pixels(folder / "part.tif", reference[0]) > 1 - 3 / 256**2


def test_equal_pixels_counts_them(place, reference):
    folder, (expected, classes) = place[0], reference
    with rasterio.open(expected) as src:
        profile = src.profile
    changed = classes[:1040].copy()
    changed[1030:1035, 7] ^= 1
    with rasterio.open(folder / "changed.tif", "w", **profile | {"height": 1040}) as out:
        out.write(changed, 1)
    assert equal_pixels(folder / "changed.tif", expected) == 1 - 5 / changed.size


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("recurrent", [False, True])
def test_as_written_is_the_folded_net(agnostic, recurrent):
    import torch

    from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel

    torch.manual_seed(0)
    refine = RefinementRNN(4, 2, iterations=3, class_agnostic=agnostic, recurrent=recurrent)
    net = SegmentationModel(MnihCNN(4, 2), refine).eval()
    twin = AsWritten(net)
    assert disagreement(twin, net, 4) < 1e-4
    with torch.no_grad():
        twin.steps[0].mlps[1][2].bias += 0.5
    with pytest.raises(ValueError, match="differs"):
        disagreement(twin, net, 4)


def test_watch_sums_a_tree_and_waits_for_its_end():
    child = "x = bytearray(80_000_000); import time; time.sleep(1.5); print('child')"
    start_child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    parent = f"x = bytearray(60_000_000); {start_child}"
    seen = watch.run_monitored([sys.executable, "-c", parent], os.environ)
    assert seen.stdout == "child\n"
    assert 140 < seen.peak_rss_mb < 240
    assert seen.peak_pss_mb is None or 135 < seen.peak_pss_mb < seen.peak_rss_mb + 1
    assert seen.wall > 1.5
    assert max(mb for _, mb in seen.curve) == pytest.approx(seen.peak_rss_mb, abs=0.1)
    assert len(seen.curve) <= watch.CURVE


def test_watch_tells_why_a_program_failed():
    with pytest.raises(watch.RunError, match="exit code 1: ValueError: no scene"):
        watch.run_monitored([sys.executable, "-c", "raise ValueError('no scene')"], os.environ)


def fake(seconds, rss=300.0, pixels=10_000**2):
    watched = watch.MonitoredRun("", seconds + 2, rss, rss - 50, ((0.0, 10.0), (1.0, rss)))
    return runners.Run(seconds, seconds + 2, pixels, watched, {"threads": 2})


def test_ratios_are_taken_within_a_round():
    rounds = [{"limit": fake(t), "geopipe": fake(1.05 * t)} for t in (10, 40, 20)]
    found = figures.ratio(rounds, "geopipe", "limit")
    assert (found.median, found.lowest, found.highest) == pytest.approx((1.05, 1.05, 1.05))
    assert figures.ratio([{"limit": fake(1)}, {"geopipe": fake(2)}], "geopipe", "limit") is None


def test_targets_compare_what_was_measured():
    small = [{"geopipe": fake(2, 600), "limit": fake(2)}]
    middle = [
        {"geopipe": fake(11.5), "limit": fake(10), "tuned": fake(12), "as-written": fake(150)}
    ]
    large = [{"geopipe": fake(46, 610)}, {"geopipe": fake(46, 660)}]
    scenes_run = {4000: small, 10_000: middle, 20_000: large}
    found = {t.name: t.to_dict() for t in figures.targets(scenes_run, [0.2, 0.6, 0.3])}
    assert found["geopipe's loop over the nets alone"]["met"] is False
    assert found["geopipe's loop over the nets alone"]["measured"] == 1.15
    assert found["tuned loop over geopipe's"]["met"] is True
    assert found["refinement as written over geopipe's loop"]["met"] is True
    assert found["torchgeo over geopipe's loop"]["met"] is None
    assert found["peak RSS, large scene over small"]["measured"] == 1.1
    assert found["peak RSS, large scene over small"]["met"] is False
    assert found["peak RSS, MB"]["met"] is True
    assert found["geopipe --help, s"]["measured"] == 0.3


def test_a_run_of_a_part_is_scaled(tmp_path, monkeypatch):
    told = '{"seconds": 3.0, "pixels": 1000000, "threads": 2, "notes": {}}'
    seen = watch.MonitoredRun(f"warning\n{told}\n", 5.0, 100.0, None, ())
    monkeypatch.setattr(runners, "run_monitored", lambda command, env: seen)
    done = runners.run("as-written", Path("s.tif"), 2000, runners.Setting(tmp_path, tmp_path))
    assert done.seconds == 12.0
    assert (
        figures.summary("as-written", [{"as-written": done}], 2000, 1.0)["scaled_from_pixels"]
        == 10**6
    )


def test_geopipe_tells_its_loop(tmp_path, monkeypatch):
    told = json.dumps({"map": str(tmp_path), "seconds": 9.5, "mapping_seconds": 7.0})
    seen, lines = watch.MonitoredRun(told, 11.0, 100.0, None, ()), []
    monkeypatch.setattr(
        runners, "run_monitored", lambda command, env: lines.append(command) or seen
    )
    left = tmp_path / "geopipe-2000.part"
    left.mkdir()
    setting = runners.Setting(tmp_path / "model", tmp_path, precision="bfloat16")
    done = runners.run("geopipe", tmp_path / "s.tif", 2000, setting)
    assert not left.exists()  # or tiles of an earlier run would be taken as mapped
    assert (done.seconds, done.wall, done.pixels) == (7.0, 11.0, 2000**2)
    assert done.notes == {"map_and_bundle_seconds": 9.5}
    given = ["map", tmp_path / "s.tif", tmp_path / "model", "-o", left.with_suffix("")]
    assert lines[0][1:6] == [*map(str, given)]
    runners.run("geopipe-2-workers", tmp_path / "s.tif", 2000, setting)
    assert " --workers 2 --threads 2 --precision bfloat16 --json" in " ".join(lines[1])
    silent = watch.MonitoredRun("", 1.0, 1.0, None, ())
    monkeypatch.setattr(runners, "run_monitored", lambda command, env: silent)
    with pytest.raises(watch.RunError, match="did not print"):
        runners.run("geopipe", tmp_path / "s.tif", 2000, setting)


def test_smoke(place, capsys):
    """The bench, its runners in processes of their own, on a scene that is there already."""
    folder, _, model = place
    scenes.make_scene(folder, 512, folder / "tile.tif")
    out = folder / "results" / "bench.json"
    words = ["--smoke", "--folder", folder, "--model", model, "--out", out]
    assert bench.main([str(w) for w in words]) == 0
    told = json.loads(out.read_text())
    ran = told["sizes"]["512"]["runners"]
    assert set(ran) == {"limit", "plain"}
    assert all(r["median_seconds"] > 0 and r["peak_rss_mb"] > 100 for r in ran.values())
    assert ran["plain"]["ratio_to_limit"]["median"] == pytest.approx(
        ran["plain"]["median_seconds"] / ran["limit"]["median_seconds"], rel=0.05
    )
    measured = [t["name"] for t in told["targets"] if t["met"] is not None]
    assert measured == ["geopipe --help, s"]
    assert str(folder) not in out.read_text()
    assert page.markdown(told) == out.with_suffix(".md").read_text()
    assert capsys.readouterr().out == page.markdown(told) + "\n"


def test_training_is_measured_for_each_row_idle_and_busy(one_thread):
    plan = BaseNetworkPlan(batch=2, patch=16, steps=120, precision="float32")
    ways = [training.Row("CNN", "short", plan, shards) for shards in (1, None)]
    seconds = training.measure(ways, 2)
    assert list(seconds) == ["CNN, short, whole batches", "CNN, short, shards"]
    assert all(len(seconds[name][state]) == 2 for name in seconds for state in ("idle", "busy"))
    assert all(s > 0 for found in seconds.values() for times in found.values() for s in times)


def test_the_training_table_has_medians_and_minutes():
    row = {"steps": 600, "idle": [9.0, 0.5, 0.1], "busy": [1.0, 0.75, 0.2]}
    told = {
        "command": "c",
        "machine": {"cores": 2, "cpu": "x"},
        "load_before": 0,
        "seconds_per_step": {"a": row},
    }
    last = training.markdown(told).splitlines()[-1]
    assert last == "| a | 600 | 0.50 | 5.0 | 0.75 | 7.5 | 1.50 |"
