"""Image retrieval: chips to embeddings, an index of them on disk, search and its figures."""

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
