"""Building an index of chips: folders and scenes through the workers, in one order, resumable.

What is added depends on the sources and the options alone: batches of work are done in any order,
but go into the index in theirs, in parts of CHIPS_PER_PART chips. The header says how many batches
are in, so a build that was killed goes on and leaves the files of an undisturbed one.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from geopipe.errors import ChipIndexError, JobError, SceneError
from geopipe.files import remove_folder
from geopipe.locks import lock_folder
from geopipe.mapping import run_tiles
from geopipe.progress import progress
from geopipe.retrieve.batches import Batch, BatchJob, BatchResult, FileItem, load_vectors
from geopipe.retrieve.embedding import EmbeddingModel
from geopipe.retrieve.header import NAME, VECTORS, Header, SceneEntry, Unfinished, VectorDtype
from geopipe.retrieve.rows import ChipRow
from geopipe.retrieve.searchable import make_searchable
from geopipe.retrieve.sources import (
    CHIPS_PER_PART,
    BuildPlan,
    ChipGrid,
    batches_of,
    list_sources,
    work_digest,
)
from geopipe.retrieve.store import ChipIndex, Writer

__all__ = ["BuildPlan", "BuildResult", "ChipGrid", "build_index"]

_Result = tuple[Batch, BatchResult]
WORK = "work"
"""Folder of vectors that are computed but not yet in the index."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did."""

    chips: int
    """In the index now."""
    added: int
    duplicates: int
    """Left out, since equal pixels are there."""
    known: int
    """Left out unread, since the same part of the same file is there."""
    blank: int
    """Left out, since too few pixels are valid."""
    bad: tuple[str, ...]
    """What could not be read, and why."""
    digest: str
    """Of vectors and rows."""
    search: str
    recall: float | None
    """Of an approximate search: share of the true ten nearest that are found."""
    seconds: float


def build_index(
    sources: Sequence[str], folder: Path, model: EmbeddingModel, plan: BuildPlan
) -> BuildResult:
    """Add the chips of folders and scenes to the index `folder`, or begin it.

    The same command goes on with a build that stopped; one on what is in already adds nothing.
    Raises ChipIndexError for an index of another model or a damaged one, SceneError for what cannot
    be read (`skip_bad` leaves it out), JobError while another build is at work in the folder.
    """
    start = time.monotonic()
    model = model.loaded()
    dtype = _require(folder, model, plan.dtype)
    files, scenes, unreadable = list_sources(sources, plan)
    with lock_folder(folder):
        header = Header({**model.identity(), "weights": model.weights}, dtype)
        writer = Writer(folder, header)
        before = writer.header.count
        try:
            counts = _add(writer, model, plan, files, scenes)
        finally:
            if not writer.header.count and not any(folder.rglob("*.npy")):
                remove_folder(folder)  # nothing that another run could use
        kind, recall = make_searchable(writer, plan.search)
        index = ChipIndex.open(folder)
    return BuildResult(
        len(index),
        len(index) - before,
        counts.duplicates,
        counts.already_indexed,
        counts.blank,
        (*unreadable, *counts.unreadable),
        index.digest,
        kind,
        recall,
        time.monotonic() - start,
    )


def _require(folder: Path, model: EmbeddingModel, dtype: VectorDtype | None) -> VectorDtype:
    """The dtype of the vectors; ChipIndexError where an index is there that does not fit."""
    if folder.exists() and not folder.is_dir():
        raise ChipIndexError(f"{folder} is a file", "give a folder for the index")
    if not (folder / NAME).exists():
        leftovers = (VECTORS, f"{NAME}.part")  # what a build leaves that was killed at once
        if folder.is_dir() and any(p.name not in leftovers for p in folder.iterdir()):
            raise ChipIndexError(f"{folder} is a folder of something else", "give a new one")
        return dtype or "float32"
    header = Header.read(folder)
    model.require({k: v for k, v in header.model.items() if k != "weights"})
    if dtype not in (None, header.dtype):
        raise ChipIndexError(f"{folder} holds {header.dtype}, not {dtype}", "build another index")
    return header.dtype


@dataclass
class _BuildCounts:
    """What became of all there is."""

    already_indexed: int = 0
    duplicates: int = 0
    blank: int = 0
    unreadable: list[str] = field(default_factory=list)


def _add(
    writer: Writer,
    model: EmbeddingModel,
    plan: BuildPlan,
    files: list[FileItem],
    scenes: list[SceneEntry],
) -> _BuildCounts:
    """Do what is not done yet of the batches of these sources, and put it into the index."""
    unfinished = writer.header.unfinished
    first = unfinished.first if unfinished else writer.header.count
    index = ChipIndex(writer.folder, writer.header)
    batches, known_count = batches_of(index, files, scenes, first)
    digest = work_digest(batches, plan)
    if (
        unfinished and unfinished.plan != digest
    ):  # another command: what that one added is there to stay
        first, unfinished = writer.header.count, None
        batches, known_count = batches_of(index, files, scenes, first)
        digest = work_digest(batches, plan)
    counts, done = _BuildCounts(known_count), unfinished.batches if unfinished else 0
    if batches:
        state = Unfinished(digest, first, done, len(batches))
        entries = _scenes(writer.header, scenes, complete=False)
        writer.write(writer.header.patch(scenes=entries, unfinished=state))
        work = plan.cache or writer.folder / WORK
        _embed(writer, model, replace(plan, cache=work), batches[done:], state, counts)
    entries = _scenes(writer.header, scenes, complete=True)
    writer.write(writer.header.patch(scenes=entries, unfinished=None))
    remove_folder(writer.folder / WORK)
    return counts


