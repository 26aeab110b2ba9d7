"""Builds dist/geopipe_provider.zip, which QGIS installs; equal sources give equal bytes."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGIN = Path(__file__).parent / "geopipe_provider"
OUT = ROOT / "dist" / "geopipe_provider.zip"
_SUFFIXES = {".py", ".svg", ".txt"}


def contents() -> dict[str, bytes]:
    """Name in the zip -> bytes."""
    paths = (p for p in PLUGIN.rglob("*") if p.suffix in _SUFFIXES)
    files = {p.relative_to(PLUGIN.parent).as_posix(): p.read_bytes() for p in paths}
    return {**files, f"{PLUGIN.name}/LICENSE": (ROOT / "LICENSE").read_bytes()}


def write_zip(out: Path) -> None:
    """Write the zip, with one date for all files and without compression's differences."""
    out.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in sorted(contents().items()):
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)


if __name__ == "__main__":
    write_zip(OUT)
    sys.stdout.write(f"{OUT}\n")
