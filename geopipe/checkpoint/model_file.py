"""ModelFile: the file of a model, loaded and hashed once for all that a map does with it."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from geopipe.checkpoint.checkpoint import Checkpoint, file_hash


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file and what is in it. Two are equal when path and bytes are.

    Pickled it is a path and a hash: a worker in another process loads the model itself.
    """

    path: Path
    sha256: str
    """Of the file's bytes, hexadecimal."""
    loaded: Checkpoint | None = field(default=None, compare=False, repr=False)
    stamp: tuple[int, int] | None = field(default=None, compare=False, repr=False)
    """Size and time of change when it was hashed."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Load and hash the file at `path`; raises CheckpointError as `Checkpoint.load` does."""
        stamp = _stamp(path)
        model = Checkpoint.load(path)
        return cls(path, file_hash(path), model, stamp)

    @property
    def checkpoint(self) -> Checkpoint:
        """The model, shared by all that hold the file: nobody moves or changes its network."""
        return self.loaded or Checkpoint.load(self.path)

    def own_checkpoint(self) -> Checkpoint:
        """The model with a network of the caller's own, e.g. to move it to a GPU."""
        return copy.deepcopy(self.loaded) if self.loaded else Checkpoint.load(self.path)

    def now(self) -> Self:
        """The file as it is now: hashed again only where its size or time of change differ."""
        if self.stamp is not None and _stamp(self.path) == self.stamp:
            return self
        return type(self)(self.path, file_hash(self.path))

    def __reduce__(self) -> tuple[Any, ...]:
        # resolved, since workers of a cluster may run in another folder
        return type(self), (self.path.resolve(), self.sha256)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:  # whoever opens it says so
        return None
    return stat.st_size, stat.st_mtime_ns
