"""Parcels, tracks, stream, ponds and everything that grows on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from _base import (
    MARGIN,
    Colour,
    Floats,
    Parcel,
    Rng,
    Road,
    TileSpec,
    blob,
    lines_of,
    polygons_of,
    wander,
)
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import polygonize, split


@dataclass(frozen=True)
class Style:
    """Look of a crop: two colours it mixes, strength of its textures, and how often it occurs."""

    weight: float
    main: Colour
    other: Colour
    rows: float
    period: float
    ridges: float
    patch: float
    fine: float
    trams: float
    headland: bool


STYLES: dict[str, Style] = {
    "wheat": Style(12, (158, 146, 106), (140, 136, 96), 0.035, 3.0, 0.0, 0.03, 0.03, 0.12, True),
    "barley": Style(7, (178, 163, 124), (164, 150, 112), 0.03, 3.2, 0.0, 0.025, 0.025, 0.1, True),
    "green": Style(6, (96, 112, 74), (108, 118, 80), 0.03, 3.0, 0.0, 0.04, 0.03, 0.16, True),
    "maize": Style(11, (116, 119, 84), (132, 122, 94), 0.05, 2.4, 0.04, 0.04, 0.04, 0.04, True),
    "soil": Style(6, (150, 126, 103), (138, 115, 93), 0.06, 2.8, 0.04, 0.04, 0.04, 0.0, True),
    "redsoil": Style(4, (152, 117, 95), (142, 110, 90), 0.06, 2.6, 0.04, 0.04, 0.04, 0.0, True),
    "stubble": Style(6, (184, 169, 134), (170, 156, 120), 0.07, 5.0, 0.03, 0.03, 0.03, 0.05, True),
    "meadow": Style(26, (106, 117, 78), (120, 125, 86), 0.012, 6.0, 0.0, 0.05, 0.05, 0.0, False),
    "dry": Style(12, (134, 131, 94), (148, 140, 104), 0.012, 6.0, 0.0, 0.05, 0.05, 0.0, False),
    "hay": Style(8, (142, 142, 98), (128, 133, 88), 0.05, 6.5, 0.05, 0.03, 0.03, 0.0, True),
    "fallow": Style(3, (118, 119, 84), (132, 127, 94), 0.02, 6.0, 0.0, 0.07, 0.08, 0.0, False),
    "wood": Style(5, (72, 82, 54), (82, 88, 60), 0.0, 6.0, 0.0, 0.08, 0.10, 0.0, False),
    "orchard": Style(0, (110, 118, 78), (128, 127, 90), 0.02, 6.0, 0.0, 0.05, 0.05, 0.0, False),
    "vine": Style(1.5, (144, 128, 98), (126, 121, 90), 0.03, 2.2, 0.09, 0.04, 0.04, 0.0, False),
    "verge": Style(0, (110, 117, 78), (128, 127, 92), 0.0, 6.0, 0.0, 0.06, 0.07, 0.0, False),
}
IN_VILLAGE = ("meadow", "meadow", "dry", "orchard", "fallow", "verge")


def stream(spec: TileSpec, rng: Rng) -> LineString:
    """Lead a brook across the tile, kept off the villages."""
    best, gap = LineString(), -1.0
    side = spec.metres
    for _ in range(12):
        a, b = rng.uniform(0.08, 0.92, 2) * side
        line = wander((a, -MARGIN - 30), (b, side + MARGIN + 30), rng, 0.05)
        here = min(line.distance(Point(v.x, v.y)) - 0.9 * v.radius for v in spec.villages)
        if here > gap:
            best, gap = line, here
    t = np.linspace(0, best.length, int(best.length / 5))
    wiggle = 5 * np.sin(t / 11 + rng.normal(0, 1)) + 7 * np.sin(t / 27 + rng.normal(0, 1))
    points = np.array([best.interpolate(s).coords[0] for s in t])
    points[:, 0] += wiggle
    return LineString(points)


def ponds(spec: TileSpec, rng: Rng) -> list[Polygon]:
    """Ponds, which the Forez plain is known for."""
    return [blob(x, y, r, rng) for x, y, r in spec.ponds]


def parcels(
    spec: TileSpec, barriers: list[LineString], area: BaseGeometry, rng: Rng
) -> tuple[list[Parcel], list[LineString]]:
    """Cut the blocks between roads and brook into parcels; also give the cuts made."""
    net = shapely.union_all([*barriers, area.boundary])
    out: list[Parcel] = []
    cuts: list[LineString] = []
    for block in polygonize(net):
        out.extend(_parcel(piece, spec, rng) for piece in _split(block, spec, cuts, rng, 0))
    return out, cuts


def _closeness(spec: TileSpec, point: Point) -> float:
    return max(village.closeness(point) for village in spec.villages)


def _axes(polygon: Polygon) -> tuple[float, float, float]:
    """Angle of the long side of the tightest rectangle, and its two lengths."""
    frame = polygon.minimum_rotated_rectangle
    if not isinstance(frame, Polygon):
        return 0.0, 1.0, 0.0
    p = np.asarray(frame.exterior.coords)
    a, b = p[1] - p[0], p[2] - p[1]
    la, lb = float(np.hypot(*a)), float(np.hypot(*b))
    long = a if la >= lb else b
    return math.atan2(long[1], long[0]), max(la, lb), min(la, lb)


def _split(
    polygon: Polygon, spec: TileSpec, cuts: list[LineString], rng: Rng, depth: int
) -> list[Polygon]:
    """Halve a polygon across its long side until it has the size of a field."""
    village = _closeness(spec, polygon.centroid) > 0.05
    limit = float(rng.lognormal(math.log(2500 if village else 21000), 0.5))
    if polygon.area < limit or depth > 9:
        return [polygon]
    angle, long, short = _axes(polygon)
    if polygon.area > 90000 and rng.random() < 0.8:
        # Large blocks follow the lie of the old estates, not the frame of the tile.
        angle = _lie(spec, polygon) + (math.pi / 2 if long > 2 * short else 0.0)
    if long < 1.7 * short and rng.random() < 0.35:
        angle += math.pi / 2
    slant = angle + math.pi / 2 + rng.normal(0, 0.10)
    centre = np.array(polygon.centroid.coords[0])
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([math.cos(slant), math.sin(slant)])
    middle = centre + along * rng.uniform(-0.14, 0.14) * long
    bump = middle + along * rng.normal(0, 0.012) * long
    line = LineString([middle - across * 2000, bump, middle + across * 2000])
    parts = polygons_of(split(polygon, line))
    if len(parts) < 2:
        return [polygon]
    cuts.extend(lines_of(line.intersection(polygon)))
    return [leaf for piece in parts for leaf in _split(piece, spec, cuts, rng, depth + 1)]


def _lie(spec: TileSpec, polygon: Polygon) -> float:
    """Direction of the old field pattern, turning slowly across the country."""
    x, y = spec.left + polygon.centroid.x, spec.top - polygon.centroid.y
    return 0.6 + 0.5 * math.sin(x / 310.0) + 0.5 * math.sin(y / 370.0 + x / 900.0)


def _parcel(polygon: Polygon, spec: TileSpec, rng: Rng) -> Parcel:
    angle, _, short = _axes(polygon)
    names = list(STYLES)
    weights = np.array([STYLES[n].weight for n in names])
    close = _closeness(spec, polygon.centroid)
    style = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    if polygon.area < 900 or short < 14:
        style = "verge"
    elif close > 0.1:
        style = IN_VILLAGE[int(rng.integers(len(IN_VILLAGE)))]
    elif polygon.area < 5000 and rng.random() < 0.3:
        style = "wood"
    return Parcel(polygon, style, angle + rng.normal(0, 0.02))


def tracks(cuts: list[LineString], roads: BaseGeometry, rng: Rng) -> list[Road]:
    """Dirt tracks on field edges that reach a road, the longest first."""
    ranked = sorted(cuts, key=lambda c: (-round(c.length, 3), c.coords[0]))
    out: list[Road] = []
    for cut in ranked:
        reaches = (
            roads.distance(Point(cut.coords[0])) < 6 or roads.distance(Point(cut.coords[-1])) < 6
        )
        if reaches and 60 < cut.length < 700 and rng.random() < 0.5:
            width = round(float(rng.uniform(2.6, 3.6)), 1)
            out.append(Road(cut, width, "track", None, False, float(rng.uniform(0, 1))))
    return out


def along(line: LineString, spacing: float, spread: float, rng: Rng) -> Floats:
    """Jittered points on a line."""
    count = int(line.length / spacing)
    s = (np.arange(count) + rng.uniform(0, 1, count)) * spacing
    points = shapely.get_coordinates(shapely.line_interpolate_point(line, s))
    return points + rng.normal(0, spread, points.shape)


def gaps(points: Floats, rng: Rng, keep: float) -> Floats:
    """Drop runs of points, so that hedges have openings and thin stretches."""
    wave = np.cumsum(rng.normal(0, 1, len(points)))
    order = np.argsort(np.argsort(np.sin(wave / 3 + rng.uniform(0, 6))))
    return points[order < keep * len(points)]


def crowns(points: Floats, mean: float, tall: float, hue: float, rng: Rng) -> Floats:
    """Rows of x, y, crown radius, height, hue."""
    n = len(points)
    radius = np.clip(mean * rng.lognormal(0, 0.28, n), 0.5, 6.5)
    height = radius * tall * rng.uniform(0.85, 1.15, n) + 0.3
    return np.column_stack([points, radius, height, hue + rng.normal(0, 0.25, n)])


def hedges(cuts: list[LineString], tracks_: list[Road], rng: Rng) -> list[Floats]:
    """Field-edge hedges: none, clipped low, or grown into rows of trees."""
    beside = {id(track.line) for track in tracks_}
    out: list[Floats] = []
    for cut in cuts:
        draw = rng.random()
        # A hedge stands beside the track that shares its edge, not on it.
        moved = lines_of(cut.offset_curve(3.4)) if id(cut) in beside else [cut]
        line = moved[0] if moved else cut
        if draw < 0.36 or line.length < 20:
            continue
        hue = rng.normal(0, 0.4)
        if draw < 0.70:
            points = gaps(along(line, 1.5, 0.45, rng), rng, rng.uniform(0.6, 0.97))
            out.append(crowns(points, rng.uniform(0.9, 1.6), 1.5, hue, rng))
        if draw > 0.60:
            points = gaps(along(line, rng.uniform(4, 11), 1.0, rng), rng, rng.uniform(0.4, 0.9))
            out.append(crowns(points, rng.uniform(2.2, 3.8), 2.2, hue, rng))
    return out


def road_trees(roads: list[Road], rng: Rng) -> list[Floats]:
    """Verge hedges and trees, close enough for crowns to hang over the carriageway."""
    out: list[Floats] = []
    for road in roads:
        for side in (-1.0, 1.0):
            draw = rng.random()
            if draw > (0.3 if road.urban else 0.6) or road.line.length < 60:
                continue
            verge = road.width / 2 + rng.uniform(1.6, 3.2)
            lines = lines_of(road.line.offset_curve(side * verge))
            for line in lines:
                if draw < 0.22:
                    points = gaps(along(line, 9, 0.7, rng), rng, 0.75)
                    out.append(crowns(points, 2.6 if road.urban else 3.4, 2.2, 0.1, rng))
                else:
                    points = gaps(along(line, 1.6, 0.4, rng), rng, 0.6)
                    out.append(crowns(points, 1.1, 1.4, 0, rng))
    return out


def _scatter(polygon: Polygon, spacing: float, jitter: float, rng: Rng) -> Floats:
    """Points of a jittered grid inside a polygon."""
    x0, y0, x1, y1 = polygon.bounds
    xs, ys = np.meshgrid(np.arange(x0, x1, spacing), np.arange(y0, y1, spacing))
    points = np.column_stack([xs.ravel(), ys.ravel()])
    points += rng.uniform(-jitter, jitter, points.shape) * spacing
    return points[shapely.contains_xy(polygon, points[:, 0], points[:, 1])]


def parcel_trees(items: list[Parcel], rng: Rng) -> list[Floats]:
    """Woods, orchards in rows, and lone oaks in the meadows."""
    out: list[Floats] = []
    for parcel in items:
        polygon = parcel.polygon
        if parcel.style == "wood":
            points = _scatter(polygon, rng.uniform(4.4, 6.2), 0.45, rng)
            out.append(crowns(points, 3.1, 3.0, rng.normal(0, 0.5), rng))
        elif parcel.style == "orchard":
            points = _scatter(polygon.buffer(-3), 6.5, 0.08, rng)
            keep = rng.random(len(points)) < 0.8
            out.append(crowns(points[keep], 1.7, 1.6, 0.3, rng))
        elif parcel.style in ("meadow", "dry", "fallow", "verge"):
            count = rng.poisson(polygon.area / (2500 if parcel.style == "verge" else 9000))
            low, high = polygon.bounds[:2], polygon.bounds[2:]
            points = rng.uniform(low, high, (count, 2))
            points = points[shapely.contains_xy(polygon, points[:, 0], points[:, 1])]
            out.append(crowns(points, 3.0, 2.0, 0.0, rng))
    return out


def water_trees(brook: LineString, pools: list[Polygon], rng: Rng) -> list[Floats]:
    """Alders and willows on the brook and round part of each pond."""
    out = [
        crowns(gaps(along(brook, 3.2, 3.2, rng), rng, 0.8), 2.9, 2.3, 0.3, rng),
        crowns(gaps(along(brook, 2.0, 4.0, rng), rng, 0.6), 1.5, 1.5, 0.6, rng),
    ]
    for pool in pools:
        bank = LineString(pool.buffer(3.5).exterior.coords)
        out.append(crowns(gaps(along(bank, 4.0, 1.5, rng), rng, 0.5), 2.6, 2.2, 0.2, rng))
    return out
