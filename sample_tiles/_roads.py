"""Road network of a tile: country roads between villages, village streets, farm lanes."""

from __future__ import annotations

import math

import numpy as np
import shapely
from _base import MARGIN, Floats, Rng, Road, TileSpec, Village, pose, wander
from shapely.geometry import LineString, Point, box
from shapely.geometry.base import BaseGeometry

STEP = 6.0
COUNTRY = {
    "secondary": (9.0, 12.0, True),
    "tertiary": (6.4, 7.6, True),
    "unclassified": (4.0, 5.2, False),
}
STREETS = (
    "des Tilleuls",
    "du Lavoir",
    "de la Cure",
    "des Étangs",
    "du Four",
    "des Chênes",
    "de la Mairie",
    "du Pré",
    "des Vignes",
    "de la Gare",
    "du Moulin",
    "des Varennes",
)


def extent(spec: TileSpec) -> BaseGeometry:
    """Tile with its margin."""
    return box(-MARGIN, -MARGIN, spec.metres + MARGIN, spec.metres + MARGIN)


def _exits(spec: TileSpec, rng: Rng) -> list[tuple[float, float]]:
    """Points on the rim where roads leave, west and east first."""
    low, high = -MARGIN - 20, spec.metres + MARGIN + 20
    count = max(1, round(spec.metres / 900))
    out: list[tuple[float, float]] = []
    for side in range(4):
        for k in range(count):
            p = spec.metres * (k + rng.uniform(0.25, 0.75)) / count
            out.append([(low, p), (high, p), (p, low), (p, high)][side])
    return out


def _country_road(a: tuple[float, float], b: tuple[float, float], kind: str, rng: Rng) -> Road:
    low, high, marked = COUNTRY[kind]
    width = round(float(rng.uniform(low, high)), 1)
    sway = 0.03 if kind == "secondary" else 0.055
    name = f"D {rng.integers(1, 120)}" if marked else "Chemin vicinal"
    return Road(wander(a, b, rng, sway), width, kind, name, marked, float(rng.uniform(0, 1)))


def country_roads(spec: TileSpec, rng: Rng) -> list[Road]:
    """Secondary axis through the main village, then links of villages and exits."""
    hubs = [(v.x, v.y) for v in spec.villages]
    exits = _exits(spec, rng)
    count = len(exits) // 4
    main = hubs[0]
    roads = [_country_road(exits[0], main, "secondary", rng)]
    roads.append(_country_road(main, exits[count], "secondary", rng))
    for i, hub in enumerate(hubs[1:], start=1):
        order = sorted(range(len(hubs)), key=lambda j, h=hub: math.dist(h, hubs[j]))  # type: ignore[misc]
        links = [j for j in order[1:3] if j < i]
        roads.extend(_country_road(hub, hubs[j], "tertiary", rng) for j in links)
    for k, leave in enumerate(exits):
        if k in (0, count):
            continue
        near = min(hubs, key=lambda h: math.dist(h, leave))
        kind = "tertiary" if k % 3 == 0 else "unclassified"
        lines = np.array([road.line for road in roads])
        target = near
        if kind == "unclassified":
            # Lesser roads join the network where it is nearest, not always in the village.
            line = lines[int(np.argmin(shapely.distance(lines, Point(leave))))]
            s = line.project(Point(leave))
            joint = line.interpolate(0.5 * s + 0.5 * line.project(Point(near)))
            target = (joint.x, joint.y)
        if math.dist(target, leave) > 120:
            roads.append(_country_road(leave, target, kind, rng))
    return roads


def _grow(
    village: Village, start: Floats, heading: float, length: float, lines: Floats, rng: Rng
) -> LineString:
    """Walk a street from a parent until it meets a road, or ends in a cul-de-sac."""
    points = [tuple(start)]
    bend = rng.normal(0, 0.002)
    for i in range(int(length / STEP)):
        heading += bend * STEP + rng.normal(0, 0.015)
        x, y = points[-1]
        here = (x + STEP * math.cos(heading), y + STEP * math.sin(heading))
        if i >= 4:
            gaps = shapely.distance(lines, Point(here))
            k = int(np.argmin(gaps))
            if gaps[k] < 16.0:
                joint = lines[k].interpolate(lines[k].project(Point(here)))
                points.append((joint.x, joint.y))
                break
        if i >= 4 and village.closeness(Point(here)) < 0.04:
            break
        points.append(here)
    return LineString(points)


