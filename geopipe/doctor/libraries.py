"""Versions of the libraries, what torch was built for, and the devices it sees."""

import platform
import re
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from geopipe import __version__
from geopipe.doctor.finding import Finding, Probe, error_text, rated, reinstall, size
from geopipe.doctor.projections import proj_version, pyogrio_database


def _base() -> Iterator[Finding]:
    yield Finding("versions", "geopipe", __version__)
    yield Finding("versions", "Python", platform.python_version())
    yield Finding("versions", "system", f"{platform.system()} {platform.machine()}")


def _cluster() -> Iterator[Finding]:
    # Not imported: only the jobs floor knows dask.
    for name in ("dask", "distributed"):
        version = _version(name)
        advice = "" if version else reinstall(name)
        yield rated("versions", name, version or "not installed", advice, "problem")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _dependencies() -> Iterator[Finding]:
    # A requirement with a marker (an extra, another Python) may rightly be absent.
    lines = [r for r in metadata.requires("geopipe") or () if ";" not in r]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines]
    missing = " ".join(name for name in names if not _version(name))
    value = f"missing: {missing}" if missing else f"all {len(names)} installed"
    advice = f"python -m pip install {missing}" if missing else ""
    yield rated("versions", "dependencies", value, advice, "problem")


def _rasterio() -> Iterator[Finding]:
    import rasterio

    yield Finding("versions", "rasterio", rasterio.__version__)
    yield Finding("versions", "GDAL in rasterio", rasterio.__gdal_version__)
    yield Finding("versions", "PROJ in rasterio", rasterio.__proj_version__)


def _pyogrio() -> Iterator[Finding]:
    import pyogrio

    yield Finding("versions", "pyogrio", pyogrio.__version__)
    yield Finding("versions", "GDAL in pyogrio", pyogrio.__gdal_version_string__)
    # pyogrio does not tell; the database that travels with its PROJ does.
    version = proj_version(pyogrio_database()) or "not told"
    yield Finding("versions", "PROJ in pyogrio", version)


def _pyproj() -> Iterator[Finding]:
    import pyproj

    yield Finding("versions", "pyproj", pyproj.__version__)
    yield Finding("versions", "PROJ in pyproj", pyproj.__proj_version__)


def _torch_build() -> Iterator[Finding]:
    import torch

    yield Finding("torch", "version", torch.__version__)
    cpu_capability = torch.backends.cpu.get_cpu_capability()
    is_slow = cpu_capability == "DEFAULT" and platform.machine().lower() in ("x86_64", "amd64")
    advice = (
        "unset ATEN_CPU_CAPABILITY or take a processor with AVX2: nets are slow without vectors"
    )
    yield rated("torch", "CPU capability", cpu_capability, advice if is_slow else "")
    kinds = {"AVX-512 BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
    features = [kind for kind, test in kinds.items() if getattr(torch.cpu, test, bool)()]
    yield Finding("torch", "bfloat16 on CPU", ", ".join(features) or "no instructions for it")


def _torch_devices() -> Iterator[Finding]:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else ""
    if getattr(torch.version, "hip", None):
        build = f"ROCm {torch.version.hip}"
    yield Finding("torch", "GPU build", build or "none, for CPUs only")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        n = torch.cuda.device_count() if build and torch.cuda.is_available() else 0
    if n == 0:
        yield _no_device(build, " ".join(str(w.message) for w in caught))
    for i in range(n):
        yield _device(i)


def _device(i: int) -> Finding:
    import torch

    device = torch.cuda.get_device_properties(i)
    value = f"{device.name}, {size(device.total_memory)}"
    try:
        free_memory, _ = torch.cuda.mem_get_info(i)
        # A build without code for this GPU shows only when something runs there.
        torch.ones(8, device=f"cuda:{i}").sum().item()
    except Exception as e:
        advice = "free its memory, install a torch built for this GPU, or choose the device cpu"
        return Finding("torch", f"cuda:{i}", f"{value}: {error_text(e)}", "problem", advice)
    return Finding("torch", f"cuda:{i}", f"{value}, {size(free_memory)} free")


def _no_device(build: str, message: str) -> Finding:
    if not (message or _has_nvidia_driver()):
        return Finding("torch", "GPUs", "none")
    advice = "install a CUDA build of torch to use the GPU of this machine"
    if build:
        advice = "look at nvidia-smi and CUDA_VISIBLE_DEVICES, and renew a driver that is too old"
    value = f"none that torch can use: {message}" if message else "none that torch can use"
    return Finding("torch", "GPUs", " ".join(value.split())[:300], "warning", advice)


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


PROBES = (
    Probe("versions", "geopipe", _base),
    Probe("versions", "dependencies", _dependencies),
    Probe("versions", "rasterio", _rasterio, ("rasterio",)),
    Probe("versions", "pyogrio", _pyogrio, ("pyogrio",)),
    Probe("versions", "pyproj", _pyproj, ("pyproj",)),
    Probe("versions", "dask", _cluster),
    Probe("torch", "build", _torch_build, ("torch",)),
    Probe("torch", "GPUs", _torch_devices, ("torch",)),
)
