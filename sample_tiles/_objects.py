"""Pixels of what stands on the ground: roofs, crowns, cars, and the shadows they cast."""

from __future__ import annotations

import math

import numpy as np
from _base import PIXEL, Building, Float, Floats, Part, Rng, fractal
from numpy.typing import NDArray
from scipy import ndimage

AZIMUTH, ELEVATION = math.radians(142.0), math.radians(47.0)
SUN = np.array(
    [
        math.sin(AZIMUTH) * math.cos(ELEVATION),
        -math.cos(AZIMUTH) * math.cos(ELEVATION),
        math.sin(ELEVATION),
    ]
)
"""Towards the sun in the local frame (east, south, up): south-east, as on a late morning."""

SHADE = np.array([0.44, 0.47, 0.54], np.float32)
CAR_COLOURS = np.array(
    [
        (206, 206, 204),
        (176, 178, 180),
        (92, 94, 98),
        (58, 60, 64),
        (200, 200, 200),
        (142, 58, 52),
        (66, 82, 118),
        (120, 116, 108),
    ],
    float,
)


def _grid(
    x: float, y: float, reach: float, size: int
) -> tuple[tuple[slice, slice], Floats, Floats] | None:
    """Window of pixels within reach of a point, and their offsets from it in metres."""
    c0, r0 = (max(0, int((v - reach) / PIXEL)) for v in (x, y))
    c1, r1 = (min(size, int((v + reach) / PIXEL) + 1) for v in (x, y))
    if c1 <= c0 or r1 <= r0:
        return None
    dx = ((np.arange(c0, c1, dtype=float) + 0.5) * PIXEL - x)[None, :]
    dy = ((np.arange(r0, r1, dtype=float) + 0.5) * PIXEL - y)[:, None]
    return (slice(r0, r1), slice(c0, c1)), dx, dy


def _cover(
    dx: Floats, dy: Floats, angle: float, length: float, width: float
) -> tuple[Floats, Floats, Floats]:
    """Coordinates along and across a rectangle, and the share of each pixel it covers."""
    c, s = math.cos(angle), math.sin(angle)
    u, v = dx * c + dy * s, dy * c - dx * s
    outside = np.maximum(np.abs(u) - length / 2, np.abs(v) - width / 2)
    return u, v, np.clip(0.5 - outside / PIXEL, 0, 1)


def lit(slope_x: Floats | float, slope_y: Floats | float) -> Floats:
    """Sunlight on a slope relative to flat ground, with some light from the sky."""
    norm = np.sqrt(1 + np.square(slope_x) + np.square(slope_y))
    cosine = (SUN[2] - np.multiply(slope_x, SUN[0]) - np.multiply(slope_y, SUN[1])) / norm
    out: Floats = 0.30 + 0.70 * np.clip(cosine, 0, None) / SUN[2]
    return out


def paint_building(image: Float, height: Float, alpha: Float, building: Building) -> None:
    """Draw the roof of every part; where parts meet the higher one shows."""
    rng = np.random.default_rng(building.seed)
    for part in building.parts:
        _paint_part(image, height, alpha, building, part, rng)
    _paint_details(image, height, building, rng)


def _paint_part(
    image: Float, height: Float, alpha: Float, building: Building, part: Part, rng: Rng
) -> None:
    reach = math.hypot(part.length, part.width) / 2 + 1
    hits = _grid(part.x, part.y, reach, image.shape[0])
    if hits is None:
        return
    here, dx, dy = hits
    u, v, cover = _cover(dx, dy, part.angle, part.length, part.width)
    pitch = 0.0 if building.roof == "flat" else building.pitch
    rise = np.maximum(part.width / 2 - np.abs(v), 0) * pitch
    hip = np.maximum(part.length / 2 - np.abs(u), 0) * pitch if building.roof == "hip" else rise
    top = building.eave + np.minimum(rise, hip)
    c, s = math.cos(part.angle), math.sin(part.angle)
    on_hip = hip < rise
    fall_u, fall_v = -np.sign(u) * pitch * on_hip, -np.sign(v) * pitch * ~on_hip
    light = lit(fall_u * c - fall_v * s, fall_u * s + fall_v * c)
    colour = np.array(building.colour) * light[..., None] * _roofing(building, u, v, rng)[..., None]
    ridge = np.clip(1 - np.abs(v) / 0.4, 0, 1) * (0.10 if building.roof == "gable" else 0.04)
    colour = colour * (1 + ridge[..., None])
    # Later parts show only above earlier ones; a seam pixel keeps the larger cover.
    wins = (cover > 0) & ((top > height[here]) | (cover > alpha[here]))
    own = np.where(wins, np.where(alpha[here] > 0.99, cover > 0.5, cover), 0.0)
    image[here] += (own[..., None] * (colour - image[here])).astype(np.float32)
    alpha[here] = np.maximum(alpha[here], cover)
    solid = wins & (cover >= 0.5)
    height[here][solid] = top[solid]


