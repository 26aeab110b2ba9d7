"""Resources left to this process: processors and memory of its control groups."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SHARE = 0.9
"""Of the memory that is there; the rest is the system's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the control groups of this process allow; None: no limit."""

    cpus: float | None
    memory: int | None
    """Bytes."""


def cgroup_limits(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> Limits:
    """The tightest limits of the process's groups and of those around them, cgroup v1 and v2.

    No limits where there are no control groups (not Linux).
    """
    cpus: list[float] = []
    memory: list[int] = []
    for folder in _groups(root, membership):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        quota = quota or _text(folder / "cpu.cfs_quota_us")
        period = period or _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # no limit: "max", or -1 in v1
            cpus.append(int(quota) / int(period))
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(folder / name)
            if limit.isdigit() and int(limit) < 2**60:  # v1 has no word for "no limit"
                memory.append(int(limit))
    return Limits(min(cpus, default=None), min(memory, default=None))


_UNITS = {"": 1.0, "MB": 1.0, "GB": 1000.0, "MIB": 1.048576, "GIB": 1073.741824, "M": 1.0, "G": 1e3}


def parse_megabytes(text: str) -> int:
    """``4GB`` or ``800 MB`` as MB; ValueError for anything else."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([a-zA-Z]*)", text.strip())
    if not match or match[2].upper() not in _UNITS or not float(match[1]):
        raise ValueError("give a size, e.g. 4GB or 800MB")
    return max(1, int(float(match[1]) * _UNITS[match[2].upper()]))


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    for line in _text(membership).splitlines():
        _, kinds, path = line.split(":", 2)
        top = root / kinds if kinds else root  # v2 has no kinds
        # In a container the path may be the host's; then only the top is there.
        inner = top / path.strip("/")
        yield from (inner, *(p for p in inner.parents if p.is_relative_to(top)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def useful_threads(threads: int) -> int:
    """`threads`, or as many as the quota of the processor feeds if that is fewer."""
    quota = cgroup_limits().cpus
    return min(threads, math.ceil(quota)) if quota else threads


def memory_mb() -> int:
    """What all processes of a map may take where the user names no amount."""
    import psutil  # here: the doctor tells when it is broken

    limit = cgroup_limits().memory or math.inf
    return int(_SHARE * min(psutil.virtual_memory().total, limit) / 1e6)
