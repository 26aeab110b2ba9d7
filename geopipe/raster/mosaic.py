"""The files of one delivery as one scene: a VRT in which the first file listed is on top."""

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags

from geopipe.errors import SceneError
from geopipe.files import atomic_file
from geopipe.grid import Window
from geopipe.raster.mosaic_vrt import MosaicPart, mosaic_vrt, part_vrt
from geopipe.raster.remote import display_name
from geopipe.raster.scene import Scene, opened, window_geobox
from geopipe.validation import Text, parse_json

_DOMAIN = "GEOPIPE_MOSAIC"
"""Metadata domain of the VRT in which the files are listed."""
_OFF_GRID = 1 / 64
"""Pixels that the corners of a file may be off the grid of the first one by rounding."""


def open_mosaic(
    paths: Sequence[str],
    target: Path,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
) -> Scene:
    """Write the VRT `target` (and one per file beside it) over the files `paths`, and open it.

    Where files overlap, a pixel is that of the first file listed in which it is valid, all of its
    bands; where it is valid in none, the mosaic has none. `bands` and `nodata` as in `Scene.open`.
    A VRT that is there already with the same content is left alone. Raises SceneError, naming the
    file, when one is not in the CRS, of the pixel size, on the pixel grid or of the bands and
    dtypes of the first.
    """
    parts: list[MosaicPart] = []
    for path in paths:
        part = _described(path, bands, nodata)
        parts.append(_placed(part, parts[0]) if parts else part)
    top, left = min(p.window.row for p in parts), min(p.window.col for p in parts)
    bottom, right = max(p.window.bottom for p in parts), max(p.window.right for p in parts)
    whole = Window(top, left, bottom - top, right - left)
    plane = window_geobox(parts[0].scene.geobox, whole)
    target = target.absolute()
    vrts = [target.with_name(f"{target.stem}-{k:05d}.vrt") for k in range(1, len(parts) + 1)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for part, vrt in zip(parts, vrts, strict=True):
            _write(vrt, part_vrt(part))
        listed = {_DOMAIN: {"FILES": json.dumps([p.source for p in parts])}}
        _write(target, mosaic_vrt(plane, whole, parts, list(map(str, vrts)), listed))
    except OSError as e:
        raise SceneError(f"cannot write {target}: {e.strerror}", "is the disk full?") from e
    return Scene.open(target, parts[0].scene.bands, nodata)


def mosaic_files(path: str | Path) -> tuple[str, ...]:
    """The files of a mosaic that `open_mosaic` wrote, first on top; none of any other raster."""
    with opened(path) as src:
        listed = src.tags(ns=_DOMAIN).get("FILES", "[]")
    source = f"the list of files in {display_name(path)}"
    return parse_json(listed, tuple[Text, ...], source, SceneError, "make the mosaic again")


def _described(path: str, bands: Sequence[int] | None, nodata: float | None) -> MosaicPart:
    scene = Scene.open(path, bands, nodata)
    with opened(path) as src:
        flags = {flag for k in scene.bands for flag in src.mask_flag_enums[k - 1]}
        return MosaicPart(
            str(Path(path).resolve()) if Path(path).exists() else src.files[0],
            scene,
            Window.of_shape(scene.shape),
            tuple(src.dtypes),
            tuple(c.name for c in src.colorinterp),
            tuple(src.nodatavals),
            MaskFlags.all_valid in flags,
        )


def _placed(part: MosaicPart, first: MosaicPart) -> MosaicPart:
    """`part` with its place on the grid of `first`; SceneError when it does not fit."""
    own, first_box = part.scene.geobox, first.scene.geobox
    name, reference = display_name(part.scene.path), display_name(first.scene.path)
    for what, own_value, other in (
        ("the CRS", _crs_name(own), _crs_name(first_box)),
        ("bands", part.scene.bands, first.scene.bands),
        ("pixels of type", part.dtypes, first.dtypes),
        ("band colours", part.colours, first.colours),
    ):
        if own_value != other:
            raise SceneError(
                f"{name} has {what} {_words(own_value)}, {reference} {_words(other)}",
                "a mosaic is made of files of one delivery; map this one by itself",
            )
    link = ~first_box.affine * own.affine
    bent = max(abs(link.a - 1), abs(link.e - 1), abs(link.b), abs(link.d))
    if bent * max(part.scene.shape) > _OFF_GRID:
        raise SceneError(
            f"{name} has pixels of {_size(part)}, {reference} of {_size(first)}",
            "a mosaic is made of files of one pixel size; map this one by itself",
        )
    row, col = round(link.f), round(link.c)
    off = math.hypot(link.f - row, link.c - col)
    if off > _OFF_GRID:
        raise SceneError(
            f"{name} lies {off:.2f} px off the pixel grid of {reference}",
            "bring it onto that grid, e.g. with gdalwarp -tap -tr, or map it by itself",
        )
    return replace(part, window=Window(row, col, *part.scene.shape))


def _crs_name(geobox: GeoBox) -> str:
    crs = geobox.crs
    return f"EPSG:{crs.epsg}" if crs and crs.epsg else str(crs)


def _words(value: str | tuple[object, ...]) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value))


def _size(part: MosaicPart) -> str:
    a = part.scene.geobox.affine
    down, along = math.hypot(a.b, a.e), math.hypot(a.a, a.d)
    return f"{along:.10g} x {down:.10g}"


def _write(path: Path, root: ET.Element) -> None:
    """Whole or not at all; a file that says the same keeps its time of change."""
    text = ET.tostring(root)
    if path.exists() and path.read_bytes() == text:
        return
    with atomic_file(path, shared=True) as part:
        part.write_bytes(text)
