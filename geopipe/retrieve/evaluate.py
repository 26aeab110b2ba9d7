"""Evaluate an index whose chips have classes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geopipe.errors import ConfigError
from geopipe.retrieve.measures import LAST, RetrievalMetrics, evaluate_vectors
from geopipe.retrieve.store import ChipIndex

_MAX_EXACT_CHIPS = 200_000
"""Chips whose distances to a query are sorted in full."""


@dataclass(frozen=True, eq=False)
class IndexEvaluation:
    """What the classes say of an index."""

    metrics: RetrievalMetrics
    chips: int
    labelled: int
    model: dict[str, object]
    incomplete: str | None = None
    """What is to be said of an index whose build has not ended."""

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "chips": self.chips,
            "labelled": self.labelled,
            "model": self.model,
            "warnings": self.warnings(),
            **self.metrics.to_dict(),
        }

    def warnings(self) -> list[str]:
        """What a reader of the figures should know."""
        out = [self.incomplete] if self.incomplete else []
        if self.metrics.left_out:
            names = ", ".join(self.metrics.left_out)
            out.append(f"classes with one image have nothing to find, left out: {names}")
        if self.labelled < self.chips:
            out.append(f"{self.chips - self.labelled} chips have no class, left out")
        if len(self.metrics.retrieved) + 1 < LAST:
            last = int(self.metrics.retrieved[-1]) if len(self.metrics.retrieved) else 1
            out.append(f"precision and recall end at {last} images: there are no more")
        return out


def evaluate_index(folder: Path, queries: int | None = None, seed: int = 0) -> IndexEvaluation:
    """Every chip with a class asks for all others, or `queries` of them drawn by lot.

    Distances are exact and all others are ranked. ConfigError where no class has two chips.
    """
    index = ChipIndex.open(folder)
    classes = [str(name) for name in index.column("class_name")]
    labelled = np.flatnonzero([bool(name) for name in classes])
    if not len(labelled):
        raise ConfigError(
            f"no chip of {folder} has a class", "classes are the names of the folders chips lie in"
        )
    if len(labelled) > _MAX_EXACT_CHIPS:
        raise ConfigError(
            f"{len(labelled)} chips are too many to rank in full ({_MAX_EXACT_CHIPS})"
        )
    query_rows = None
    if queries is not None and queries < len(labelled):
        query_rows = np.sort(np.random.default_rng(seed).choice(labelled, queries, replace=False))
    metrics = evaluate_vectors(index.vectors, classes, query_rows)
    header = index.header
    return IndexEvaluation(
        metrics, len(index), len(labelled), dict(header.model), header.incomplete
    )