def _scenes(
    header: Header, new_scenes: list[SceneEntry], *, complete: bool
) -> tuple[SceneEntry, ...]:
    """The index's scenes with these among them; one that is in whole stays so."""
    by_key = {(s.path, s.stamp, s.cut, s.bands): s for s in header.scenes}
    for s in new_scenes:
        key = s.path, s.stamp, s.cut, s.bands
        if key not in by_key or complete:
            by_key[key] = replace(s, whole=complete)
    return tuple(by_key.values())


def _embed(
    writer: Writer,
    model: EmbeddingModel,
    plan: BuildPlan,
    batches: Sequence[Batch],
    state: Unfinished,
    counts: _BuildCounts,
) -> None:
    """Do `batches` and append their chips in the order of the batches, part by part."""
    assert plan.cache is not None
    plan.cache.mkdir(parents=True, exist_ok=True)
    job = BatchJob(model, str(plan.cache.resolve()), plan.skip_bad)
    known_chips = _KnownChips(
        ChipIndex(writer.folder, writer.header), keep_duplicates=plan.keep_duplicates
    )
    gathered = _IndexPartWriter(writer, state, own=plan.cache == writer.folder / WORK)
    total = sum(len(p.files) + len(p.windows) for p in batches)
    with progress("describing chips", total) as advance:
        for batch, done in _in_order(run_tiles(job, batches, plan.workers), state.batches):
            counts.blank += done.blank
            counts.unreadable += done.bad
            new = [i for i, r in enumerate(done.rows) if known_chips.is_new(r)]
            counts.duplicates += len(done.rows) - len(new)
            gathered.add(done, _vectors(done, job, batch), new)
            if len(gathered.rows) >= CHIPS_PER_PART:
                gathered.commit(batch.index + 1)
            advance(len(done.rows) + done.blank + len(done.bad))
        gathered.commit(state.of)
    if writer.header.count == 0:
        raise SceneError(
            f"no chip of {total} is left: {counts.blank} blank, {len(counts.unreadable)} "
            "unreadable",
            counts.unreadable[0] if counts.unreadable else "lower `valid`",
        )


@dataclass
class _IndexPartWriter:
    """Chips that are described, but not yet in the index."""

    writer: Writer
    state: Unfinished
    own: bool
    """The files of vectors serve this build alone."""
    vectors: list[np.ndarray] = field(default_factory=list)
    rows: list[ChipRow] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def add(self, done: BatchResult, vectors: np.ndarray, new: Sequence[int]) -> None:
        """Keep the chips `new` of a batch."""
        self.files += [done.file] * bool(done.file)
        if new:
            self.vectors.append(vectors[new])
            self.rows += [done.rows[i] for i in new]

    def commit(self, batches: int) -> None:
        """Put them into the index, which then holds what `batches` batches gave."""
        data = np.concatenate(self.vectors) if self.vectors else np.zeros((0, 0), np.float32)
        self.writer.append(data, self.rows, replace(self.state, batches=batches))
        for file in self.files if self.own else ():
            Path(file).unlink(missing_ok=True)
        self.vectors, self.rows, self.files = [], [], []


def _vectors(done: BatchResult, job: BatchJob, batch: Batch) -> np.ndarray:
    """What a batch's file holds."""
    if not done.rows:
        return np.zeros((0, 0), np.float32)
    vectors = load_vectors(Path(done.file), len(done.rows))
    if vectors is None:  # a batch of the same pixels was there before, and its file is used up
        vectors = load_vectors(Path(job(batch).file), len(done.rows))
    if vectors is None:
        raise JobError(
            f"{done.file} is not there", "workers of a cluster must share the folder of the index"
        )
    return vectors


def _in_order(
    results: Iterator[tuple[Batch, BatchResult]], first: int
) -> Iterator[tuple[Batch, BatchResult]]:
    """What was done in any order, in the order of the batches."""
    pending: dict[int, _Result] = {}
    for batch, done in results:
        pending[batch.index] = batch, done
        while first in pending:
            yield pending.pop(first)
            first += 1


class _KnownChips:
    """Which chips are in the index, 16 bytes each: a million of them take 100 MB."""

    def __init__(self, index: ChipIndex, *, keep_duplicates: bool) -> None:
        self._keep_duplicates = keep_duplicates
        columns = ("digest", "source", "row", "col") if keep_duplicates else ("digest",)
        self._keys = {self._key(*values) for values in index.columns(columns)}

    def is_new(self, row: ChipRow) -> bool:
        """Whether there is none like it, which there is from now on."""
        key = self._key(row.digest, row.source, row.row, row.col)
        if key in self._keys:
            return False
        self._keys.add(key)
        return True

    def _key(self, digest: str, *position: object) -> bytes:
        if not self._keep_duplicates:
            return bytes.fromhex(digest)
        return hashlib.blake2b(f"{digest}|{position}".encode(), digest_size=16).digest()
