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

_MAX_SCALE_RATIO = 1.5
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
    """Between vectors, see `distance`."""
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
        model = EmbeddingModel.from_identity(index.header.model)
        return cls(index, replace(model, weights=weights or model.weights, device=device))

    @cached_property
    def searcher(self) -> Searcher:
        """Approximate where the index has it so."""
        search_info = self.index.header.search
        if search_info is None:
            return Searcher(self.index.vectors)
        return load(self.index.folder, search_info, self.index.vectors)

    def examples(self, query: Query) -> list[Example]:
        """What was asked with, as vectors; ConfigError where that is nothing."""
        if query.image and query.box:
            raise ConfigError("an image and a box", "give one of them")
        examples = []
        if query.image:
            examples.append(self._load_example(query.image, "query"))
        if query.box:
            examples.append(self._box_example(query.box, query.scene))
        examples += [self._load_example(name, "like") for name in query.like]
        examples += [self._load_example(name, "unlike") for name in query.unlike]
        return examples

    def _load_example(self, name: str, role: str) -> Example:
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
        return Example(f"chip {number}", self.chip_pixels(row), vector, row, role, number)

    def _box_example(self, box: Box, scene: str | None) -> Example:
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

    def chip_pixels(self, row: ChipRow) -> np.ndarray | None:
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

    def query(self, query: Query, options: SearchOptions) -> SearchResult:
        """The nearest chips to what is asked; fewer than `k` where there are no more."""
        examples = self.examples(query)
        by_role = {
            role: np.array([e.vector for e in examples if e.role == role])
            for role in ("query", "like", "unlike")
        }
        norm, query_vectors = self.model.config.norm, by_role["query"]
        query_vector = query_vectors[0] if len(query_vectors) else None
        if by_role["like"].size or by_role["unlike"].size or query_vector is None:
            query_vector = rocchio(query_vector, by_role["like"], by_role["unlike"], norm)
        if options.expand:
            first = self._hits(query_vector, examples, replace(options, k=options.expand))
            neighbours = np.asarray(self.index.vectors[[h.number for h in first]], np.float32)
            query_vector = expanded(query_vector, neighbours, norm)
        hits = self._hits(query_vector, examples, options)
        notes = list(self._notes(examples, hits, options, boxed=query.box is not None))
        for note in notes:
            log.warning(note)
        return SearchResult(
            tuple(hits), tuple(examples), len(self.index), tuple(notes), self.index.header.scenes
        )

    def _hits(
        self, query: np.ndarray, examples: Sequence[Example], options: SearchOptions
    ) -> list[Hit]:
        searcher = Searcher(self.index.vectors) if options.exact else self.searcher
        total, requested = len(self.index), 2 * options.k + len(examples)
        while True:
            distances, ids = searcher.search(query[None], min(requested, total))
            is_valid = ids[0] >= 0
            valid_distances, numbers = distances[0][is_valid].tolist(), ids[0][is_valid].tolist()
            selected = _non_overlapping(
                zip(numbers, self.index.rows(numbers), valid_distances, strict=True),
                examples,
                options,
            )
            if len(selected) >= options.k or requested >= total:
                break
            requested *= 4
        selected = selected[: options.k]
        if not selected:
            return []
        vectors = np.asarray(self.index.vectors[[n for n, _, _ in selected]], np.float32)
        similarities = similarity(vectors, query, self.model.config.norm)
        return [
            Hit(rank, number, distance, float(s), row)
            for rank, ((number, row, distance), s) in enumerate(
                zip(selected, similarities, strict=True), 1
            )
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
            box_geobox = window_geobox(entry.scene.geobox, examples[0].row.window)
            metres = ground_gsd(box_geobox)[0] * examples[0].row.height
            if not 1 / _MAX_SCALE_RATIO <= metres / entry.cut[0] <= _MAX_SCALE_RATIO:
                yield (
                    f"the box is {metres:.0f} m a side, the chips {entry.cut[0]:g} m: things look "
                    "larger or smaller in them"
                )
        displayed = [*(h.row for h in hits), *(examples[0].row for _ in range(boxed))]
        changed = sorted({r.source for r in displayed if stamp(r.source) != r.stamp})
        if changed:
            suffix = f" and {len(changed) - 1} more" * (len(changed) > 1)
            yield (
                "changed or gone since it was indexed, so what is shown of it may be wrong: "
                f"{changed[0]}{suffix}"
            )


def _non_overlapping(
    candidates: Iterator[tuple[int, ChipRow, float]],
    examples: Sequence[Example],
    options: SearchOptions,
) -> list[tuple[int, ChipRow, float]]:
    """What overlaps neither a better hit nor, unless wished, what was asked with."""
    out: list[tuple[int, ChipRow, float]] = []
    occupied: dict[str, list[shapely.Polygon]] = {}
    if not options.with_self:
        for e in examples:
            _overlaps(e.row, occupied, 1.0)
    digests = set() if options.with_self else {e.row.digest for e in examples}
    numbers = set() if options.with_self else {e.number for e in examples}
    for number, row, distance in candidates:
        if row.digest in digests or number in numbers:
            continue
        if not _overlaps(row, occupied, options.overlap):
            out.append((number, row, distance))
    return out


def _overlaps(row: ChipRow, occupied: dict[str, list[shapely.Polygon]], max_overlap: float) -> bool:
    """Whether more than `max_overlap` of a chip is taken already; it is from now on, if not."""
    if not row.crs:
        return False
    shape = shapely.Polygon(row.corners)
    others = occupied.setdefault(row.crs, [])
    if others and max_overlap < 1:
        shared = shapely.area(shapely.intersection(shape, np.array(others)))
        if (shared > max_overlap * np.minimum(shape.area, shapely.area(np.array(others)))).any():
            return True
    others.append(shape)
    return False
