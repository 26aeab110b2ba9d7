"""Download a plan into a Cloud Optimized GeoTIFF, tile by tile; a run that stopped goes on."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from geopipe.errors import GeopipeError, OutputError, SceneError, ServiceError
from geopipe.files import MARK, atomic_file, check_new_file, remove_folder, require_own
from geopipe.grid import Window
from geopipe.imagery.plan import Plan, TileRequest
from geopipe.progress import progress
from geopipe.raster import Scene
from geopipe.raster.drivers import network

_BLOCK = 512
_EMPTY = ".empty"
"""Suffix of the file that stands for a piece of which the service has nothing."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A scene from a service."""

    path: Path
    shape: tuple[int, int]
    tile_requests: int
    empty: int
    """Pieces of which the service has nothing."""
    requested: int
    """Pieces that this run asked for; the others were there from an earlier one."""
    credit: str
    about: Mapping[str, str]


def download(
    plan: Plan, out: Path, *, credit: str | None = None, overwrite: bool = False
) -> Downloaded:
    """Get the pieces of `plan` and write them as the COG `out`, whole or not at all.

    Pieces are kept in the folder ``OUT.tiles`` until `out` is made, so the same call goes on after
    a kill or an error, and `out` has the same bytes then. What no piece covers, or where a piece is
    transparent, is not valid (a mask in the file). The tags of `out` hold `credit` (by default the
    service's), what `plan` tells and the version of geopipe.

    Raises:
        OutputError: `out` exists, or there is no room for it.
        ServiceError: The service fails, or has no image there at all.
    """
    check_new_file(out, overwrite=overwrite)
    credit = plan.credit if credit is None else credit
    cache = out.with_name(out.name + ".tiles")
    require_own(cache)
    _require_space(plan, out)
    try:
        cache.mkdir(exist_ok=True)
        (cache / MARK).touch()
        files, requested = _fetch(plan, cache)
        present = {piece: path for piece, path in files.items() if path.suffix != _EMPTY}
        tags = {k: v for k, v in {**plan.about, "credit": credit}.items() if v}
        empty = len(files) - len(present)
        if not present or not _write(plan, present, cache, out, tags):
            raise ServiceError(
                "the service has no image within the bounds: all it sends is empty",
                "check the bounds and the layer; is another level, by `gsd`, not empty?",
            )
    except OSError as e:
        if isinstance(e, GeopipeError):
            raise
        raise OutputError(f"cannot write {out}: {e.strerror or e}", "is the disk full?") from e
    remove_folder(cache)
    return Downloaded(out, plan.shape, len(files), empty, requested, credit, plan.about)


def _require_space(plan: Plan, out: Path) -> None:
    height, width = plan.shape
    needed = height * width * 3 * 4  # pixels, mask and COG, with their tiles
    free = shutil.disk_usage(out.absolute().parent).free
    if needed > free:
        raise OutputError(
            f"{out} needs some {needed / 1e9:.1f} GB on the way, {free / 1e9:.1f} GB are free",
            "make room, or ask for less",
        )


def _fetch(plan: Plan, cache: Path) -> tuple[dict[TileRequest, Path], int]:
    """The file of each piece, and how many were not there yet."""
    files: dict[TileRequest, Path] = {}
    missing: list[tuple[TileRequest, Path]] = []
    for piece in plan.tile_requests:
        base = cache / hashlib.sha256(piece.address.encode()).hexdigest()[:32]
        there = next((p for p in (base, base.with_suffix(_EMPTY)) if p.exists()), None)
        files[piece] = there or base
        if not there:
            missing.append((piece, base))
    with progress("downloading", len(files), before=len(files) - len(missing)) as advance:
        for piece, base in missing:
            part = base.with_suffix(f".{os.getpid()}")
            try:
                if plan.source.fetch(piece, part):
                    part.replace(base)
                else:
                    files[piece] = base.with_suffix(_EMPTY)
                    files[piece].touch()
            finally:
                part.unlink(missing_ok=True)
            advance()
    return files, len(missing)


