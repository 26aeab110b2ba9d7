"""Pixels of the bare ground: crops, yards, water, tracks and carriageways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from _base import MARGIN, PIXEL, Float, Parcel, Patch, Rng, Road, Scene, fractal
from _land import STYLES
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy import ndimage
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

Ints = NDArray[np.int32]
STRIP = 512
SUPER = 3
TABLE = 8192
FAR = np.float32(99.0)

COVERS: dict[str, tuple[tuple[float, float, float], float]] = {
    "lawn": ((104, 118, 76), 0.05),
    "lawn2": ((122, 125, 88), 0.06),
    "court": ((137, 131, 122), 0.06),
    "gravel": ((162, 151, 133), 0.05),
    "pale": ((184, 174, 158), 0.03),
    "asphalt": ((128, 126, 124), 0.03),
    "parking": ((122, 121, 120), 0.03),
    "mud": ((144, 128, 106), 0.05),
    "bed": ((118, 106, 82), 0.08),
    "pool": ((104, 160, 176), 0.02),
    "pond": ((62, 72, 66), 0.02),
}


@dataclass
class Field:
    """Nearest centre-line of each pixel: distance to the edge, offset across, way along, index."""

    edge: Float
    across: Float
    along: Float
    index: Ints


def coverage(shape: BaseGeometry, window: tuple[int, int, int, int]) -> Float:
    """Share of each pixel of a window (row, col, rows, cols) that a shape covers."""
    row, col, rows, cols = window
    step = PIXEL / SUPER
    place = Affine(step, 0, col * PIXEL, 0, step, row * PIXEL)
    fine = rasterize([(shape, 1)], (rows * SUPER, cols * SUPER), transform=place, dtype="uint8")
    blocks = fine.reshape(rows, SUPER, cols, SUPER)
    share: Float = blocks.mean(axis=(1, 3), dtype=np.float32)
    return share


def window_of(shape: BaseGeometry, size: int, pad: float = 1.0) -> tuple[int, int, int, int] | None:
    """Pixel window round a shape, clipped to the raster; None when it lies outside."""
    x0, y0, x1, y1 = shape.bounds
    c0, r0 = (max(0, math.floor((v - pad) / PIXEL)) for v in (x0, y0))
    c1, r1 = (min(size, math.ceil((v + pad) / PIXEL)) for v in (x1, y1))
    return (r0, c0, r1 - r0, c1 - c0) if r1 > r0 and c1 > c0 else None


def line_field(roads: list[Road], size: int, reach: float) -> Field:
    """Distances to the nearest road edge, up to `reach` beyond it; FAR elsewhere."""
    shape = (size, size)
    field = Field(
        np.full(shape, FAR),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.full(shape, -1, np.int32),
    )
    for k, road in enumerate(roads):
        points = shapely.get_coordinates(shapely.segmentize(road.line, 12.0))
        s = 0.0
        for (ax, ay), (bx, by) in pairwise(points):
            length = math.hypot(bx - ax, by - ay)
            if length > 1e-9:
                _segment(field, k, road.width / 2, (ax, ay, bx, by), length, s, reach)
            s += length
    return field


def _segment(
    field: Field,
    k: int,
    half: float,
    ends: tuple[float, float, float, float],
    length: float,
    s: float,
    reach: float,
) -> None:
    ax, ay, bx, by = ends
    size, pad = field.edge.shape[0], half + reach
    c0, r0 = (max(0, int((min(p) - pad) / PIXEL)) for p in ((ax, bx), (ay, by)))
    c1, r1 = (min(size, int((max(p) + pad) / PIXEL) + 1) for p in ((ax, bx), (ay, by)))
    if c1 <= c0 or r1 <= r0:
        return
    x = ((np.arange(c0, c1, dtype=np.float32) + 0.5) * PIXEL - ax)[None, :]
    y = ((np.arange(r0, r1, dtype=np.float32) + 0.5) * PIXEL - ay)[:, None]
    ux, uy = (bx - ax) / length, (by - ay) / length
    t = np.clip(x * ux + y * uy, 0, length)
    across = y * ux - x * uy
    edge = np.hypot(x - t * ux, y - t * uy) - half
    here = np.s_[r0:r1, c0:c1]
    closer = edge < field.edge[here]
    for plane, value in ((field.edge, edge), (field.across, across), (field.along, t + s)):
        plane[here][closer] = value[closer]
    field.index[here][closer] = k


def _table(rng: Rng, grain: float) -> Float:
    noise = ndimage.gaussian_filter1d(rng.standard_normal(TABLE), grain, mode="wrap")
    out: Float = (noise / noise.std()).astype(np.float32)
    return out


def _labels(parcels: list[Parcel], size: int) -> Ints:
    place = Affine(PIXEL, 0, 0, 0, PIXEL, 0)
    shapes = [(parcel.polygon, k) for k, parcel in enumerate(parcels)]
    out: Ints = rasterize(shapes, (size, size), transform=place, dtype="int32")
    return out


@dataclass
class Crops:
    """Per-parcel attributes as arrays, to be looked up by label."""

    main: Float
    other: Float
    numbers: Float
    headland: NDArray[np.bool_]

    @staticmethod
    def of(parcels: list[Parcel], rng: Rng) -> Crops:
        """Draw each parcel's own shade and row geometry from its style."""
        styles = [STYLES[parcel.style] for parcel in parcels]
        n = len(parcels)
        light = 1 + rng.normal(0, 0.06, (n, 1))
        tint = rng.normal(0, 3.0, (n, 1)) * (1.0, 0.2, -0.6) + rng.normal(0, 1.3, (n, 3))
        main = np.array([s.main for s in styles]) * light + tint
        other = np.array([s.other for s in styles]) * light + tint
        angle = np.array([p.angle for p in parcels])
        numbers = np.column_stack(
            [
                np.cos(angle),
                np.sin(angle),
                rng.uniform(0, TABLE, n),
                [s.rows for s in styles] * rng.uniform(0.5, 1.6, n),
                [s.period for s in styles] * rng.uniform(0.85, 1.2, n),
                [s.ridges for s in styles] * rng.uniform(0.2, 1.2, n),
                [s.patch for s in styles],
                [s.fine for s in styles],
                [s.trams for s in styles] * rng.uniform(0.3, 1.2, n),
                rng.choice([18.0, 21.0, 24.0, 28.0], n),
            ]
        )
        flags = np.array([s.headland for s in styles])
        return Crops(
            main.astype(np.float32), other.astype(np.float32), numbers.astype(np.float32), flags
        )


