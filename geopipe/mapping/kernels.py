"""The fastest kernels of this machine, measured once and cached for the user."""

import json
import os
import platform
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch

from geopipe.errors import ConfigError, OutputError
from geopipe.files import atomic_file
from geopipe.nets import Kernels
from geopipe.nets.kernels import Form
from geopipe.validation import Schema, read_json


class _Stored(Schema):
    base: Form
    refinement: Form


@cache
def fastest_kernels() -> Kernels:
    """`Kernels.measured`, kept in the user's cache folder per processor and version of torch."""
    path = cache_file()
    try:
        stored = read_json(path, _Stored, ConfigError, "remove it", most=1 << 16)
        return Kernels(stored.base, stored.refinement)
    except ConfigError:  # none, or a damaged one: measure
        pass
    kernels = Kernels.benchmark()
    try:
        with atomic_file(path, parents=True, shared=True) as part:
            part.write_text(json.dumps(asdict(kernels)))
    except OutputError:  # a home that cannot be written: the next process measures again
        pass
    return kernels


def cache_file() -> Path:
    """``$XDG_CACHE_HOME/geopipe/kernels-*.json`` or the same in ``~/.cache``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    machine = (
        _processor(),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
    )
    key = sha256(json.dumps(machine).encode()).hexdigest()[:12]
    return base / "geopipe" / f"kernels-{key}.json"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    names = {line for line in lines if line.startswith(("model", "flags", "Features"))}
    return " ".join([platform.machine(), *sorted(names)])
