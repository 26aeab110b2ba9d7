"""What the parts of the check for a GPU measure with."""

import re
import stat
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from torch.nn import functional as F  # noqa: N812

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.gpu import crops, idle, roofs
    from benchmarks.gpu.agreement import Agreement
    from benchmarks.gpu.chips import data_folder
    from benchmarks.gpu.setting import SkippedError
    from benchmarks.gpu.tiles import sample_tile
finally:
    sys.path.remove(str(ROOT))

pytestmark = pytest.mark.usefixtures("one_thread")


def test_agreement_counts_what_differs_and_how_far_apart_its_scores_were():
    exact = torch.tensor([[[3.0, 1.0, 5.0, 0.0]], [[1.0, 1.5, 5.25, 9.0]]])
    other = exact.clone()
    other[0, 0, 1], other[0, 0, 3] = 2.0, 9.5  # another class; the second is not valid
    other[1, 0, 0] = 1.75
    found = Agreement()
    found.add(exact, exact, torch.tensor([[True, True, True, True]]))
    found.add(exact, other, torch.tensor([[True, True, True, False]]))
    assert (found.pixels, found.changed) == (7, 1)
    assert (found.max_difference, found.max_score, found.widest_changed) == (1.0, 9.0, 0.5)


def test_work_is_counted_and_the_lower_roof_holds():
    image, weight = torch.randn(1, 3, 20, 30), torch.randn(8, 3, 5, 5)
    convolved = roofs.work_of(lambda: F.conv2d(image, weight))
    assert convolved.flop == 2 * 8 * 16 * 26 * 75
    assert convolved.bytes == 4 * (1800 + 600 + 8 * 16 * 26)
    kept = torch.zeros(1, 3, 20, 30)
    for do, planes in (
        (lambda: image[..., 2:].transpose(2, 3).contiguous, 0),  # views
        (lambda: image.contiguous().float(), 0),
        (lambda: image.split(1, 1), 0),
        (lambda: image + kept, 3),
        (lambda: kept.copy_(image), 2),
        (lambda: image.clone().relu_(), 4),
        (lambda: kept.__setitem__((slice(None), slice(0, 1)), image[:, :1]), 2 / 3),
    ):
        assert roofs.work_of(do) == roofs.Work(0, round(4 * 1800 * planes))
    found = roofs.Roofs({"float32": 100.0, "tf32": 400.0}, 10.0, {})
    assert found.seconds(roofs.Work(400, 20), "float32") == 4
    assert found.seconds(roofs.Work(400, 20), "tf32") == 2


def test_roofs_are_those_of_the_device():
    found = roofs.measure_roofs("cpu", ("float32",), 128, 1)
    assert 1e8 < found.flop_per_s["float32"] < 1e13
    assert 1e8 < found.bytes_per_s < 1e13
    assert found.host_bytes_per_s == {}


@pytest.mark.parametrize(
    ("says", "known"),
    [
        ("echo 37", 0.37),
        ("echo '[N/A]'", "nvidia-smi says: [N/A]"),
        ("echo 'no devices' >&2; exit 9", "nvidia-smi says: no devices"),
        (None, "there is no nvidia-smi"),
    ],
)
def test_a_gpu_is_as_busy_as_nvidia_smi_says(tmp_path, monkeypatch, says, known):
    if says:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{says}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert idle.busy_share("GPU-1") == known


def test_the_idle_share_is_the_mean_of_the_looks_or_says_why_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1-2"))
    monkeypatch.setattr(idle, "EVERY_S", 1e-3)
    for says, share, by in (
        ([0.25, 0.75, 0.5], 0.5, r"nvidia-smi, \d+ looks"),
        ([0.25, "no answer"], None, "no answer"),
    ):
        looks, seen = iter(says), threading.Event()

        def look(which, looks=looks, seen=seen, last=says[-1]):
            assert which == "GPU-1-2"
            share = next(looks, last)
            if share == last:
                seen.set()
            return share

        monkeypatch.setattr(idle, "busy_share", look)
        with idle.watched("cuda:0") as found:
            assert seen.wait(60)
        assert found.share == pytest.approx(share)
        assert re.fullmatch(by, found.by)


def test_a_processor_is_idle_while_nothing_is_computed():
    with idle.watched("cpu") as asleep:
        time.sleep(0.3)
    with idle.watched("cpu") as awake:
        sum(range(1_000_000))
    assert 0 <= awake.share < asleep.share <= 1


def test_a_cut_tile_is_the_middle_of_the_whole(tmp_path):
    with rasterio.open(sample_tile("test", 100, tmp_path)) as part:
        with rasterio.open(sample_tile("test", None, tmp_path)) as whole:
            row, col = whole.index(*part.xy(0, 0))
            assert (row, col) == (974, 974)
            pixels = whole.read()[:, row : row + 100, col : col + 100]
        assert np.array_equal(part.read(), pixels)


def test_weights_are_those_given_or_found_or_it_is_said_that_there_are_none(tmp_path, monkeypatch):
    assert crops.find_weights(("alexnet=a", "resnet50=b.pth")) == "b.pth"
    monkeypatch.setenv("GEOPIPE_DATA", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(SkippedError, match="no weights of resnet50: give --weights resnet50=FILE"):
        crops.find_weights(())
    for name in ("hub/checkpoints/resnet50-0676ba61.pth", "weights/resnet50_x.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        assert crops.find_weights(()) == str(tmp_path / name)
    with pytest.raises(SkippedError, match="no folder gid in GEOPIPE_DATA"):
        data_folder("gid")
