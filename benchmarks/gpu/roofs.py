"""The roofs that a map is held against, measured, and the work that a tile is, counted.

Williams et al. 2009 (CACM 52:4), "Roofline": a program that computes F operations on B bytes of
memory takes at least max(F / peak, B / bandwidth) seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from geopipe.mapping.tile import Precision, autocast

LEAST_S = 0.3
"""A rate is measured over so many seconds, or longer."""


@dataclass(frozen=True, slots=True)
class Roofs:
    """What the device can do at most, as it was measured."""

    flop_per_s: dict[Precision, float]
    """Of the product of two large matrices."""
    bytes_per_s: float
    """Read and written by a copy within the device's memory."""
    host_bytes_per_s: dict[str, float]
    """From the processor's memory to the device's, pageable and pinned; none on a CPU."""

    def seconds(self, work: Work, precision: Precision) -> float:
        """What `work` takes at least."""
        return max(work.flop / self.flop_per_s[precision], work.bytes / self.bytes_per_s)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "matmul_tflop_per_s": {k: round(v / 1e12, 3) for k, v in self.flop_per_s.items()},
            "memory_gb_per_s": round(self.bytes_per_s / 1e9, 2),
            "host_to_device_gb_per_s": {
                k: round(v / 1e9, 2) for k, v in self.host_bytes_per_s.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Work:
    """What a piece of program does, whatever it runs on."""

    flop: int
    """A multiplication with its addition counts as two."""
    bytes: int
    """Of all tensors that its operations read and write: caches save some of it."""


def sync(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def seconds_of(do: Callable[[], object], device: str) -> float:
    """Seconds of one call, the mean of as many as fill LEAST_S, after one to warm up."""
    do()
    sync(device)
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            do()
        sync(device)
        seconds = time.perf_counter() - start
        if seconds >= LEAST_S:
            return seconds / count
        count = max(2 * count, math.ceil(count * LEAST_S / max(seconds, 1e-9)))


def measure_roofs(device: str, precisions: tuple[Precision, ...], side: int, copy_mb: int) -> Roofs:
    """Products of `side` x `side` matrices in each of `precisions`, copies of `copy_mb` MB."""
    a, b = torch.randn(2, side, side, device=device)
    flop = {}
    for precision in precisions:
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        x, y = a.to(kind), b.to(kind)
        with torch.inference_mode(), autocast(device, precision):
            flop[precision] = 2 * side**3 / seconds_of(partial(torch.matmul, x, y), device)
    source = torch.zeros(copy_mb << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    within = 2 * source.numel() / seconds_of(lambda: target.copy_(source), device)
    host = {}
    if device != "cpu":
        pageable = torch.zeros(copy_mb << 20, dtype=torch.uint8)
        for name, memory in (("pageable", pageable), ("pinned", pageable.pin_memory())):
            host[name] = memory.numel() / seconds_of(
                partial(target.copy_, memory, non_blocking=True), device
            )
    return Roofs(flop, within, host)


def work_of(do: Callable[[], object]) -> Work:
    """The work of what torch does in `do`, in this thread."""
    with FlopCounterMode(display=False) as flop, _Traffic() as traffic:
        do()
    return Work(flop.get_total_flops(), traffic.bytes)


class _Traffic(TorchFunctionMode):
    """Adds up the bytes that operations read and write; views move none."""

    bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        read, written = _tensors((args, kwargs or {})), _tensors(out)
        if name == "__setitem__":
            read = written = _tensors(args[2:])
        elif name == "copy_":
            read = read[1:]
        elif not name.endswith("_") or name.endswith("__"):  # it changes nothing in place
            storages = {t.untyped_storage().data_ptr() for t in read}
            written = [t for t in written if t.untyped_storage().data_ptr() not in storages]
        if written and "empty" not in name:
            self.bytes += sum(t.nbytes for t in (*read, *written))
        return out


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, list | tuple) else []