def fields(scene: Scene, noises: tuple[Float, Float, Float], rng: Rng) -> Float:
    """Paint all parcels: colour drift, rows, tramlines, headlands and rough edges."""
    size = scene.spec.pixels
    labels = _labels(scene.parcels, size)
    border = ndimage.morphological_gradient(labels, size=(3, 3)) == 0
    edge: Float = (ndimage.distance_transform_edt(border) * PIXEL).astype(np.float32)
    crops = Crops.of(scene.parcels, rng)
    tables = _table(rng, 0.9), _table(rng, 0.5)
    fine = rng.standard_normal((STRIP + 64, size + 64)).astype(np.float32)
    fine = ndimage.gaussian_filter(fine, 0.8) * np.float32(2.6)
    image = np.empty((size, size, 3), np.float32)
    for top in range(0, size, STRIP):
        rows = slice(top, min(top + STRIP, size))
        shift = int(rng.integers(64)), int(rng.integers(64))
        grain = fine[shift[0] : shift[0] + STRIP, shift[1] : shift[1] + size]
        local = tuple(noise[rows] for noise in noises)
        image[rows] = _strip(labels[rows], edge[rows], crops, tables, local, grain, top)
    return image


def _strip(
    labels: Ints,
    edge: Float,
    crops: Crops,
    tables: tuple[Float, Float],
    noises: tuple[Float, ...],
    grain: Float,
    top: int,
) -> Float:
    """Paint the parcels on some rows of the raster."""
    broad, middle, small = noises
    num = crops.numbers[labels]
    rows, cols = labels.shape
    x = (np.arange(cols, dtype=np.float32) * PIXEL)[None, :]
    y = ((np.arange(rows, dtype=np.float32) + top) * PIXEL)[:, None]
    across = y * num[..., 0] - x * num[..., 1] + 0.12 * middle
    head = crops.headland[labels] & (edge < 11 + broad)
    across = np.where(head, edge, across)
    place = across + num[..., 2]
    sown = tables[0][(place * 2).astype(np.int32) % TABLE] * (1 + 0.5 * small)
    passes = tables[1][(place / 3.0).astype(np.int32) % TABLE]
    wave = np.sin((2 * np.pi) * across / num[..., 4])
    tone = 1 + num[..., 3] * (0.6 * sown + 0.5 * passes) + num[..., 5] * wave
    tone += num[..., 6] * (0.55 * middle + 0.35 * broad) + num[..., 7] * (grain + 0.5 * small)
    wheel = np.abs(np.abs((place % num[..., 9]) - num[..., 9] / 2) - 0.9)
    tone -= num[..., 8] * np.clip(1 - wheel / 0.45, 0, 1) * (1 + 0.3 * small)
    mix = 1 / (1 + np.exp(-2.2 * (broad + 0.7 * middle)))
    base = crops.main[labels] + (crops.other - crops.main)[labels] * mix[..., None]
    image: Float = base * tone[..., None]
    rough = np.clip((1.6 + 0.7 * small - edge) / 0.8, 0, 1)[..., None]
    grass = np.array([112, 114, 76], np.float32) * (1 + 0.09 * grain + 0.08 * small)[..., None]
    edged: Float = image + rough * (grass - image)
    return edged