def _roofing(building: Building, u: Floats, v: Floats, rng: Rng) -> Floats:
    """Texture of a roof: tile courses and lichen, or ribs and translucent sheets."""
    shape = (u + v).shape
    mottle = 0.05 * ndimage.gaussian_filter(rng.standard_normal(shape), 1.6) * 3.2
    mottle = mottle + 0.035 * rng.standard_normal(shape)
    if building.roof in ("gable", "hip"):
        tiles: Floats = 1 + mottle + 0.03 * np.sin(2 * np.pi * u / 1.3)
        return tiles
    ribs = 0.02 * np.sin(2 * np.pi * u / rng.uniform(1.1, 2.2))
    out: Floats = 1 + 0.6 * mottle + ribs
    if building.roof == "sheet" and rng.random() < 0.4:
        bays = np.abs((u + 50) % 6.0 - 3.0) < 0.55
        out = out + 0.16 * (bays & (np.abs(np.abs(v) - building.parts[0].width / 4) < 1.2))
    return out


def _paint_details(image: Float, height: Float, building: Building, rng: Rng) -> None:
    """Chimneys, roof windows and, on some roofs, solar panels on the sunny side."""
    part = building.parts[0]
    c, s = math.cos(part.angle), math.sin(part.angle)
    sunny = 1.0 if -s * SUN[0] + c * SUN[1] > 0 else -1.0
    spots: list[tuple[float, float, float, float, tuple[float, float, float], float]] = []
    if building.roof in ("gable", "hip"):
        count = int(rng.integers(1, 3))
        along, across = rng.uniform(-0.4, 0.4, count) * part.length, rng.uniform(-1, 1, count)
        brick = (150.0, 132.0, 118.0)
        spots += [(u, v, 0.9, 0.7, brick, 1.3) for u, v in zip(along, across, strict=True)]
    chance = 0.10 if building.roof == "gable" else 0.14 if building.roof == "sheet" else 0.0
    if rng.random() < chance:
        wide = part.length * rng.uniform(0.35, 0.75)
        spots.append((0.0, sunny * part.width / 4, wide, part.width * 0.3, (52, 58, 76), 0.1))
    for u, v, length, width, colour, rise in spots:
        hits = _grid(part.x + u * c - v * s, part.y + u * s + v * c, length + 1, image.shape[0])
        if hits is None:
            continue
        here, dx, dy = hits
        _, _, cover = _cover(dx, dy, part.angle, length, width)
        image[here] += (cover[..., None] * (np.array(colour) - image[here])).astype(np.float32)
        height[here][cover > 0.5] += rise


def paint_cars(image: Float, height: Float, cars: Floats) -> None:
    """Cars: a painted body with a dark strip of glass."""
    for x, y, angle, draw in cars:
        hits = _grid(x, y, 4.0, image.shape[0])
        if hits is None:
            continue
        here, dx, dy = hits
        body = CAR_COLOURS[int(draw * 7919) % len(CAR_COLOURS)]
        u, _, cover = _cover(dx, dy, angle, 4.3, 1.8)
        glass = np.exp(-(((np.abs(u + 0.2) - 1.1) / 0.45) ** 2))[..., None]
        colour = body * (1 - glass) + np.array([62.0, 66.0, 72.0]) * glass
        image[here] += (cover[..., None] * (colour - image[here])).astype(np.float32)
        height[here] = np.maximum(height[here], np.where(cover > 0.5, 1.4, 0))


