"""Chips by likeness: images to vectors, an index of them on disk, and how good its answers are."""

from geopipe.retrieve.measures import Judged, judge_vectors
from geopipe.retrieve.recipe import Model, Recipe
from geopipe.retrieve.rows import ChipRow
from geopipe.retrieve.store import ChipIndex

__all__ = ["ChipIndex", "ChipRow", "Judged", "Model", "Recipe", "judge_vectors"]
