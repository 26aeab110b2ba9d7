"""Houses, terraces, farms and sheds, with the gardens and yards around them."""

from __future__ import annotations

import math

import numpy as np
from _base import (
    Building,
    Colour,
    Floats,
    Part,
    Rng,
    Road,
    Village,
    blob,
    pose,
    rectangle,
)
from _site import Site
from shapely.geometry import LineString, Point, Polygon

TILES: tuple[tuple[Colour, float], ...] = (
    ((168, 118, 94), 5),
    ((154, 106, 86), 5),
    ((178, 135, 111), 4),
    ((146, 110, 92), 4),
    ((136, 105, 88), 3),
    ((164, 131, 112), 3),
    ((120, 99, 88), 2),
    ((116, 112, 112), 1.2),
    ((146, 142, 138), 0.8),
)
SHEETS: tuple[tuple[Colour, float], ...] = (
    ((138, 137, 134), 4),
    ((122, 121, 119), 4),
    ((157, 157, 155), 3),
    ((186, 188, 190), 1.5),
    ((105, 106, 108), 2),
    ((133, 104, 86), 1.2),
    ((104, 118, 106), 0.7),
    ((112, 122, 136), 0.7),
)


def _pick(palette: tuple[tuple[Colour, float], ...], rng: Rng) -> Colour:
    weights = np.array([w for _, w in palette])
    base = palette[int(rng.choice(len(palette), p=weights / weights.sum()))][0]
    light = rng.normal(0, 6)
    r, g, b = (float(c + light + rng.normal(0, 3)) for c in base)
    return (r, g, b)


def _house(x: float, y: float, angle: float, core: bool, rng: Rng) -> Building:
    """Build a dwelling: plain gable, hipped, or L-shaped with a wing."""
    length = float(rng.uniform(8, 13) if core else rng.uniform(9, 16))
    width = float(rng.uniform(8.5, 11.5) if core else rng.uniform(7.5, 10.5))
    parts = [Part(x, y, angle, length, width)]
    if not core and rng.random() < 0.42:
        wing_w, wing_l = float(rng.uniform(5, 7.5)), float(rng.uniform(7, 11))
        along = rng.choice([-1, 1]) * (length - wing_w) / 2
        out = rng.choice([-1, 1]) * (width / 2 + wing_l / 2 - 2.5)
        c, s = math.cos(angle), math.sin(angle)
        wx, wy = x + along * c - out * s, y + along * s + out * c
        parts.append(Part(float(wx), float(wy), angle + math.pi / 2, wing_l, wing_w))
    eave = float(rng.uniform(5, 7) if core else rng.uniform(2.8, 5.2))
    roof = "hip" if rng.random() < (0.1 if core else 0.25) else "gable"
    use = "house" if rng.random() < 0.35 else "yes"
    return Building(
        tuple(parts),
        use,
        eave,
        float(rng.uniform(0.36, 0.6)),
        roof,
        _pick(TILES, rng),
        int(rng.integers(1 << 30)),
    )


def _shed(
    x: float, y: float, angle: float, length: float, width: float, rng: Rng, use: str = "yes"
) -> Building:
    """Build a barn, workshop or garage under low-sloped sheet or fibre cement."""
    eave = 2.4 if length < 9 else float(rng.uniform(4, 6.5))
    roof = "flat" if rng.random() < 0.2 else "sheet"
    return Building(
        (Part(x, y, angle, length, width),),
        use,
        eave,
        float(rng.uniform(0.1, 0.22)),
        roof,
        _pick(SHEETS, rng),
        int(rng.integers(1 << 30)),
    )


def houses_along(site: Site, road: Road, village: Village, rng: Rng) -> None:
    """Line both sides of a street with houses, dense in the core and loose at the rim."""
    for side in (-1, 1):
        s = float(rng.uniform(6, 16))
        while s < road.line.length - 4:
            point, heading = pose(road.line, s)
            close = village.closeness(Point(point))
            core = close > 0.52 and rng.random() < 0.5 + close / 2
            frontage = float(rng.uniform(9, 12.5) if core else rng.uniform(17, 32))
            if close > 0.02 and rng.random() < (0.95 if core else 0.72 + 0.2 * close):
                _lot(site, road, point, heading, side, frontage, core, rng)
            s += frontage