class Crowns:
    """Height and hue of the canopy, stamped from a small library of lumpy crowns."""

    VARIANTS = 24
    CLASSES = 14

    def __init__(self, size: int, rng: Rng) -> None:
        self.height = np.zeros((size, size), np.float32)
        self.hue = np.zeros((size, size), np.float32)
        self.library = [
            [self._crown(0.5 * (k + 1), rng) for _ in range(self.VARIANTS)]
            for k in range(self.CLASSES)
        ]

    @staticmethod
    def _crown(radius: float, rng: Rng) -> Float:
        """Relative height of one crown: a dome of uneven outline with boughs standing out."""
        half = int(radius * 1.35 / PIXEL) + 1
        offset = np.arange(-half, half + 1) * PIXEL
        x, y = (
            offset[None, :] - rng.uniform(-0.25, 0.25),
            offset[:, None] - rng.uniform(-0.25, 0.25),
        )
        theta = np.arctan2(y, x)
        rim = np.full(theta.shape, radius)
        for k in (2, 3, 5):
            rim = rim * (1 + rng.normal(0, 0.10) * np.cos(k * theta + rng.uniform(0, 6.3)))
        dome = np.sqrt(np.clip(1 - (x**2 + y**2) / rim**2, 0, None))
        boughs = ndimage.gaussian_filter(rng.standard_normal(dome.shape), 1.2) * 3.0
        out: Float = (dome * (1 + 0.16 * boughs)).astype(np.float32)
        return np.clip(out, 0, 1.4)

    def plant(self, trees: Floats, rng: Rng) -> None:
        """Stamp trees given as rows of x, y, radius, height, hue."""
        size = self.height.shape[0]
        kinds = np.clip(np.rint(trees[:, 2] / 0.5) - 1, 0, self.CLASSES - 1).astype(int)
        variants = rng.integers(0, self.VARIANTS, len(trees))
        cells = np.floor(trees[:, :2] / PIXEL).astype(int)
        for (col, row), kind, pick, tree in zip(cells, kinds, variants, trees, strict=True):
            crown = self.library[kind][pick]
            half = crown.shape[0] // 2
            r0, c0 = max(0, row - half), max(0, col - half)
            r1, c1 = min(size, row + half + 1), min(size, col + half + 1)
            if r1 <= r0 or c1 <= c0:
                continue
            piece = crown[r0 - row + half : r1 - row + half, c0 - col + half : c1 - col + half]
            base = tree[3] - tree[2] * 0.9
            top = np.where(piece > 0.05, base + piece * tree[2] * 0.9, 0).astype(np.float32)
            here = np.s_[r0:r1, c0:c1]
            higher = top > self.height[here]
            self.height[here][higher] = top[higher]
            self.hue[here][higher] = tree[4]

    def paint(self, image: Float, taken: Float, rng: Rng) -> None:
        """Draw the crowns over the ground, except on roofs."""
        mask = (self.height > 0.2) & (taken < 0.5)
        slope_y, slope_x = np.gradient(ndimage.gaussian_filter(self.height, 0.7), PIXEL)
        light = lit(0.55 * slope_x[mask], 0.55 * slope_y[mask])
        hue = np.clip(self.hue[mask], -1.5, 1.5)[:, None]
        base = np.array([82, 94, 62], np.float32) + hue * np.array([13, 10, 5], np.float32)
        speckle = fractal(rng, image.shape[:2], 3.0, 1)[mask]
        tone = (0.22 + 0.72 * light) * (1 + 0.09 * speckle)
        image[mask] = (base * tone[:, None]).astype(np.float32)


def cast_shadows(image: Float, height: Float) -> None:
    """Darken what a higher surface hides from the sun, by marching towards the sun."""
    step = PIXEL / max(abs(SUN[0]), abs(SUN[1])) * math.cos(ELEVATION)
    drop = math.tan(ELEVATION)
    size = height.shape[0]
    ux, uy = SUN[0] / math.cos(ELEVATION), SUN[1] / math.cos(ELEVATION)
    dark = np.zeros(height.shape, np.bool_)
    for k in range(1, int(float(height.max()) / drop / step) + 2):
        cols, rows = round(k * step * ux / PIXEL), round(k * step * uy / PIXEL)
        # The sun is to the south-east, so what blocks a pixel lies below and right of it.
        blocker = height[rows:, cols:]
        ground = height[: size - rows, : size - cols]
        dark[: size - rows, : size - cols] |= blocker - np.float32(k * step * drop) > ground + 0.25
    soft: NDArray[np.float32] = ndimage.gaussian_filter(dark.astype(np.float32), 0.6)
    image *= 1 - soft[..., None] * (1 - SHADE)
