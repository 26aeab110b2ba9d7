"""What to ask a service for: pieces of a pixel grid, and who is to be credited."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from geopipe.errors import ConfigError, ServiceError
from geopipe.grid import Window, ground_gsd
from geopipe.grid.crs import transformer

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top; in degrees west, south, east, north."""
LONLAT = "EPSG:4326"
COARSER = 1.1
"""Pixels may be so many times as large as asked for; a finer level has four times as many."""
MAX_PIXELS = 2_000_000_000
_EDGE = 1e-6
"""Pixels by which rounding may move an edge."""


@dataclass(frozen=True, slots=True)
class TileRequest:
    """One request and its place."""

    window: Window
    """On the plane of the plan; it may stick out."""
    address: str


class Source(Protocol):
    """Gets pieces and reads them."""

    def fetch(self, piece: TileRequest, target: Path) -> bool:
        """Write what the service has for `piece` to the file `target`; False: it has nothing."""
        ...

    def read(self, piece: TileRequest, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (bands, h, w) and validity (h, w) of a file that `fetch` wrote."""
        ...


@dataclass(frozen=True)
class Plan:
    """A scene that is to be downloaded."""

    geobox: GeoBox
    tile_requests: tuple[TileRequest, ...]
    source: Source
    credit: str
    """Whom to name in everything made from the scene; "" when the service does not say."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Further tags of the scene: service, layer, level..."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """What a download may ask for."""

    requests: int = 10_000

    def check(self, pixels: float, requests: float) -> None:
        """Raise ConfigError for a download that is too large, before anything is made for it."""
        if requests > self.requests:
            raise ConfigError(
                f"that takes {requests:,.0f} requests, more than {self.requests:,}",
                "give smaller `bounds`, a coarser `gsd`, or more `max_requests`",
            )
        if pixels > MAX_PIXELS:
            raise ConfigError(
                f"that is {pixels / 1e6:,.0f} million pixels, more than {MAX_PIXELS // 10**6:,}",
                "give smaller `bounds` or a coarser `gsd`",
            )


def check_bounds(bounds: Sequence[float]) -> Bounds:
    """`bounds` as west, south, east, north in degrees; ConfigError when they are none."""
    west, south, east, north = bounds
    if not (all(map(math.isfinite, bounds)) and -90 < south < north < 90):
        raise ConfigError(
            f"bounds {_text(bounds)} have no south below their north",
            "give west south east north in degrees, e.g. 4.04 45.59 4.10 45.62",
        )
    if not -180 <= west < east <= 180:
        raise ConfigError(
            f"bounds {_text(bounds)} have no west left of their east",
            "give west south east north in degrees; across the 180th meridian download two scenes",
        )
    return west, south, east, north


def _text(bounds: Sequence[float]) -> str:
    return " ".join(f"{b:g}" for b in bounds)


def parse_crs(name: str) -> CRS:
    """The CRS of a code such as ``EPSG:2154`` or a URN; ServiceError when there is none."""
    try:
        return CRS.from_user_input("OGC:CRS84" if name == "CRS:84" else name)
    except CRSError as e:
        raise ServiceError(f"PROJ does not know the CRS {name}", "choose another one") from e


def bounds_in(crs: CRS, bounds: Bounds) -> Bounds:
    """The box in `crs` around `bounds` in degrees; ServiceError when they are out of its reach."""
    try:
        box = transformer(LONLAT, crs).transform_bounds(*bounds)
    except ProjError:
        box = (math.inf,) * 4
    if not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
        raise ServiceError(f"bounds {_text(bounds)} are out of the reach of {crs.name}")
    return box


def unit_on_ground(crs: CRS, box: Bounds) -> float:
    """Metres on the ground that one unit of `crs` is long in the middle of `box`."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    step = 1e-5 if crs.is_geographic else 1.0
    cell = GeoBox((1, 1), Affine(step, 0, x - step / 2, 0, -step, y + step / 2), crs)
    return sum(ground_gsd(cell)) / 2 / step


def plane(
    crs: CRS, origin: tuple[float, float], pixel: float, box: Bounds
) -> tuple[GeoBox, Window]:
    """The pixels that meet `box`: a grid, and its window on the grid that starts at `origin`.

    `origin`: x and y of an upper left corner of a pixel.
    """
    left, bottom, right, top = box
    col, row = (
        math.floor((left - origin[0]) / pixel + _EDGE),
        math.floor((origin[1] - top) / pixel + _EDGE),
    )
    end_col, end_row = (
        math.ceil((right - origin[0]) / pixel - _EDGE),
        math.ceil((origin[1] - bottom) / pixel - _EDGE),
    )
    window = Window(row, col, max(1, end_row - row), max(1, end_col - col))
    affine = Affine(pixel, 0, origin[0] + col * pixel, 0, -pixel, origin[1] - row * pixel)
    return GeoBox(window.shape, affine, crs), window