def _crowded(street: LineString, lines: Floats) -> bool:
    """Whether a street is too short, or runs beside another one with no room for houses."""
    if street.length < 50:
        return True
    inner = [street.interpolate(s) for s in np.arange(36, street.length - 30, 10)]
    return any(float(shapely.distance(lines, p).min()) < 30 for p in inner)


def village_streets(village: Village, roads: list[Road], rng: Rng) -> list[Road]:
    """Grow side streets from the roads that cross a village, over three generations."""
    streets: list[Road] = []
    parents = [road.line for road in roads]
    for generation in range(3):
        fresh: list[Road] = []
        for parent in parents:
            s = rng.uniform(25, 60)
            while s < parent.length - 20:
                point, heading = pose(parent, s)
                for side in (-1, 1):
                    if village.closeness(Point(point)) < 0.12 or rng.random() < 0.2:
                        continue
                    lines = np.array([r.line for r in roads + streets + fresh])
                    turn = heading + side * (math.pi / 2 + rng.normal(0, 0.16))
                    length = rng.uniform(80, 300) * min(1.0, village.radius / 260)
                    street = _grow(village, point, turn, length, lines, rng)
                    if not _crowded(street, lines):
                        fresh.append(_street(street, generation, rng))
                s += rng.uniform(45, 85)
        streets += fresh
        parents = [road.line for road in fresh]
    return streets


def _street(line: LineString, generation: int, rng: Rng) -> Road:
    width = round(float(rng.uniform(4.6, 6.4) if generation else rng.uniform(5.2, 7.0)), 1)
    name = f"Rue {STREETS[int(rng.integers(len(STREETS)))]}"
    return Road(line, width, "residential", name, False, float(rng.uniform(0, 1)), True)


def farm_lanes(spec: TileSpec, roads: list[Road], water: BaseGeometry, rng: Rng) -> list[Road]:
    """Paved lanes from country roads to where farms will stand."""
    lanes: list[Road] = []
    for road in roads:
        if road.urban:
            continue
        s = rng.uniform(60, 240)
        while s < road.line.length - 40:
            point, heading = pose(road.line, s)
            s += rng.uniform(170, 380)
            turn = heading + rng.choice([-1, 1]) * (math.pi / 2 + rng.normal(0, 0.25))
            inside = extent(spec).contains(Point(point))
            if not inside or max(v.closeness(Point(point)) for v in spec.villages) > -0.1:
                continue
            lines = np.array([r.line for r in roads + lanes])
            length = float(rng.uniform(40, 190))
            end = point + length * np.array([math.cos(turn), math.sin(turn)])
            lane = wander(tuple(point), tuple(end), rng, 0.04)
            beyond = Point(end + 55 * np.array([math.cos(turn), math.sin(turn)]))
            clear = float(shapely.distance(lines, beyond).min()) > 60
            clear = clear and water.distance(lane) > 15 and water.distance(beyond) > 40
            if clear and float(shapely.distance(lines, Point(end)).min()) > 32:
                lanes.append(
                    Road(
                        lane,
                        round(float(rng.uniform(4.0, 4.6)), 1),
                        "service",
                        None,
                        False,
                        float(rng.uniform(0.3, 1)),
                    )
                )
    return lanes


def carriageway(roads: list[Road]) -> BaseGeometry:
    """Ground covered by roads: buffered centre-lines with rounded junction corners."""
    ribbons = [road.line.buffer(road.width / 2, quad_segs=8) for road in roads]
    return shapely.union_all(ribbons).buffer(3.5, quad_segs=6).buffer(-3.5, quad_segs=6)
