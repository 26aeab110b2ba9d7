"""DecodedChips: chips decoded once, resized to the network's input, and cached in a file."""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.lib.format import open_memmap
from rasterio.errors import NotGeoreferencedWarning
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.errors import SceneError
from geopipe.files import atomic_files
from geopipe.progress import progress
from geopipe.raster.chips import Chip, require_bytes
from geopipe.tensors import read_npy
from geopipe.validation import Count, Digest, Schema, read_json

log = logging.getLogger(__name__)

_AT_ONCE = 256
"""Chips decoded before the next ones are asked for."""
_MAX_LISTED = 5


@dataclass(frozen=True, eq=False)
class DecodedChips:
    """Chips as a net takes them; what cannot be read is not among them."""

    chips: tuple[Chip, ...]
    digests: tuple[str, ...]
    """sha256 of each chip's own pixels: equal where these are, whatever the file."""
    shapes: np.ndarray
    """(n, 2) int64: height and width of each chip."""
    pixels: np.ndarray
    """(m, 3, side, side) uint8, in a file."""
    row_of_chip: np.ndarray
    """(n,) int64: where each chip is in `pixels`."""
    bad: tuple[str, ...] = ()
    """What could not be read, and why."""

    @classmethod
    def of(cls, chips: Sequence[Chip], side: int, folder: Path, *, skip_bad: bool) -> Self:
        """Decode the chips, on all cores, into files in `folder`; done before, they are taken.

        A chip is stretched to a square of `side` px (bilinear, smoothed where it shrinks). Raises
        SceneError for the first that cannot be read or is not of 8 bits and 1 or 3 bands; with
        `skip_bad` they are counted and named in a warning, and an error if there are no others.
        """
        key = _key(chips, side)
        file, metadata_file = folder / f"chips-{key}.npy", folder / f"chips-{key}.json"
        cached = _cached(len(chips), side, file, metadata_file)
        if cached is None:
            _decode_all(chips, side, file, metadata_file)
            cached = _read(len(chips), side, file, metadata_file)
        metadata, pixels = cached
        bad = metadata.bad
        if bad and not skip_bad:
            metadata_file.unlink(missing_ok=True)  # what is bad now may be mended
            message, hint = next(iter(bad.values()))
            other_names = [Path(chips[i].path).name for i in list(bad)[1:_MAX_LISTED]]
            suffix = (
                f"; {len(bad)} of {len(chips)} chips are bad, {', '.join(other_names)} too"
                if other_names
                else ""
            )
            skip = "" if "`skip_bad`" in hint else "; `skip_bad` leaves such chips out"
            raise SceneError(message.rstrip(".") + suffix, hint + skip)
        if bad:
            reasons = "; ".join(m for m, _ in list(bad.values())[:_MAX_LISTED])
            log.warning(
                "%d of %d chips left out: %s%s",
                len(bad),
                len(chips),
                reasons,
                "; ..." if len(bad) > _MAX_LISTED else "",
            )
        readable = [i for i in range(len(chips)) if i not in bad]
        if not readable:
            raise SceneError(f"none of {len(chips)} chips can be read", next(iter(bad.values()))[1])
        return cls(
            tuple(chips[i] for i in readable),
            tuple(metadata.digests[i] for i in readable),
            np.array([metadata.shapes[i] for i in readable], np.int64),
            pixels,
            np.array(readable),
            tuple(m for m, _ in bad.values()),
        )

    def __len__(self) -> int:
        return len(self.chips)

    @property
    def side(self) -> int:
        """Pixels a side."""
        return int(self.pixels.shape[-1])

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """(n, 3, side, side) uint8 of the chips with these numbers."""
        return torch.from_numpy(np.stack([self.pixels[i] for i in self.row_of_chip[rows]]))

    def batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Numbers and pixels, `size` at a time."""
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield part, self.batch(part)


class _Metadata(Schema):
    """What is known of decoded chips, in their order."""

    digests: list[Digest | Literal[""]]
    shapes: list[tuple[Count, Count]]
    bad: dict[int, tuple[str, str]]
    """Number of a chip that cannot be read -> message and hint."""


def _cached(
    count: int, side: int, file: Path, metadata_file: Path
) -> tuple[_Metadata, np.ndarray] | None:
    """What an earlier run decoded; None where there is nothing, or something damaged."""
    try:
        return _read(count, side, file, metadata_file)
    except SceneError:
        return None


def _read(count: int, side: int, file: Path, metadata_file: Path) -> tuple[_Metadata, np.ndarray]:
    hint = "remove it; the same command makes it again"
    metadata = read_json(metadata_file, _Metadata, SceneError, hint, most=1 << 30)
    known = len(metadata.digests) == len(metadata.shapes) == count
    if not known or any(not 0 <= i < count for i in metadata.bad):
        raise SceneError(f"{metadata_file} is damaged: it is of other chips", hint)
    return metadata, read_npy(file, "uint8", (count, 3, side, side), SceneError)


def _decode_all(chips: Sequence[Chip], side: int, file: Path, metadata_file: Path) -> None:
    digests, shapes, bad = [""] * len(chips), [[0, 0]] * len(chips), {}
    # Other runs may use the cache at the same time.
    with atomic_files([file, metadata_file], parents=True, shared=True) as (part, metadata_part):
        out = open_memmap(part, "w+", np.uint8, (len(chips), 3, side, side))
        _reserve(part)
        with (
            _ignore_missing_georeference(),
            progress("decoding", len(chips)) as advance,
            _decoders() as run,
        ):
            for start in range(0, len(chips), _AT_ONCE):
                group = chips[start : start + _AT_ONCE]
                for i, decoded in enumerate(run.map(lambda c: _decoded(c, side), group), start):
                    if isinstance(decoded, SceneError):
                        bad[i] = (decoded.message, decoded.hint)
                    else:
                        out[i], digests[i], shapes[i] = decoded
                    advance()
        out.flush()
        del out
        metadata = {"digests": digests, "shapes": shapes, "bad": bad}
        metadata_part.write_text(json.dumps(metadata))


def _reserve(part: Path) -> None:
    """Take the room of a mapped file: where the disk is full later, the process is killed."""
    if hasattr(os, "posix_fallocate"):
        with part.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)


@contextmanager
def _decoders() -> Iterator[ThreadPoolExecutor]:
    """A thread on each core, in which torch starts no others."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)
        ) as run:
            yield run
    finally:
        torch.set_num_threads(before)  # in one thread, it is set for all