def _write(
    plan: Plan, files: Mapping[TileRequest, Path], cache: Path, out: Path, tags: Mapping[str, str]
) -> bool:
    """Put the pieces together; False, and nothing is written, where no pixel is valid."""
    first = next(iter(files.items()))
    data, _ = _read(plan, *first)
    raw, mask = cache / "pixels.tif", cache / "mask.tif"
    any_valid, all_valid = False, len(files) == len(plan.tile_requests) and _covered(plan)
    with (
        network(False),
        _new(raw, plan.geobox, len(data), data.dtype.name) as pixels,
        _new(mask, plan.geobox, 1, "uint8") as validity,
    ):
        for piece, path in files.items():
            inside = piece.window.clip(plan.shape)
            if not (inside.height and inside.width):
                continue
            part, valid = _read(plan, piece, path, (len(data), data.dtype))
            part, valid = (a[..., *inside.within(piece.window)] for a in (part, valid))
            pixels.write(np.where(valid, part, 0), window=_rio(inside))
            validity.write(valid.astype(np.uint8) * 255, 1, window=_rio(inside))
            any_valid, all_valid = any_valid or bool(valid.any()), all_valid and bool(valid.all())
        if len(data) == 3:
            pixels.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        pixels.update_tags(AREA_OR_POINT="Area", **tags)
        if tags.get("credit"):
            pixels.update_tags(TIFFTAG_COPYRIGHT=tags["credit"])
    if not any_valid:
        return False
    _finish(raw, None if all_valid else mask, out)
    return True


def _read(
    plan: Plan, piece: TileRequest, path: Path, wanted: tuple[int, np.dtype] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    try:
        data, valid = plan.source.read(piece, path)
    except ServiceError as e:
        path.unlink(missing_ok=True)
        raise ServiceError(e.message, "the same command gets it again") from e
    if wanted and (len(data), data.dtype) != wanted:
        raise ServiceError(
            f"the service mixes pictures of {wanted[0]} bands {wanted[1]} and {len(data)} "
            f"bands {data.dtype}",
            "ask for another format",
        )
    return data, valid


def _covered(plan: Plan) -> bool:
    """Whether the pieces leave no pixel of the plane out."""
    inside = (p.window.clip(plan.shape) for p in plan.tile_requests)
    return sum(w.height * w.width for w in inside) == plan.shape[0] * plan.shape[1]


def _new(path: Path, geobox: GeoBox, count: int, dtype: str) -> rasterio.io.DatasetWriter:
    try:
        return rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=geobox.shape[0],
            width=geobox.shape[1],
            count=count,
            dtype=dtype,
            crs=str(geobox.crs),
            transform=geobox.affine,
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            bigtiff="if_safer",
            sparse_ok=True,
        )
    except RasterioError as e:
        raise SceneError(f"cannot write {path}: {e}", "is the disk full?") from e


def _finish(raw: Path, mask: Path | None, out: Path) -> None:
    """Copy `raw`, with the mask if there is one, to the COG `out`."""
    options = {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "YES",
        "BLOCKSIZE": _BLOCK,
        "OVERVIEW_RESAMPLING": "AVERAGE",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": 2,
    }
    with atomic_file(out, RasterioError) as part:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            if mask:
                with rasterio.open(raw, "r+") as pixels, rasterio.open(mask) as validity:
                    for _, window in validity.block_windows(1):
                        pixels.write_mask(validity.read(1, window=window), window=window)
            rasterio.shutil.copy(str(raw), str(part), driver="COG", **options)
        written = Scene.open(part)
        with rasterio.open(raw) as source:
            if written.shape != source.shape or written.geobox.affine != source.transform:
                raise SceneError(f"{out} lost its place while it was written")


def _rio(window: Window) -> RioWindow:
    return RioWindow(window.col, window.row, window.width, window.height)
