"""Shared ground of the tile generator: frames, records of the scene, noise and small geometry.

The local frame of a tile is in metres from its top-left corner, x to the east and y to the
south, so that a pixel is (y / PIXEL, x / PIXEL) and only the writers know of Lambert-93.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry import LineString, MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

Float = NDArray[np.float32]
Floats = NDArray[np.float64]
Colour = tuple[float, float, float]
Rng = np.random.Generator

PIXEL = 0.5
MARGIN = 60.0
"""Metres drawn beyond the tile, so that edge trees and shadows come from somewhere."""


@dataclass(frozen=True)
class Village:
    """A settlement: its centre in the local frame, its radius, and its place name."""

    x: float
    y: float
    radius: float
    name: str

    def closeness(self, point: Point) -> float:
        """1 at the centre, 0 at the rim, negative outside."""
        return 1.0 - math.hypot(point.x - self.x, point.y - self.y) / self.radius


@dataclass(frozen=True)
class TileSpec:
    """What sets one tile apart: place, size, seed, villages, light and nodata wedge."""

    name: str
    seed: int
    pixels: int
    left: float
    top: float
    villages: tuple[Village, ...]
    ponds: tuple[tuple[float, float, float], ...]
    gain: Colour
    offset: float
    gamma: float
    wedge: tuple[tuple[float, float], ...]

    @property
    def metres(self) -> float:
        """Side of the tile on the ground."""
        return self.pixels * PIXEL

    def rng(self, stream: int) -> Rng:
        """Return an independent generator for one stage, so that stages do not disturb others."""
        return np.random.default_rng([self.seed, stream])


@dataclass(frozen=True)
class Road:
    """A road or a track: centre-line, true width and looks."""

    line: LineString
    width: float
    highway: str
    name: str | None = None
    marked: bool = False
    tone: float = 0.5
    urban: bool = False


@dataclass(frozen=True)
class Part:
    """A rectangle under one roof; the ridge runs along its length."""

    x: float
    y: float
    angle: float
    length: float
    width: float

    def polygon(self) -> Polygon:
        """Footprint of the part."""
        return rectangle(self.x, self.y, self.angle, self.length, self.width)


@dataclass(frozen=True)
class Building:
    """A building of one or more rectangular parts."""

    parts: tuple[Part, ...]
    use: str
    eave: float
    pitch: float
    roof: str
    colour: Colour
    seed: int

    def footprint(self) -> Polygon:
        """Outline on the ground: what the truth holds and what the roof covers."""
        if len(self.parts) == 1:
            return self.parts[0].polygon()
        joined = shapely.union_all([part.polygon() for part in self.parts])
        return max(polygons_of(joined), key=lambda polygon: polygon.area)


@dataclass(frozen=True)
class Patch:
    """A piece of ground with a cover of its own (yard, pool, pond, bed...)."""

    polygon: Polygon
    cover: str
    angle: float = 0.0


@dataclass(frozen=True)
class Parcel:
    """A field, meadow, garden or wood."""

    polygon: Polygon
    style: str
    angle: float


@dataclass
class Scene:
    """Everything there is to draw on one tile, in its local frame."""

    spec: TileSpec
    roads: list[Road] = field(default_factory=list)
    tracks: list[Road] = field(default_factory=list)
    stream: LineString = field(default_factory=LineString)
    carriageway: BaseGeometry = field(default_factory=Polygon)
    buildings: list[Building] = field(default_factory=list)
    gone: list[Building] = field(default_factory=list)
    parcels: list[Parcel] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    trees: Floats = field(default_factory=lambda: np.zeros((0, 5)))
    cars: Floats = field(default_factory=lambda: np.zeros((0, 4)))


def rectangle(x: float, y: float, angle: float, length: float, width: float) -> Polygon:
    """Rectangle centred on (x, y) with its length along `angle`."""
    c, s = math.cos(angle), math.sin(angle)
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    half_l, half_w = length / 2, width / 2
    return Polygon(
        [
            (x + i * half_l * c - j * half_w * s, y + i * half_l * s + j * half_w * c)
            for i, j in corners
        ]
    )


def blob(x: float, y: float, radius: float, rng: Rng, rough: float = 0.22) -> Polygon:
    """Smooth irregular closed shape: a circle with a few random harmonics."""
    theta = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    r = np.ones_like(theta)
    for k in range(2, 7):
        r += rough * rng.normal() / k * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    stretch, turn = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    u, v = radius * r * np.cos(theta), radius * stretch * r * np.sin(theta)
    xs = x + u * math.cos(turn) - v * math.sin(turn)
    ys = y + u * math.sin(turn) + v * math.cos(turn)
    return Polygon(np.column_stack([xs, ys])).buffer(0)


def polygons_of(shape: BaseGeometry) -> list[Polygon]:
    """Polygonal pieces of any geometry, in stored order."""
    if isinstance(shape, Polygon):
        return [] if shape.is_empty else [shape]
    if isinstance(shape, MultiPolygon) or hasattr(shape, "geoms"):
        return [piece for part in shape.geoms for piece in polygons_of(part)]
    return []


def lines_of(shape: BaseGeometry) -> list[LineString]:
    """Linear pieces of any geometry, in stored order."""
    if isinstance(shape, LineString):
        return [] if shape.is_empty else [shape]
    if hasattr(shape, "geoms"):
        return [piece for part in shape.geoms for piece in lines_of(part)]
    return []


def wander(start: Sequence[float], end: Sequence[float], rng: Rng, sway: float) -> LineString:
    """Curved way from start to end; `sway` is the lateral swing as a share of its length."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.hypot(*(b - a)))
    t = np.linspace(0, 1, max(8, int(length / 10)))
    swing = np.zeros_like(t)
    waves = max(2, int(length / 260))
    for k in range(1, waves + 2):
        swing += rng.normal() / k * np.sin(np.pi * k * t)
    normal = np.array([a[1] - b[1], b[0] - a[0]]) / max(length, 1e-9)
    points = a + np.outer(t, b - a) + np.outer(swing * sway * length, normal)
    return LineString(points)


def pose(line: LineString, s: float) -> tuple[Floats, float]:
    """Point and heading on a line at distance s."""
    a, b = line.interpolate(max(s - 1.0, 0.0)), line.interpolate(min(s + 1.0, line.length))
    here = line.interpolate(s)
    return np.array([here.x, here.y]), math.atan2(b.y - a.y, b.x - a.x)


def smooth_noise(rng: Rng, shape: tuple[int, int], scale: float) -> Float:
    """Unit-variance noise whose grain is about `scale` pixels."""
    rows, cols = (int(n / scale) + 4 for n in shape)
    grid = rng.standard_normal((rows, cols)).astype(np.float32)
    big = (int(rows * scale), int(cols * scale))
    image = Image.fromarray(grid).resize((big[1], big[0]), Image.Resampling.BICUBIC)
    top, left = (int(scale * 1.5),) * 2
    out = np.asarray(image, np.float32)[top : top + shape[0], left : left + shape[1]]
    return np.ascontiguousarray(out / np.float32(0.68))


def fractal(rng: Rng, shape: tuple[int, int], scale: float, octaves: int) -> Float:
    """Sum of smooth noises of halving scale and weight, of about unit variance."""
    total = np.zeros(shape, np.float32)
    norm = 0.0
    for k in range(octaves):
        weight = 0.6**k
        total += np.float32(weight) * smooth_noise(rng, shape, max(scale / 2**k, 1.5))
        norm += weight**2
    return total / np.float32(math.sqrt(norm))
