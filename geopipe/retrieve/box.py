"""A box on the ground as a window of one of an index's scenes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError

from geopipe.errors import ConfigError, GridError
from geopipe.grid import Window, ground_gsd
from geopipe.grid.crs import transformer
from geopipe.retrieve.header import SceneEntry

LONLAT = "lonlat"
SCENE = "scene"
_MIN_PX = 8


@dataclass(frozen=True, slots=True)
class Box:
    """Bounds, and what they are in."""

    bounds: tuple[float, float, float, float]
    """(left, bottom, right, top)"""
    crs: str = SCENE
    """``scene``: the scene's own; ``lonlat``: degrees east and north."""

    def __post_init__(self) -> None:
        left, bottom, right, top = self.bounds
        if not (np.isfinite(self.bounds).all() and left < right and bottom < top):
            raise ConfigError(
                f"the box {left:g},{bottom:g},{right:g},{top:g} is empty",
                "give left,bottom,right,top",
            )

    def find(self, scenes: Sequence[SceneEntry]) -> tuple[SceneEntry, Window]:
        """The scene that shows most of the box, and the square around it there.

        Of equals the first. Raises ConfigError where no scene shows it, naming where they lie.
        """
        best: tuple[float, SceneEntry, Window] | None = None
        for entry in scenes:
            window = self._window(entry)
            if window is None:
                continue
            inside = window.clip(entry.shape)
            share = inside.height * inside.width / max(1, window.height * window.width)
            if share > (best[0] if best else 0):
                best = share, entry, window
        if best is None:
            raise ConfigError(
                f"the box {_text(self.bounds)} ({self.crs}) lies outside all {len(scenes)} scenes",
                "; ".join(self._extent(s) for s in scenes[:3]) or "the index holds no scene",
            )
        _, entry, window = best
        if min(window.shape) < _MIN_PX:
            raise ConfigError(
                f"the box is {window.height} x {window.width} px in {entry.path}",
                f"at least {_MIN_PX} are needed",
            )
        return entry, _square(window, entry.scene.geobox)

    def _window(self, entry: SceneEntry) -> Window | None:
        """The box in pixels of a scene; None where its CRS cannot say."""
        bounds = self.bounds
        if self.crs == LONLAT:
            try:
                to_scene = transformer("OGC:CRS84", entry.crs)
                bounds = to_scene.transform_bounds(*bounds)
            except (ProjError, GridError):
                return None
            if not np.isfinite(bounds).all():
                return None
        left, bottom, right, top = bounds
        to_pixels = ~entry.scene.geobox.affine
        x, y = zip(
            *(to_pixels * p for p in ((left, top), (right, top), (right, bottom), (left, bottom))),
            strict=True,
        )
        if max(map(abs, (*x, *y))) > 1e9:
            return None
        row, col = round(min(y)), round(min(x))
        return Window(row, col, round(max(y)) - row, round(max(x)) - col)

    def _extent(self, entry: SceneEntry) -> str:
        geobox: GeoBox = entry.scene.geobox
        box = geobox.boundingbox
        bounds: tuple[float, ...] = (box.left, box.bottom, box.right, box.top)
        name = entry.crs if self.crs == SCENE and len(entry.crs) < 20 else self.crs
        if self.crs == LONLAT:
            to_lonlat = transformer(entry.crs, "OGC:CRS84")
            bounds = to_lonlat.transform_bounds(box.left, box.bottom, box.right, box.top)
        return f"{entry.path}: {_text(bounds)} ({name})"


def _text(bounds: Sequence[float]) -> str:
    return ",".join(f"{v:.10g}" for v in bounds)


def _square(window: Window, geobox: GeoBox) -> Window:
    """The square on the ground with the window's middle and longer side, moved into the scene."""
    gsd_y, gsd_x = ground_gsd(geobox)
    rows, cols = geobox.shape
    metres = max(window.height * gsd_y, window.width * gsd_x)
    metres = min(metres, rows * gsd_y, cols * gsd_x)
    height, width = round(metres / gsd_y), round(metres / gsd_x)
    row = window.row + (window.height - height) // 2
    col = window.col + (window.width - width) // 2
    return Window(min(max(row, 0), rows - height), min(max(col, 0), cols - width), height, width)
