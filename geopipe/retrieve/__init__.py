"""Chips by likeness: images to vectors, an index of them on disk, and how good its answers are."""

from geopipe.retrieve.embedding import EmbeddingConfig, EmbeddingModel
from geopipe.retrieve.measures import RetrievalMetrics, evaluate_vectors
from geopipe.retrieve.rows import ChipRow
from geopipe.retrieve.store import ChipIndex

__all__ = [
    "ChipIndex",
    "ChipRow",
    "EmbeddingConfig",
    "EmbeddingModel",
    "RetrievalMetrics",
    "evaluate_vectors",
]