def _lot(
    site: Site,
    road: Road,
    point: Floats,
    heading: float,
    side: int,
    frontage: float,
    core: bool,
    rng: Rng,
) -> None:
    """One lot: its house, then its garden when the house found room."""
    normal = side * np.array([-math.sin(heading), math.cos(heading)])
    angle = heading + rng.normal(0, 0.015 if core else 0.05)
    if not core and rng.random() < 0.28:
        angle += math.pi / 2
    setback = float(rng.uniform(1.4, 2.2) if core else rng.uniform(4, 13))
    house = _house(0, 0, angle, core, rng)
    deep = house.parts[0].width if abs(math.sin(angle - heading)) < 0.5 else house.parts[0].length
    centre = point + normal * (road.width / 2 + setback + deep / 2)
    house = _moved(house, centre[0], centre[1])
    if not site.place(house, 0.12 if core else 3.0):
        return
    depth = float(rng.uniform(18, 30) if core else rng.uniform(28, 48))
    middle = point + normal * (road.width / 2 + 1.0 + depth / 2)
    plot = site.free(rectangle(middle[0], middle[1], heading, frontage, depth))
    if plot is None or plot.area < 80:
        return
    site.plots.append(plot)
    _garden(site, plot, point, normal, heading, house, core, rng)


def _moved(building: Building, x: float, y: float) -> Building:
    parts = tuple(Part(p.x + x, p.y + y, p.angle, p.length, p.width) for p in building.parts)
    return Building(
        parts,
        building.use,
        building.eave,
        building.pitch,
        building.roof,
        building.colour,
        building.seed,
    )


def _garden(
    site: Site,
    plot: Polygon,
    point: Floats,
    normal: Floats,
    heading: float,
    house: Building,
    core: bool,
    rng: Rng,
) -> None:
    """Lawn or court, drive, terrace, pool, kitchen garden, garage, fence and small trees."""
    lawn = ("court", "lawn", "lawn2")[
        int(rng.choice(3, p=(0.45, 0.35, 0.2) if core else (0.04, 0.5, 0.46)))
    ]
    site.yard(plot, lawn, heading)
    part = house.parts[0]
    centre = np.array([part.x, part.y])
    if not core:
        drive = LineString([point, centre]).buffer(float(rng.uniform(1.5, 2.6)), cap_style="flat")
        paved = str(rng.choice(["gravel", "asphalt", "asphalt", "pale"]))
        site.yard(drive.intersection(plot), paved, heading)
        apron = house.footprint().buffer(float(rng.uniform(0.8, 2.2)), join_style="mitre")
        site.yard(apron.intersection(plot), "pale" if rng.random() < 0.6 else "gravel", heading)
        if rng.random() < 0.5:
            spot = point + normal * 7 + rng.normal(0, 0.5, 2)
            site.cars.append((spot[0], spot[1], heading + math.pi / 2, rng.random()))
    low, high = plot.bounds[:2], plot.bounds[2:]
    for _ in range(int(rng.integers(2, 9))):
        x, y = (float(v) for v in rng.uniform(low, high))
        if plot.contains(Point(x, y)):
            site.garden_trees.append((x, y, float(rng.gamma(5, 0.36))))
    back = centre + normal * (part.width / 2 + part.length / 2 + rng.uniform(1, 5))
    draw = rng.random()
    if draw < 0.2 and not core:
        pool = rectangle(back[0], back[1], heading, float(rng.uniform(7, 10)), 4.2)
        if plot.contains(pool) and site.fits(pool, 1.5):
            site.yard(pool.buffer(1.4), "pale", heading)
            site.yard(pool, "pool", heading)
    elif draw < 0.5:
        bed = rectangle(back[0], back[1], heading, *map(float, rng.uniform(5, 11, 2)))
        site.yard(bed.intersection(plot), "bed", heading)
    elif draw < 0.72:
        site.place(
            _shed(
                float(back[0]),
                float(back[1]),
                heading,
                float(rng.uniform(5, 8)),
                float(rng.uniform(3.5, 5.5)),
                rng,
            ),
            1.0,
        )
    if rng.random() < 0.6:
        site.fences.append(LineString(plot.exterior.coords))


def car_park(site: Site, road: Road, s: float, rng: Rng) -> bool:
    """Asphalt beside a street, with bays and cars: the colour of a road, yet not a road."""
    point, heading = pose(road.line, s)
    normal = rng.choice([-1, 1]) * np.array([-math.sin(heading), math.cos(heading)])
    length, depth = float(rng.uniform(28, 52)), float(rng.choice([17.0, 33.0]))
    x, y = point + normal * (road.width / 2 + 2.2 + depth / 2)
    lot = rectangle(float(x), float(y), heading, length, depth)
    if not site.fits(lot, 1.5) or site.free(lot) is None:
        return False
    site.yard(lot, "parking", heading)
    site.reserve(lot)
    along = np.array([math.cos(heading), math.sin(heading)])
    across = np.array([-along[1], along[0]])
    rows = [-depth / 2 + 2.6, depth / 2 - 2.6] + ([-2.6, 2.6] if depth > 30 else [])
    for row in rows:
        for u in np.arange(-length / 2 + 2, length / 2 - 2, 2.5):
            if rng.random() < 0.48:
                cx, cy = np.array([x, y]) + along * u + across * row
                site.cars.append((cx, cy, heading + math.pi / 2, rng.random()))
    return True


