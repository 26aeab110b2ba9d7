"""Query an index: the query image, its embedding, and the nearest chips."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely

from geopipe.errors import ChipIndexError, ConfigError, SceneError
from geopipe.grid import ground_gsd
from geopipe.raster.scene import window_geobox
from geopipe.retrieve.batches import FileItem, mean_colour, read_file, read_windows, stamp
from geopipe.retrieve.box import Box
from geopipe.retrieve.embedding import EmbeddingModel
from geopipe.retrieve.header import SceneEntry
from geopipe.retrieve.normalization import expanded, rocchio, similarity
from geopipe.retrieve.rows import ChipRow
from geopipe.retrieve.search import Searcher, load
from geopipe.retrieve.store import ChipIndex

log = logging.getLogger(__name__)

_FAR = 1.5
"""A box this much larger or smaller than the chips is another scale."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. Chips of the index are named by their numbers, others by their files."""

    image: str | None = None
    box: Box | None = None
    scene: str | None = None
    """The scene the box is in; None: the one that shows most of it."""
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How it is answered."""

    k: int = 20
    overlap: float = 0.3
    """A hit that shares more of its area with a better one, or with the box, is left out."""
    with_self: bool = False
    """What was asked with may be among the hits."""
    expand: int = 0
    """So many first hits are added to the query, which is asked again."""
    exact: bool = False
    """Without the approximate search, if there is one."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.expand < 0 or not 0 <= self.overlap <= 1:
            raise ConfigError(f"k={self.k}, expand={self.expand}, overlap={self.overlap:g}")


