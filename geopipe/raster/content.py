"""The files that hold the pixels of a scene, and the hash of what they hold."""

import hashlib
from pathlib import Path

from geopipe.raster.mosaic import mosaic_files
from geopipe.raster.opening import opened
from geopipe.raster.remote import display_name

_NO_PIXELS = (".aux.xml", ".ovr")
"""A look at the scene in QGIS leaves statistics beside it, which change no pixel."""


def pixel_files(path: str | Path) -> list[Path]:
    """The files on this machine that decide the pixels of the raster at `path`, sorted by path.

    A VRT counts with the files that it refers to; raises SceneError where it cannot be opened.
    """
    with opened(path) as src:
        named = [*src.files, *mosaic_files(path)]
    files = sorted({p for p in map(Path, named) if p.is_file()})
    return [p for p in files if not p.name.endswith(_NO_PIXELS)]


def content_sha256(path: str | Path) -> str | None:
    """sha256 of the scene at `path`; None where it is not in files on this machine.

    Of one file it is that of the file. Of several (a VRT, a mosaic, a file with a world file or a
    mask beside it) it is that of the lines which ``sha256sum`` writes about them, by their names
    without folders; of a mosaic in the order in which they cover each other, else sorted.
    """
    listed = mosaic_files(path)
    with opened(path) as src:
        files = [Path(name) for name in listed or sorted(src.files)]
    files = [p for p in files if not p.name.endswith(_NO_PIXELS)]
    if not files or not all(p.is_file() for p in files):
        return None
    hashes = [(_file_sha256(p), Path(display_name(p)).name) for p in files]
    if len(hashes) == 1:
        return hashes[0][0]
    lines = [f"{digest}  {name}\n" for digest, name in hashes]
    return hashlib.sha256("".join(lines if listed else sorted(lines)).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