def paint_patches(
    image: Float, patches: list[Patch], noises: tuple[Float, Float, Float], rng: Rng
) -> None:
    """Cover yards, gardens, pools and ponds."""
    size = image.shape[0]
    for patch in patches:
        window = window_of(patch.polygon, size)
        if window is None:
            continue
        r, c, h, w = window
        here = np.s_[r : r + h, c : c + w]
        colour, rough = COVERS[patch.cover]
        tone = 1 + rng.normal(0, 0.06)
        tint = rng.normal(0, 3.0) * np.array([1.0, 0.2, -0.6])
        texture = 0.6 * noises[2][here] + 0.5 * noises[1][here]
        texture = texture + 0.7 * rng.standard_normal((h, w)).astype(np.float32)
        cover = (np.array(colour) * tone + tint) * (1 + rough * texture)[..., None]
        if patch.cover in ("parking", "bed"):
            cover = cover * _stripes(patch, window)[..., None]
        elif patch.cover == "pond":
            cover = _water(patch, cover, window, noises[2][here])
        alpha = coverage(patch.polygon, window)[..., None]
        image[here] += alpha * (cover.astype(np.float32) - image[here])


def _stripes(patch: Patch, window: tuple[int, int, int, int]) -> Float:
    """Bay lines of a car park, or rows of a kitchen garden."""
    r, c, h, w = window
    centre = patch.polygon.centroid
    x = ((np.arange(c, c + w) + 0.5) * PIXEL - centre.x)[None, :]
    y = ((np.arange(r, r + h) + 0.5) * PIXEL - centre.y)[:, None]
    u = x * math.cos(patch.angle) + y * math.sin(patch.angle)
    v = y * math.cos(patch.angle) - x * math.sin(patch.angle)
    if patch.cover == "bed":
        return (1 + 0.16 * np.sin(2 * np.pi * v / 1.6)).astype(np.float32)
    depth = 33.0 if np.abs(v).max() > 14 and patch.polygon.area > 700 else 17.0
    rows = np.minimum(
        np.abs(np.abs(v) - depth / 2 + 2.6), np.abs(np.abs(v) - 2.6) if depth > 30 else 99.0
    )
    line = np.clip(1 - np.abs((u + 1.25) % 2.5 - 1.25) / 0.3, 0, 1) * (rows < 2.4)
    return (1 + 0.22 * line).astype(np.float32)


def _water(
    patch: Patch, cover: NDArray[np.float64], window: tuple[int, int, int, int], small: Float
) -> NDArray[np.float64]:
    """Open water with a pale reed and mud fringe on its banks."""
    inside = coverage(patch.polygon, window) > 0.5
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] * PIXEL
    reed = np.clip((3.0 + 2.2 * small - depth) / 2.0, 0, 1)[..., None]
    bank = np.array([116, 112, 78]) * (1 + 0.12 * small)[..., None]
    fringed: NDArray[np.float64] = cover + reed * (bank - cover)
    return fringed


def paint_brook(image: Float, scene: Scene, small: Float) -> None:
    """Draw a dark thread of water between its trees."""
    brook = Road(scene.stream, 2.4, "stream")
    field = line_field([brook], image.shape[0], 4.0)
    wet = np.clip(0.5 - (field.edge + 0.5 * small) / 0.8, 0, 1)[..., None]
    image += wet * (np.array([70, 76, 64], np.float32) - image)