@dataclass(frozen=True, eq=False)
class Example:
    """An image that was asked with."""

    name: str
    image: np.ndarray | None
    """(3, h, w) uint8; None for a chip whose file is gone"""
    vector: np.ndarray
    """(d,) float32"""
    row: ChipRow
    role: str = "query"
    """query, like or unlike"""
    number: int | None = None
    """In the index, where it was named so."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chip that was found."""

    rank: int
    number: int
    distance: float
    """Euclidean, between vectors."""
    similarity: float
    """Correlation or cosine, -1 to 1."""
    row: ChipRow


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What an index says."""

    hits: tuple[Hit, ...]
    examples: tuple[Example, ...]
    chips: int
    """In the index."""
    notes: tuple[str, ...]
    scenes: tuple[SceneEntry, ...]


@dataclass(frozen=True, eq=False)
class Retriever:
    """An open index and the model it was made with."""

    index: ChipIndex
    model: EmbeddingModel

    @classmethod
    def open(cls, folder: Path, weights: str | None = None, device: str = "cpu") -> "Retriever":
        """Open `folder`; `weights`: where its model's weights are now, if not where they were.

        Raises ChipIndexError for a damaged or empty index, or weights of another model.
        """
        index = ChipIndex.open(folder)
        if not len(index):
            raise ChipIndexError(f"{folder} holds no chip yet", "run its build to the end")
        known = EmbeddingModel.known(index.header.model)
        return cls(index, replace(known, weights=weights or known.weights, device=device))

    @cached_property
    def searcher(self) -> Searcher:
        """Approximate where the index has it so."""
        told = self.index.header.search
        if told is None:
            return Searcher(self.index.vectors)
        return load(self.index.folder, told, self.index.vectors)

    def examples(self, asked: Query) -> list[Example]:
        """What was asked with, as vectors; ConfigError where that is nothing."""
        if asked.image and asked.box:
            raise ConfigError("an image and a box", "give one of them")
        found = []
        if asked.image:
            found.append(self._named(asked.image, "query"))
        if asked.box:
            found.append(self._boxed(asked.box, asked.scene))
        found += [self._named(name, "like") for name in asked.like]
        found += [self._named(name, "unlike") for name in asked.unlike]
        return found

    def _named(self, name: str, role: str) -> Example:
        if not name.isdecimal():
            path = str(Path(name).resolve())
            row, pixels = read_file(FileItem(path, "", ""))
            return Example(name, pixels, self.model.embed([pixels])[0], row, role)
        number = int(name)
        if number >= len(self.index):
            raise ConfigError(
                f"no chip {number}: the index has 0 to {len(self.index) - 1}",
                "a file's name that is a number: give it as ./NAME",
            )
        row = self.index.rows([number])[0]
        vector = np.asarray(self.index.vectors[number], np.float32)
        return Example(f"chip {number}", self.picture(row), vector, row, role, number)

    def _boxed(self, box: Box, scene: str | None) -> Example:
        entries = {s.path: s for s in self.index.header.scenes}
        if scene is not None:
            path = str(Path(scene).resolve())
            if path not in entries and scene not in entries:
                raise ConfigError(f"{scene} is not in the index", f"it has {', '.join(entries)}")
            entries = {path: entries.get(path) or entries[scene]}
        entry, window = box.find(list(entries.values()))
        (row, pixels), *_ = read_windows(entry, [window], mean_colour(self.model))
        if pixels is None:
            raise ConfigError(f"the box shows too few valid pixels of {entry.path}")
        return Example("box", pixels, self.model.embed([pixels])[0], row)

    def picture(self, row: ChipRow) -> np.ndarray | None:
        """The pixels (3, h, w) uint8 of a chip; None where its source is gone."""
        entries = [s for s in self.index.header.scenes if s.path == row.source]
        try:
            if not entries:
                return read_file(FileItem(row.source, "", ""))[1]
            blank = replace(entries[-1], cut=(*entries[-1].cut[:2], 0.0))
            (_, pixels), *_ = read_windows(blank, [row.window], mean_colour(self.model))
        except SceneError:
            return None
        grey = np.full((3, *row.window.shape), 128, np.uint8)
        return grey if pixels is None else pixels

    def query(self, asked: Query, options: SearchOptions) -> SearchResult:
        """The nearest chips to what is asked; fewer than `k` where there are no more."""
        examples = self.examples(asked)
        by_role = {
            role: np.array([e.vector for e in examples if e.role == role])
            for role in ("query", "like", "unlike")
        }
        norm, known = self.model.config.norm, by_role["query"]
        query = known[0] if len(known) else None
        if by_role["like"].size or by_role["unlike"].size or query is None:
            query = rocchio(query, by_role["like"], by_role["unlike"], norm)
        if options.expand:
            first = self._hits(query, examples, replace(options, k=options.expand))
            seen = np.asarray(self.index.vectors[[h.number for h in first]], np.float32)
            query = expanded(query, seen, norm)
        hits = self._hits(query, examples, options)
        notes = list(self._notes(examples, hits, options, boxed=asked.box is not None))
        for note in notes:
            log.warning(note)
        return SearchResult(
            tuple(hits), tuple(examples), len(self.index), tuple(notes), self.index.header.scenes
        )

    def _hits(
        self, query: np.ndarray, examples: Sequence[Example], options: SearchOptions
    ) -> list[Hit]:
        searcher = Searcher(self.index.vectors) if options.exact else self.searcher
        total, wanted = len(self.index), 2 * options.k + len(examples)
        while True:
            distances, ids = searcher.search(query[None], min(wanted, total))
            there = ids[0] >= 0
            near, numbers = distances[0][there].tolist(), ids[0][there].tolist()
            chosen = _apart(
                zip(numbers, self.index.rows(numbers), near, strict=True), examples, options
            )
            if len(chosen) >= options.k or wanted >= total:
                break
            wanted *= 4
        chosen = chosen[: options.k]
        if not chosen:
            return []
        vectors = np.asarray(self.index.vectors[[n for n, _, _ in chosen]], np.float32)
        alike = similarity(vectors, query, self.model.config.norm)
        return [
            Hit(rank, number, distance, float(s), row)
            for rank, ((number, row, distance), s) in enumerate(zip(chosen, alike, strict=True), 1)
        ]

    def _notes(
        self,
        examples: Sequence[Example],
        hits: Sequence[Hit],
        options: SearchOptions,
        *,
        boxed: bool,
    ) -> Iterator[str]:
        if len(hits) < options.k:
            yield (
                f"{options.k} hits were asked for, there are {len(hits)}: the index has "
                f"{len(self.index)} chips, what overlaps more than {options.overlap:g} is left out"
            )
        if self.index.header.incomplete:
            yield self.index.header.incomplete
        source = examples[0].row.source
        entry = next((s for s in self.index.header.scenes if s.path == source), None)
        if boxed and entry is not None:
            plane = window_geobox(entry.scene.geobox, examples[0].row.window)
            metres = ground_gsd(plane)[0] * examples[0].row.height
            if not 1 / _FAR <= metres / entry.cut[0] <= _FAR:
                yield (
                    f"the box is {metres:.0f} m a side, the chips {entry.cut[0]:g} m: things look "
                    "larger or smaller in them"
                )
        shown = [*(h.row for h in hits), *(examples[0].row for _ in range(boxed))]
        changed = sorted({r.source for r in shown if stamp(r.source) != r.stamp})
        if changed:
            more = f" and {len(changed) - 1} more" * (len(changed) > 1)
            yield (
                "changed or gone since it was indexed, so what is shown of it may be wrong: "
                f"{changed[0]}{more}"
            )


def _apart(
    found: Iterator[tuple[int, ChipRow, float]], examples: Sequence[Example], options: SearchOptions
) -> list[tuple[int, ChipRow, float]]:
    """What overlaps neither a better hit nor, unless wished, what was asked with."""
    out: list[tuple[int, ChipRow, float]] = []
    taken: dict[str, list[shapely.Polygon]] = {}
    if not options.with_self:
        for e in examples:
            _overlaps(e.row, taken, 1.0)
    digests = set() if options.with_self else {e.row.digest for e in examples}
    numbers = set() if options.with_self else {e.number for e in examples}
    for number, row, distance in found:
        if row.digest in digests or number in numbers:
            continue
        if not _overlaps(row, taken, options.overlap):
            out.append((number, row, distance))
    return out


def _overlaps(row: ChipRow, taken: dict[str, list[shapely.Polygon]], most: float) -> bool:
    """Whether more than `most` of a chip is taken already; it is from now on, if not."""
    if not row.crs:
        return False
    shape = shapely.Polygon(row.corners)
    others = taken.setdefault(row.crs, [])
    if others and most < 1:
        shared = shapely.area(shapely.intersection(shape, np.array(others)))
        if (shared > most * np.minimum(shape.area, shapely.area(np.array(others)))).any():
            return True
    others.append(shape)
    return False
