"""ArrayScene: pixels in memory, or a part of them, read as a scene is read from a file."""

from dataclasses import dataclass, field

import numpy as np

from geopipe.errors import GridError
from geopipe.grid import Window
from geopipe.raster.scene import Scene


@dataclass(frozen=True, slots=True)
class ArrayScene(Scene):
    """A Scene whose pixels are held in memory; `path` is a name for messages alone."""

    pixels: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)), repr=False)
    """(bands, h, w) of `held`; 0 where not `mask`."""
    mask: np.ndarray = field(default_factory=lambda: np.empty((0, 0), bool), repr=False)
    """(h, w) bool, True where valid."""
    held: Window = Window(0, 0, 0, 0)  # noqa: RUF009 (frozen)
    """The part of the pixel plane that `pixels` are."""

    def _read(self, inside: Window) -> tuple[np.ndarray, np.ndarray]:
        if not _holds(self.held, inside):
            raise GridError(f"{self.path} holds {self.held}, not {inside}")
        at = inside.within(self.held)
        return self.pixels[(slice(None), *at)], self.mask[at]


def _holds(outer: Window, inner: Window) -> bool:
    return (
        outer.row <= inner.row
        and outer.col <= inner.col
        and inner.bottom <= outer.bottom
        and inner.right <= outer.right
    )
