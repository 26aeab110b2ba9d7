"""What a measurement ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil


def describe_machine() -> dict[str, object]:
    """Processor, its cores that this process may use, and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "cores": cores,
        "ram_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "glibc": platform.libc_ver()[1],
    }


def cpu_model() -> str:
    """The processor's name, its widest vectors, and whether it multiplies bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    pairs = (line.partition(":")[::2] for line in lines)
    fields = {key.strip(): value.strip() for key, value in pairs}
    flags = set(fields.get("flags", "").split())
    vectors = [f for f in ("avx512f", "avx2", "avx") if f in flags][:1]
    extra = sorted({"avx512_bf16", "amx_bf16"} & flags)
    return " ".join([fields.get("model name", platform.machine()), *vectors, *extra])


def steal() -> float:
    """Seconds so far that the machine's host gave to others; 0 where it does not say."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def load() -> float:
    """Processes waiting for a processor, mean over a minute."""
    return round(os.getloadavg()[0], 2)
