"""Chips: stored image samples, in folders named after their classes."""

import hashlib
import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from geopipe.errors import SceneError
from geopipe.oserrors import failure
from geopipe.raster.opening import GDAL_ERRORS, collect_gdal_errors, opened
from geopipe.regularfile import require_regular

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".jp2"})

MOST_PIXELS = 64 << 20
"""A chip is read whole. Files of a few kB may say that they hold more than the memory does."""


@dataclass(frozen=True, slots=True)
class Chip:
    """Where a stored sample lies and the name of its class, its folder's ("" where none)."""

    path: str
    class_name: str = ""
    bands: tuple[int, ...] | None = None
    """1-based numbers of those to read; None: all but alpha."""

    def read(self, bands: int = 3) -> np.ndarray:
        """Pixels (bands, h, w) in the file's dtype; grey is repeated, alpha is left out.

        Raises SceneError when the file cannot be read whole or has another number of bands.
        """
        try:
            with (
                _ignore_missing_georeference(),
                opened(self.path) as src,
                collect_gdal_errors() as gdal_messages,
            ):
                kinds = zip(src.indexes, src.colorinterp, strict=True)
                plain = [i for i, kind in kinds if kind != ColorInterp.alpha]
                selected = self.bands or plain
                invalid = [b for b in selected if not 1 <= b <= src.count]
                if invalid or len(selected) not in (1, bands):
                    requested = f", not {','.join(map(str, self.bands))}" if self.bands else ""
                    raise SceneError(
                        f"{self.path} has {len(plain)} bands, {bands} are needed{requested}",
                        f"choose {bands} with `bands`, or write chips of so many",
                    )
                if src.width * src.height > MOST_PIXELS:
                    raise SceneError(
                        f"{self.path} has {src.width} x {src.height} pixels, too many for a chip",
                        f"a chip has at most {MOST_PIXELS >> 20} million: cut it, or map it as a "
                        "scene",
                    )
                pixels = np.asarray(src.read(list(selected)))
                if bands == 3 and src.colorinterp[0] == ColorInterp.palette:
                    pixels = _as_rgb(pixels[0], src.colormap(1))
                if gdal_messages.errors:  # GDAL calls it a success, yet it is none
                    raise SceneError(
                        f"cannot read {self.path}: {gdal_messages.errors[0]}", _DAMAGED
                    )
        except GDAL_ERRORS as e:
            raise SceneError(f"cannot read {self.path}: {e.__cause__ or e}", _DAMAGED) from e
        try:
            complete = src.driver != "PNG" or _is_complete_png(Path(self.path))
        except OSError as e:
            reason, hint = failure(e)
            raise SceneError(f"cannot read {self.path}: {reason}", hint) from e
        if not complete:
            raise SceneError(f"cannot read {self.path}: it ends before its last chunk", _DAMAGED)
        return np.broadcast_to(pixels, (bands, *pixels.shape[1:]))


_DAMAGED = "the file is truncated or damaged; `skip_bad` leaves such chips out"


@dataclass(frozen=True)
class ChipFolder:
    """The chips below a folder, in the order of their paths."""

    root: Path
    chips: tuple[Chip, ...]

    @classmethod
    def open(cls, root: Path, bands: tuple[int, ...] | None = None) -> Self:
        """List images in `root` and its folders; raises SceneError when there are none.

        A chip's class is the folder it lies in; `root` itself is no class. Names starting with a
        dot are left out. `bands`: as of `Chip`.
        """
        if not root.is_dir():
            raise SceneError(f"there is no folder {root}", "give a folder of chips")
        files = sorted(
            p
            for p in root.rglob("*")
            if p.suffix.lower() in SUFFIXES
            and not p.is_dir()
            and not any(part.startswith(".") for part in p.relative_to(root).parts)
        )
        if not files:
            raise SceneError(
                f"{root} holds no image", f"known are {', '.join(sorted(SUFFIXES))} files"
            )
        return cls(
            root,
            tuple(Chip(str(p), "" if p.parent == root else p.parent.name, bands) for p in files),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the folders with chips, sorted."""
        return tuple(sorted({c.class_name for c in self.chips} - {""}))

    def unique(self) -> Self:
        """The first of all chips with the same bytes; the others are counted in a warning.

        A copy in another part of a split would be judged by what was learnt by heart. The chips
        are `readable`.
        """
        first: dict[bytes, Chip] = {}
        for chip in self.chips:
            require_regular(chip.path)
            with Path(chip.path).open("rb") as file:
                first.setdefault(hashlib.file_digest(file, "sha256").digest(), chip)
        copies = len(self.chips) - len(first)
        if copies:
            log.warning("%d of %d chips are copies of others, left out", copies, len(self.chips))
        return type(self)(self.root, tuple(first.values()))

    def readable(self, check: Callable[[Chip], object] = Chip.read, *, skip_bad: bool) -> Self:
        """The chips that pass `check`; by default every file is decoded once.

        Raises SceneError where `check` does; with `skip_bad` such chips are left out and named.
        """
        readable: list[Chip] = []
        unreadable: list[str] = []
        for chip in self.chips:
            try:
                check(chip)
                readable.append(chip)
            except SceneError as e:
                if not skip_bad:
                    raise
                unreadable.append(e.message)
        if unreadable:
            reasons = "; ".join(unreadable[:5]) + ("; ..." if len(unreadable) > 5 else "")
            log.warning("%d of %d chips left out: %s", len(unreadable), len(self.chips), reasons)
        if not readable:
            raise SceneError(
                f"none of the {len(unreadable)} images in {self.root} can be read", _DAMAGED
            )
        return type(self)(self.root, tuple(readable))


def require_bytes(path: str, dtype: str) -> None:
    """Raise SceneError unless the pixels are of 8 bits, as the images of ImageNet are."""
    if dtype != "uint8":
        raise SceneError(
            f"{path} is {dtype}; pretrained nets know images of 8 bits",
            "rescale it, e.g. gdal_translate -ot Byte -scale",
        )


def _as_rgb(ids: np.ndarray, table: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    """(3, h, w) uint8: the colours that a palette gives the values of `ids` (h, w)."""
    colours = np.zeros((3, 256), np.uint8)
    for value, colour in table.items():
        colours[:, value] = colour[:3]
    return colours[:, ids]


def _is_complete_png(path: Path) -> bool:
    """Whether the last chunk is there; bytes behind it are nobody's concern.

    GDAL fills what is missing of a PNG with zeros and says nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 8  # behind the signature: chunks of length, name, data and checksum
        while at + 12 <= size:
            file.seek(at)
            length, name = struct.unpack(">I4s", file.read(8))
            at += 12 + length
            if name == b"IEND":
                return bool(at <= size)
    return False


@contextmanager
def _ignore_missing_georeference() -> Iterator[None]:
    """Chips need no place on Earth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
