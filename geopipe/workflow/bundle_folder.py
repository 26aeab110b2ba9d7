"""The folder of a map bundle: what may be replaced in it, and how a new one takes its place."""

import os
import shutil
from pathlib import Path

from geopipe.errors import SceneError
from geopipe.files import belongs_to, replace_folder
from geopipe.mapping import WORK, unfinished

ASSEMBLY_FOLDER = "map"
"""Where in ``FOLDER.part`` the bundle is built."""
MOSAIC = "mosaic"
"""Where in ``FOLDER.part`` the VRTs of a mosaic are, for as long as it is mapped."""
_MARKER_FILE = "item.json"
"""What tells a bundle from a folder of the user's own, which is never overwritten."""
OUTPUT_NAMES = (
    "classes.tif",
    "classes.tif.aux.xml",
    "classes.qml",
    "classes.gpkg",
    "features.gpkg",
    "features.html",
    "features.parquet",
    "confidence.tif",
    "confidence.tif.aux.xml",
    "confidence.qml",
    "scores.tif",
    "scores.tif.aux.xml",
    "scores.qml",
    "layers.qlr",
    "chips.gpkg",
    "out_of_domain.gpkg",
    "item.json",
    "report.html",
    "report.json",
    "report.md",
)
"""What a new bundle replaces, with what lies beside it; everything else in the folder stays."""


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Raise SceneError unless a bundle may be written to `folder`."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARKER_FILE).is_file():
            raise SceneError(
                f"{folder} holds files that are no map of geopipe's", "give a new folder"
            )
        if not overwrite:
            raise SceneError(f"{folder} exists already", "give another folder, or set `overwrite`")
    elif folder.exists() and not folder.is_dir():
        raise SceneError(f"{folder} is a file", "give a folder to write the map into")
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise SceneError(f"cannot write into {existing}", "choose a folder that is writable")


def keep_tiles_only(part: Path) -> None:
    """Of a run that was stopped, only the tiles serve; the rest is made anew from them."""
    kept_name = (MOSAIC, *WORK) if unfinished(part) else (MOSAIC,)
    for path in part.iterdir():
        if path.name not in kept_name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def move_bundle(assembly: Path, folder: Path) -> None:
    """`assembly` becomes `folder`; the bundle that was there goes when the new one stands."""
    others = folder.iterdir() if folder.exists() else ()
    for other in others:  # a QGIS project, notes: the user's own
        if belongs_to(other.name, OUTPUT_NAMES):
            continue
        if other.is_dir() and not other.is_symlink():
            shutil.copytree(other, assembly / other.name, symlinks=True)
        else:
            shutil.copy2(other, assembly / other.name, follow_symlinks=False)
    replace_folder(assembly, folder)
