"""The contact sheet of a transfer: chosen and refused patches beside their nearest source samples.

`shown` says which samples a sheet has room for, so that only their pixels need to be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError
from geopipe.learn.transfer import SampleStatus, Selection
from geopipe.report.figures import Picture, photo
from geopipe.report.page import render, write_page

_SIDE = 96
"""Pixels that the longer side of a thumbnail is brought down to."""


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A source sample that is near a patch."""

    image: np.ndarray
    """(3, h, w) uint8"""
    class_id: int
    distance: float
    """Euclidean, in features."""


@dataclass(frozen=True, eq=False)
class Row:
    """A target patch and what was decided about it."""

    image: np.ndarray
    """(3, h, w) uint8"""
    class_id: int
    """The pseudo-label."""
    probability: float
    status: SampleStatus
    neighbours: tuple[Neighbour, ...] = ()
    """Nearest first; empty where none were asked for."""
    caption: str = ""
    """Where it lies, say."""


@dataclass(frozen=True, eq=False)
class ContactSheet:
    """What a contact sheet shows."""

    title: str
    scheme: ClassScheme
    rows: tuple[Row, ...]
    counts: np.ndarray | None = None
    """(classes, statuses) int64: of all samples, see `Selection.counts`"""
    summary: str = ""
    notes: tuple[str, ...] = ()
    """Why to abstain, say."""


def select_rows(selection: Selection, max_rows: int, seed: int = 0) -> np.ndarray:
    """Indices of the target samples to show: up to `max_rows` kept and refused ones per class.

    The kept ones are drawn at random; the refused ones from each reason in turn, so that a rare
    reason is seen too. Equal arguments give equal samples. Raises ConfigError for `max_rows`
    below 1.
    """
    if max_rows < 1:
        raise ConfigError(f"{max_rows} patches per class are no contact sheet", "show at least 1")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(selection.statuses))
    row_indices: list[int] = []
    for class_id in range(selection.classes):
        by_status = [
            shuffled[(selection.labels[shuffled] == class_id) & (selection.statuses[shuffled] == f)]
            for f in SampleStatus
        ]
        row_indices += by_status[SampleStatus.KEPT][:max_rows].tolist()
        refused = [
            (position, f, i)
            for f in SampleStatus
            if f
            for position, i in enumerate(by_status[f].tolist())
        ]
        row_indices += [i for _, _, i in sorted(refused)[:max_rows]]
    return np.array(row_indices, np.int64)


def write_sheet(
    path: Path, sheet: ContactSheet, max_rows: int = 12, max_neighbours: int = 5
) -> Path:
    """Write `path`, one HTML file that holds all it shows, and return it.

    Of each class at most `max_rows` kept and `max_rows` refused rows are shown, each with at most
    `max_neighbours` neighbours, all of them brought down to thumbnails: a row takes some 20 kB.
    Equal sheets give equal bytes. Raises OutputError when the file cannot be written.
    """
    write_page(path, _html(sheet, max_rows, max_neighbours))
    return path


def _html(sheet: ContactSheet, max_rows: int, max_neighbours: int) -> str:
    return render(
        "contact_sheet.html",
        {"thumbnail": _thumbnail},
        sheet=sheet,
        statuses=list(SampleStatus),
        sections=list(_sections(sheet, max_rows)),
        near=max_neighbours,
    )


def _sections(
    sheet: ContactSheet, max_rows: int
) -> Iterator[tuple[int, list[tuple[str, list[Row], int]]]]:
    """Per class its id and (title, rows that are shown, rows that there are) of kept and refused.

    How many there are is what `counts` says, if it is given.
    """
    for class_id in range(len(sheet.scheme)):
        rows = [r for r in sheet.rows if r.class_id == class_id]
        selected = [r for r in rows if r.status == SampleStatus.KEPT]
        refused = [r for r in rows if r.status != SampleStatus.KEPT]
        counts = len(selected), len(refused)
        if sheet.counts is not None:
            counted = sheet.counts[class_id]
            counts = (
                int(counted[SampleStatus.KEPT]),
                int(counted.sum() - counted[SampleStatus.KEPT]),
            )
        yield (
            class_id,
            [("kept", selected[:max_rows], counts[0]), ("refused", refused[:max_rows], counts[1])],
        )


def _thumbnail(image: np.ndarray) -> Picture:
    """`image` (3, h, w) uint8 as a small JPEG."""
    pixels = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)), "RGB")
    pixels.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return photo(np.asarray(pixels).transpose(2, 0, 1))
