"""Cores, memory, disks, and the variables of the environment that mislead libraries."""

import locale
import math
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from geopipe.doctor.finding import Finding, Probe, Status, error_text, rated, size
from geopipe.limits import cgroup_limits

_DISK_LOW, _DISK_FULL = 1e9, 50e6
"""Bytes. A class map takes some 0.2 bytes per pixel of the scene while it is made."""
_MEMORY_LOW = 1e9
"""Bytes; mapping takes some 0.7 GB."""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _useful_threads() -> int:
    quota = cgroup_limits().cpus
    return min(_cores(), math.ceil(quota)) if quota else _cores()


def _threads() -> Iterator[Finding]:
    quota = cgroup_limits().cpus
    yield Finding("threads", "cores usable", f"{_cores()} of {os.cpu_count()}")
    yield Finding("threads", "cgroup CPU quota", f"{quota:g} cores" if quota else "none")
    omp = os.environ.get("OMP_NUM_THREADS", "")
    valid = re.fullmatch(r"(\s*[1-9]\d*\s*(,.*)?)?", omp)
    advice = "" if valid else f"set it to a number, e.g. {_useful_threads()}, or unset it"
    yield rated("threads", "OMP_NUM_THREADS", omp or "not set", advice)
    gdal = os.environ.get("GDAL_NUM_THREADS", "")
    advice = "unset it: threads of GDAL beside those of the net slow both down"
    advice = "" if gdal in ("", "0", "1") else advice
    yield rated("threads", "GDAL_NUM_THREADS", gdal or "not set", advice)


def _torch_threads() -> Iterator[Finding]:
    import torch

    n, useful_count = torch.get_num_threads(), _useful_threads()
    advice = (
        f"set OMP_NUM_THREADS={useful_count}: threads without a core of their own slow the others"
    )
    yield rated("threads", "torch", str(n), advice if n > useful_count else "")


def _memory() -> Iterator[Finding]:
    import psutil

    memory, limit = psutil.virtual_memory(), cgroup_limits().memory
    yield Finding("memory", "total", size(memory.total))
    advice = f"{size(_MEMORY_LOW)} is needed: close other programs or raise the limit"
    for name, value in (("available", memory.available), ("cgroup limit", limit)):
        is_low = value is not None and value < _MEMORY_LOW
        limit_text = "none" if value is None else size(value)
        yield rated("memory", name, limit_text, advice if is_low else "")


def _allocator() -> Iterator[Finding]:
    libc, version = platform.libc_ver()
    other = re.search(r"(je|tc|mi)malloc", os.environ.get("LD_PRELOAD", ""))
    if other:
        yield Finding("memory", "allocator", f"{other[0]} (LD_PRELOAD), left as it is")
    elif libc == "glibc":
        yield Finding("memory", "allocator", f"glibc {version}, can be tuned")
    else:
        advice = "use a Linux with glibc for speed: maps are the same but may take twice as long"
        value = f"{libc or 'not glibc'}, cannot be tuned"
        yield Finding("memory", "allocator", value, "warning", advice)


def output_disk(folder: Path) -> Finding:
    """The disk under `folder`, which need not be there yet: what is free, and may one write."""
    folder = folder.resolve()
    existing_folder = next(p for p in (folder, *folder.parents) if p.is_dir())
    if not os.access(existing_folder, os.W_OK | os.X_OK):
        advice = "write to another folder or ask for the right to write here"
        return Finding("disk", "output", f"{existing_folder} cannot be written", "problem", advice)
    return _disk("output", existing_folder, "problem", "free some space or write to another disk")


def _working_disk() -> Iterator[Finding]:
    yield _disk("working folder", Path.cwd(), "warning", "free some space or work on another disk")


def _temp_disk() -> Iterator[Finding]:
    advice = "set TMPDIR to a folder with space"
    try:
        temp_folder = Path(tempfile.gettempdir())
    except OSError as e:
        yield Finding("disk", "temporary files", error_text(e), "problem", advice)
    else:
        yield _disk("temporary files", temp_folder, "warning", advice)


def _disk(name: str, folder: Path, full: Status, advice: str) -> Finding:
    free_bytes = shutil.disk_usage(folder).free
    failed_status = full if free_bytes < _DISK_FULL else "warning"
    value = f"{size(free_bytes)} free in {folder}"
    return rated("disk", name, value, advice if free_bytes < _DISK_LOW else "", failed_status)


def _data_folders() -> Iterator[Finding]:
    advice = "unset it: rasterio and pyogrio carry different versions, and each finds its own files"
    for name in ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA"):
        value = os.environ.get(name)
        yield rated("environment", name, value or "not set", advice if value else "")


def _encoding() -> Iterator[Finding]:
    names, texts = sys.getfilesystemencoding(), locale.getpreferredencoding(False)
    utf8 = {e.lower().replace("-", "") for e in (names, texts)} == {"utf8"}
    advice = "set LC_ALL=C.UTF-8 or PYTHONUTF8=1, or names with accents cannot be read"
    value = f"{names} for file names, {texts} for text"
    yield rated("environment", "encoding", value, "" if utf8 else advice)


PROBES = (
    Probe("threads", "threads", _threads),
    Probe("threads", "torch", _torch_threads, ("torch",)),
    Probe("memory", "memory", _memory, ("psutil",)),
    Probe("memory", "allocator", _allocator),
    Probe("disk", "working folder", _working_disk),
    Probe("disk", "temporary files", _temp_disk),
    Probe("environment", "data folders", _data_folders),
    Probe("environment", "encoding", _encoding),
)
