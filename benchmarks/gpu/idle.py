"""For how much of a stretch of time a device had nothing to do."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

EVERY_S = 0.2
"""Between two looks at a GPU."""


@dataclass(slots=True)
class Idle:
    """Filled in at the end of the stretch."""

    share: float | None = None
    """None where the device does not say."""
    by: str = ""
    """What told it, or why nothing did."""


@contextmanager
def watched(device: str) -> Iterator[Idle]:
    """Watch `device` meanwhile.

    A GPU is busy while at least one kernel runs, as nvidia-smi says of the moments before each
    look; a CPU by the time that this process took of its torch threads.
    """
    idle = Idle()
    with _gpu(device, idle) if device != "cpu" else _cpu(idle):
        yield idle


@contextmanager
def _cpu(idle: Idle) -> Iterator[None]:
    process, threads = psutil.Process(), torch.get_num_threads()
    before, start = process.cpu_times(), time.perf_counter()
    yield
    after, wall = process.cpu_times(), time.perf_counter() - start
    busy = after.user + after.system - before.user - before.system
    idle.share = min(max(1 - busy / (wall * threads), 0.0), 1.0)
    idle.by = "processor time"


@contextmanager
def _gpu(device: str, idle: Idle) -> Iterator[None]:
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    busy: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(EVERY_S):
            share = busy_share(uuid)
            if isinstance(share, str):
                idle.by = share
                return
            busy.append(share)

    looking = threading.Thread(target=sample)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
    if busy and not idle.by:
        idle.share, idle.by = 1 - statistics.mean(busy), f"nvidia-smi, {len(busy)} looks"


def busy_share(gpu: str) -> float | str:
    """How busy the GPU of this UUID was just now, or why that is not known."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "there is no nvidia-smi"
    line = [program, f"--id={gpu}", "--query-gpu=utilization.gpu"]
    try:
        done = subprocess.run(
            [*line, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "nvidia-smi does not answer"
    output = (done.stdout or done.stderr).strip()
    return int(output) / 100 if output.isdecimal() else f"nvidia-smi says: {output[:100]}"
