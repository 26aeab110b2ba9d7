"""The pixels of a class map, window by window: their classes, their areas, their fingerprint."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from geopipe.classes import IGNORE
from geopipe.errors import GridError, SceneError
from geopipe.grid import Window
from geopipe.grid.crs import transformer
from geopipe.labels import Area
from geopipe.labels.extent import Extent
from geopipe.progress import progress
from geopipe.raster.scene import Scene, opened, window_geobox

_SIDE = 2048
"""Windows hold at most about _SIDE x _SIDE pixels."""


def windows(src: rasterio.DatasetReader, side: int) -> Iterator[Window]:
    """Windows that cover `src` row by row: squares, or strips where the file is stored by rows."""
    stored_by_rows = src.block_shapes[0][1] >= src.width
    width = src.width if stored_by_rows else side
    height = max(1, side * side // width)
    for row in range(0, src.height, height):
        for col in range(0, src.width, width):
            yield Window(row, col, height, width).clip(src.shape)


@dataclass(frozen=True, eq=False)
class ClassPixels:
    """A georeferenced class map, perhaps inside an area; holds no open file."""

    scene: Scene
    names: tuple[str, ...]
    windows: tuple[Window, ...]
    """They cover the map, from left to right and then down."""
    area: Area | None = None

    @classmethod
    def open(cls, path: Path, names: tuple[str, ...], area: Path | None = None) -> Self:
        """Describe the class map `path`, limited to the polygons of `area`.

        Raises SceneError or GridError when it is not one band of whole numbers on the ground.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # that is an error here
            with opened(path) as src:
                if src.count > 2 or not np.issubdtype(src.dtypes[0], np.integer):
                    raise SceneError(
                        f"{path} has {src.count} bands of {src.dtypes[0]}",
                        "give a class map: one band of class ids, not colours or scores",
                    )
                parts = tuple(windows(src, _SIDE))
            scene = Scene.open(path, (1,))
        return cls(scene, names, parts, Area.open(area, scene.geobox) if area else None)

    def read(self, window: Window) -> np.ndarray:
        """Class ids (h, w) uint8, IGNORE where the map has none; the area does not matter.

        Raises SceneError naming an id that has no name.
        """
        raster = self.scene.read(window)
        ids = np.where(raster.valid, raster.data[0].astype(np.int64), IGNORE)
        invalid = ids[(ids != IGNORE) & ((ids < 0) | (ids >= len(self.names)))]
        if invalid.size:
            raise SceneError(
                f"{self.scene.path} holds the class id {invalid.flat[0]}, not of"
                f" {', '.join(self.names)}",
                "give the `classes` it was made with",
            )
        return ids.astype(np.uint8)

    def inside(self, window: Window, ids: np.ndarray) -> np.ndarray:
        """`ids` of `window` with IGNORE outside the area."""
        if self.area is None:
            return ids
        mask = self.area.inside(window_geobox(self.scene.geobox, window))
        return np.where(mask, ids, np.uint8(IGNORE))

    def scan(self, label: str) -> Iterator[tuple[Window, np.ndarray]]:
        """(window, ids) of the whole map, one after the other."""
        with ExitStack() as stack:
            advance = stack.enter_context(progress(label, len(self.windows)))
            for window in self.windows:
                yield window, self.read(window)
                advance()


@dataclass(frozen=True, eq=False)
class Census:
    """All pixels of a class map, or of the area in it, by class."""

    by_row: np.ndarray
    """(rows of the map, classes) uint32"""
    area_m2: np.ndarray
    """(classes,) float64, on the ground"""
    sha256: str
    """Of the whole map's pixels."""

    @property
    def pixels(self) -> np.ndarray:
        """Pixels of each class, (classes,) int64."""
        return np.asarray(self.by_row.sum(0, dtype=np.int64))


def census(pixels: ClassPixels) -> Census:
    """Count the pixels of each class; memory grows with the map's height alone."""
    k = len(pixels.names)
    by_row = np.zeros((pixels.scene.shape[0], k), np.uint32)
    area = np.zeros(k)
    ground, fingerprint = GroundAreas(pixels.scene.geobox), Fingerprint()
    for window, ids in pixels.scan("counting pixels"):
        fingerprint.update(window, ids)
        mask = pixels.inside(window, ids)
        rows = np.arange(window.row, window.bottom)
        # Strips may be as wide as the map; sizes of pixels are taken in the middle of some 2 km.
        for left in range(0, window.width, _SIDE):
            part = mask[:, left : left + _SIDE]
            counts = np.stack([(part == c).sum(1) for c in range(k)], axis=1)
            by_row[window.row : window.bottom] += counts.astype(np.uint32)
            center_cols = np.full(len(rows), window.col + left + part.shape[1] // 2)
            if counts.any():
                area += ground.of(rows, center_cols) @ counts
    return Census(by_row, area, fingerprint.hexdigest())


class GroundAreas:
    """Areas of single pixels on the ground, whatever the CRS of their plane."""

    def __init__(self, geobox: GeoBox) -> None:
        self._affine = geobox.affine
        crs = Extent(geobox).crs
        height, width = geobox.shape
        x, y = geobox.affine * (width / 2, height / 2)
        lon, lat = transformer(crs, "EPSG:4326").transform(x, y)
        laea = f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +ellps=WGS84 +units=m"
        self._equal_area = transformer(crs, laea)

    def of(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Square metres (n,) of the pixels in `rows` and `cols`, both (n,); GridError if none."""
        u = np.stack([cols, cols + 1, cols + 1, cols]).astype(float)
        v = np.stack([rows, rows, rows + 1, rows + 1]).astype(float)
        a = self._affine
        x, y = self._equal_area.transform(a.a * u + a.b * v + a.c, a.d * u + a.e * v + a.f)
        # Half the cross product of the diagonals.
        m2 = abs((x[2] - x[0]) * (y[3] - y[1]) - (x[3] - x[1]) * (y[2] - y[0])) / 2
        if not (np.isfinite(m2) & (m2 > 0)).all():
            raise GridError(
                "some pixels have no area on the ground: the transform or CRS is wrong",
                "check the map with gdalinfo",
            )
        return np.asarray(m2)


class Fingerprint:
    """SHA-256 of the rows' SHA-256, so that it does not depend on how a file is stored."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rows: list[hashlib._Hash] = []

    def update(self, window: Window, ids: np.ndarray) -> None:
        """Add a window (h, w) uint8; from left to right, then down."""
        if window.col == 0:
            self._close_rows()
            self._rows = [hashlib.sha256() for _ in range(window.height)]
        for row, line in zip(self._rows, np.ascontiguousarray(ids), strict=True):
            row.update(line)

    def hexdigest(self) -> str:
        """The fingerprint of what was added."""
        self._close_rows()
        return self._digest.hexdigest()

    def _close_rows(self) -> None:
        for row in self._rows:
            self._digest.update(row.digest())
        self._rows = []