def works(site: Site, road: Road, s: float, rng: Rng) -> bool:
    """Build a workshop or store: large grey roofs in a yard of the same grey."""
    point, heading = pose(road.line, s)
    normal = rng.choice([-1, 1]) * np.array([-math.sin(heading), math.cos(heading)])
    length, width = float(rng.uniform(26, 48)), float(rng.uniform(16, 28))
    x, y = point + normal * (road.width / 2 + 14 + width / 2)
    shed = _shed(float(x), float(y), heading, length, width, rng)
    if not site.place(shed, 8):
        return False
    yard = rectangle(float(x), float(y), heading, length + 22, width + 20)
    free = site.free(yard)
    if free is not None:
        site.yard(free, str(rng.choice(["asphalt", "gravel", "asphalt"])), heading)
        site.reserve(free)
    for _ in range(int(rng.integers(3, 10))):
        spot = point + normal * (road.width / 2 + 7 + rng.uniform(-2, 2))
        spot = spot + rng.uniform(-length / 2, length / 2) * np.array(
            [math.cos(heading), math.sin(heading)]
        )
        site.cars.append((spot[0], spot[1], heading + rng.choice([0, math.pi / 2]), rng.random()))
    return True


def church(site: Site, road: Road, s: float, rng: Rng) -> bool:
    """Build a church across from the street, on its square."""
    point, heading = pose(road.line, s)
    normal = rng.choice([-1, 1]) * np.array([-math.sin(heading), math.cos(heading)])
    x, y = (float(v) for v in point + normal * (road.width / 2 + 15))
    c, s_ = math.cos(heading), math.sin(heading)
    parts = (
        Part(x, y, heading, float(rng.uniform(22, 28)), 9.0),
        Part(x + 5 * c, y + 5 * s_, heading + math.pi / 2, 16.0, 7.0),
    )
    nave = Building(parts, "church", 8.0, 0.75, "gable", _pick(TILES, rng), 5)
    if not site.place(nave, 4):
        return False
    free = site.free(rectangle(x, y, heading, 44, 27))
    if free is not None:
        site.yard(free, "gravel", heading)
        site.reserve(free)
    return True


def farm(site: Site, lane: Road, rng: Rng) -> None:
    """Build a farmstead around its court at the end of a lane."""
    end, heading = pose(lane.line, lane.line.length)
    forward = np.array([math.cos(heading), math.sin(heading)])
    court = end + forward * 20
    turn = heading + rng.normal(0, 0.12)
    house = _house(0, 0, turn + math.pi / 2, False, rng)
    spots = [(22.0, 0.0), (4.0, 25.0), (4.0, -25.0), (30.0, 34.0), (34.0, -32.0)]
    site.place(_moved(house, *(court + 18 * forward)), 2)
    across = np.array([-forward[1], forward[0]])
    for k, (ahead, aside) in enumerate(spots):
        if k and rng.random() < 0.8:
            x, y = court + (ahead - 4) * forward + aside * across
            angle = turn + (0.0 if rng.random() < 0.6 else math.pi / 2)
            length, width = float(rng.uniform(16, 42)), float(rng.uniform(9, 19))
            barn = _shed(float(x), float(y), angle, length, width, rng, "farm")
            if rng.random() < 0.35:
                barn = Building(
                    (Part(float(x), float(y), angle, min(length, 24.0), 9.5),),
                    "farm",
                    5.0,
                    0.42,
                    "gable",
                    _pick(TILES, rng),
                    barn.seed,
                )
            site.place(barn, 3)
    x, y = court + 5 * forward
    site.yard(
        blob(float(x), float(y), float(rng.uniform(20, 30)), rng, 0.3),
        "gravel" if rng.random() < 0.6 else "mud",
        heading,
    )
    for _ in range(int(rng.integers(4, 14))):
        x, y = court + rng.normal(0, 30, 2)
        site.garden_trees.append((float(x), float(y), float(rng.gamma(6, 0.5))))


def gone(site: Site, count: int, rng: Rng) -> list[Building]:
    """Invent buildings the map still holds but the ground no longer does, near those that stand."""
    out: list[Building] = []
    standing = list(site.buildings)
    for _ in range(count * 60):
        if len(out) >= count:
            break
        near = standing[int(rng.integers(len(standing)))].parts[0]
        reach, turn = rng.uniform(14, 45), rng.uniform(0, 2 * np.pi)
        x, y = near.x + reach * math.cos(turn), near.y + reach * math.sin(turn)
        ghost = _house(x, y, near.angle, False, rng)
        if rng.random() < 0.4:
            ghost = _shed(x, y, near.angle, float(rng.uniform(8, 24)), 8.0, rng)
        if site.fits(ghost.footprint(), 8.0):
            out.append(ghost)
            site.reserve(ghost.footprint())
    return out
