"""Diagnose the installation and the machine: libraries, devices, speed, memory and disks.

Libraries are imported inside the probes only: one that is broken is a finding.
"""

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from geopipe.doctor import gdal, libraries, machine, projections, speed
from geopipe.doctor.finding import Finding, Probe, Status, error_text, reinstall

__all__ = ["Finding", "Status", "examine"]

GROUPS = (
    "versions",
    "torch",
    "threads",
    "speed",
    "memory",
    "disk",
    "drivers",
    "projections",
    "environment",
)
"""In the order in which they are shown."""

_MODULES = ("rasterio", "pyogrio", "pyproj", "torch", "psutil", "pyarrow.parquet", "osmium")
"""Imported to be looked into; psutil comes with distributed."""


def examine(folder: Path, *, measure: bool = False) -> list[Finding]:
    """Look at everything, and at the disk of `folder` (or of what there is of its path).

    Takes seconds (the imports), touches no network, writes no file. Something broken raises
    nothing: it is a finding with status ``problem``. `measure`: how fast networks are trained and
    scenes mapped here, which takes some five seconds more (and keeps which kernels are faster).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = [f for module in _MODULES for f in _import(module)]
        broken = {f.name for f in findings}
        output = Probe("disk", "output", lambda: [machine.output_disk(folder)])
        probes = [*libraries.PROBES, *machine.PROBES, output, *gdal.PROBES, *projections.PROBES]
        probes += speed.PROBES if measure else ()
        for probe in probes:
            if broken.isdisjoint(probe.needs):
                findings += probe.findings()
    return sorted(findings, key=lambda f: GROUPS.index(f.group))


def _import(module: str) -> Iterator[Finding]:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as e:
        value = f"cannot be imported: {error_text(e)}"
        yield Finding("versions", module, value, "problem", reinstall(module))