def paint_tracks(image: Float, tracks: list[Road], noises: tuple[Float, Float, Float]) -> None:
    """Dirt tracks: two pale ruts and a grassy crown, broken here and there."""
    field = line_field(tracks, image.shape[0], 3.0)
    near = field.edge < 2.0
    small, middle = noises[2][near], noises[1][near]
    ruts = np.exp(-(((np.abs(field.across[near]) - 0.85) / 0.5) ** 2))
    strength = np.clip(0.9 + 0.2 * middle, 0.3, 1) * np.clip(0.8 - field.edge[near], 0, 1)
    alpha = (strength * np.clip(0.45 + 0.6 * ruts + 0.15 * small, 0, 1))[:, None]
    soil = np.array([172, 158, 134], np.float32) * (1 + 0.05 * small)[:, None]
    image[near] += (alpha * (soil - image[near])).astype(np.float32)


def paint_roads(image: Float, scene: Scene, noises: tuple[Float, Float, Float], rng: Rng) -> None:
    """Verges and pavements, then the carriageway with its wear, patches and markings."""
    size = image.shape[0]
    field = line_field(scene.roads, size, 4.0)
    near = field.edge < 3.5
    edge, index = field.edge[near], field.index[near]
    small, middle = noises[2][near], noises[1][near]
    urban = np.array([road.urban for road in scene.roads])[index]
    villages = _built_up(scene, near)
    side = np.where(
        urban | villages,
        np.clip((1.7 - edge) / 0.4, 0, 1) * 0.85,
        np.clip((1.4 + 0.5 * small - edge) / 0.8, 0, 1) * 0.65,
    )[:, None]
    pave = np.array([141, 138, 132], np.float32)
    grass = np.array([130, 126, 92], np.float32)
    verge = np.where((urban | villages)[:, None], pave, grass) * (1 + 0.06 * small)[:, None]
    ground = image[near]
    ground += side * (verge - ground)
    asphalt = _asphalt(scene.roads, field, near, small, middle)
    alpha = np.zeros((size, size), np.float32)
    for top in range(0, size, STRIP):
        rows = min(STRIP, size - top)
        strip = box(-MARGIN, top * PIXEL - 1, size * PIXEL + MARGIN, (top + rows) * PIXEL + 1)
        part = scene.carriageway.intersection(strip)
        if not part.is_empty:
            alpha[top : top + rows] = coverage(part, (top, 0, rows, size))
    image[near] = ground + alpha[near][:, None] * (asphalt - ground)


def _built_up(scene: Scene, near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, cols = np.nonzero(near)
    out = np.zeros(len(rows), np.bool_)
    for v in scene.spec.villages:
        out |= np.hypot(cols * PIXEL - v.x, rows * PIXEL - v.y) < 0.8 * v.radius
    return out


def _asphalt(
    roads: list[Road], field: Field, near: NDArray[np.bool_], small: Float, middle: Float
) -> Float:
    """Colour of the carriageway where `near`."""
    index, across, along = field.index[near], field.across[near], field.along[near]
    tone = np.array([r.tone for r in roads], np.float32)[index]
    half = np.array([r.width / 2 for r in roads], np.float32)[index]
    marked = np.array([r.marked for r in roads])[index]
    wide = half > 4.2
    grey = 100 + 52 * tone + 3.0 * small + 3.5 * middle
    worn = np.exp(-(((np.abs(across) - 0.52 * half) / (0.22 * half)) ** 2))
    grey = grey + 5 * worn - 6 * np.clip(1 - np.abs(np.abs(across) - half) / 0.6, 0, 1)
    # Old surfaces are paler and take the tint of the local gravel.
    warm = np.array([1.0, 0.99, 0.975]) + tone[:, None] * np.array([0.06, 0.005, -0.065])
    colour = grey[:, None] * warm
    dash = (along % 13.0) < 3.5
    centre = np.clip(1 - np.abs(across) / 0.34, 0, 1) * (marked & dash)
    sides = np.clip(1 - np.abs(np.abs(across) - half + 0.35) / 0.32, 0, 1) * wide
    sides = sides * ((along % 8.0) < 5.5)
    paint = np.clip(0.55 * centre + 0.5 * sides, 0, 1)[:, None]
    out: Float = (colour + paint * (212 - colour)).astype(np.float32)
    return out


def noise_planes(size: int, rng: Rng) -> tuple[Float, Float, Float]:
    """Broad (60 m), middle (10 m) and small (2 m) unit noises shared by all covers."""
    shape = (size, size)
    return fractal(rng, shape, 120, 2), fractal(rng, shape, 22, 2), fractal(rng, shape, 4.5, 2)