@contextmanager
def _ignore_missing_georeference() -> Iterator[None]:
    """Chips need no place. Around all threads: each switches the filters of the whole process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _decoded(chip: Chip, side: int) -> tuple[np.ndarray, str, list[int]] | SceneError:
    try:
        pixels = chip.read()
        require_bytes(chip.path, str(pixels.dtype))
    except SceneError as e:
        return e
    except UnicodeEncodeError:  # GDAL takes no other
        name = os.fsencode(chip.path).decode(errors="replace")
        return SceneError(f"the name of {name} is no text (UTF-8)", "rename it, or set `skip_bad`")
    digest = hashlib.sha256(repr(pixels.shape).encode())
    own = np.array(pixels, order="C")  # grey is one band, seen three times
    digest.update(own.data)
    resized = stretched(torch.from_numpy(own), side)
    return resized.numpy(), digest.hexdigest(), list(pixels.shape[1:])


def stretched(image: torch.Tensor, side: int) -> torch.Tensor:
    """(3, h, w) uint8 as (3, side, side) uint8."""
    _, height, width = image.shape
    if (height, width) == (side, side):
        return image
    # In bytes: four times as fast as in float32, and at most one level away from it.
    smooth = max(height, width) > side
    return F.interpolate(image[None], (side, side), mode="bilinear", antialias=smooth)[0]


def _key(chips: Sequence[Chip], side: int) -> str:
    """Of files and their state: a chip that was changed is decoded anew."""
    digest = hashlib.sha256(f"1 {side}".encode())
    for chip in chips:
        try:
            stat = Path(chip.path).stat()
            file_stats = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            file_stats = []
        path = str(Path(chip.path).absolute())
        digest.update(f"{path!r} {file_stats}\n".encode(errors="backslashreplace"))
    return digest.hexdigest()[:32]
