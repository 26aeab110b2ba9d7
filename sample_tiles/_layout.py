"""The three tiles and the assembly of each one's scene, from roads to trees."""

from __future__ import annotations

import _buildings as built
import _land as land
import _roads as ways
import numpy as np
import shapely
from _base import Floats, Patch, Rng, Road, Scene, TileSpec, Village, pose
from _site import Site
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry import LineString, Point
from shapely.geometry.base import BaseGeometry

TILES: dict[str, TileSpec] = {
    "train": TileSpec(
        "train",
        4207,
        4096,
        789000.0,
        6503000.0,
        (
            Village(1010, 900, 430, "Saint-Aubin"),
            Village(420, 1640, 230, "Les Varennes"),
            Village(1640, 1620, 250, "Chavannes"),
            Village(1720, 330, 190, "Le Bruchet"),
            Village(330, 380, 170, "La Goutte"),
        ),
        ((1262, 1528, 88), (1330, 170, 40), (640, 1330, 22), (1900, 900, 26)),
        (1.0, 1.0, 1.0),
        0.0,
        1.0,
        ((0.0, 0.0), (0.30, 0.0), (0.0, 0.13)),
    ),
    "enhance": TileSpec(
        "enhance",
        4211,
        2048,
        791600.0,
        6503000.0,
        (Village(560, 470, 270, "Précieux"), Village(180, 880, 130, "La Loge")),
        ((860, 860, 46), (120, 200, 16)),
        (1.02, 1.01, 1.0),
        1.0,
        0.95,
        (),
    ),
    "test": TileSpec(
        "test",
        4219,
        2048,
        791600.0,
        6501400.0,
        (Village(470, 560, 275, "Grézieux"), Village(880, 180, 130, "Le Poyet")),
        ((150, 900, 40), (840, 800, 15)),
        (0.985, 0.99, 1.01),
        -1.0,
        1.04,
        ((1.0, 1.0), (0.62, 1.0), (1.0, 0.82)),
    ),
}


def build(spec: TileSpec) -> Scene:
    """Lay out everything on one tile."""
    scene = Scene(spec)
    brook = land.stream(spec, spec.rng(2))
    pools = land.ponds(spec, spec.rng(3))
    scene.stream = brook
    water = shapely.union_all([brook.buffer(2), *pools])
    scene.roads = _network(spec, water)
    scene.carriageway = ways.carriageway(scene.roads)
    site = Site(spec, scene.carriageway, water)
    _settle(site, scene, spec.rng(4))
    scene.buildings = list(site.buildings)
    scene.gone = built.gone(site, round(0.05 * len(scene.buildings)), spec.rng(5))
    barriers = [road.line for road in scene.roads] + [brook]
    scene.parcels, cuts = land.parcels(spec, barriers, ways.extent(spec), spec.rng(6))
    rural = [cut for cut in cuts if _outside(spec, cut.centroid)]
    keep_out = shapely.union_all([b.footprint() for b in scene.buildings]).buffer(6)
    open_cuts = [cut for cut in rural if not keep_out.intersects(cut)]
    scene.tracks = land.tracks(open_cuts, scene.carriageway, spec.rng(7))
    scene.patches = [Patch(p, "pond") for p in pools] + site.patches
    scene.trees = _trees(scene, site, cuts, spec.rng(8))
    scene.cars = np.array(site.cars + _traffic(scene.roads, spec.rng(9)))
    return scene


def _outside(spec: TileSpec, point: Point) -> bool:
    return max(village.closeness(point) for village in spec.villages) < 0.05


def _network(spec: TileSpec, water: BaseGeometry) -> list[Road]:
    """Country roads, then streets, then farm lanes."""
    rng = spec.rng(1)
    roads = ways.country_roads(spec, rng)
    for village in spec.villages:
        roads += ways.village_streets(village, roads, rng)
    roads += ways.farm_lanes(spec, roads, water, rng)
    return roads


def _settle(site: Site, scene: Scene, rng: Rng) -> None:
    """Public lots first, since they need the most room, then farms and houses."""
    roads = scene.roads
    for village in scene.spec.villages:
        parks, halls = max(1, round(village.radius / 70)), max(1, round(village.radius / 75))
        for maker, wanted, low, high in (
            (built.church, 1, 0.6, 1.0),
            (built.car_park, parks, 0.25, 1.0),
            (built.works, halls, -0.25, 0.45),
        ):
            done = 0
            for _ in range(400):
                road = roads[int(rng.integers(len(roads)))]
                s = float(rng.uniform(0, road.line.length))
                close = village.closeness(road.line.interpolate(s))
                if done < wanted and low < close < high and road.highway != "service":
                    done += maker(site, road, s, rng)
    for road in roads:
        if road.highway == "service":
            built.farm(site, road, rng)
    for village in scene.spec.villages:
        # Main streets first: the core gathers on them.
        for road in roads:
            if (
                road.highway != "service"
                and road.line.distance(Point(village.x, village.y)) < village.radius
            ):
                built.houses_along(site, road, village, rng)


def _trees(scene: Scene, site: Site, cuts: list[LineString], rng: Rng) -> Floats:
    """All crowns, less those that would stand in a house, a road, a yard or a pond."""
    pools = [patch.polygon for patch in scene.patches if patch.cover == "pond"]
    groups = land.hedges(cuts, scene.tracks, rng) + land.road_trees(scene.roads, rng)
    groups += land.parcel_trees(scene.parcels, rng)
    groups += land.water_trees(scene.stream, pools, rng)
    for fence in site.fences:
        points = land.gaps(land.along(fence, 1.1, 0.2, rng), rng, float(rng.uniform(0.3, 0.9)))
        groups.append(land.crowns(points, 0.75, 1.9, float(rng.normal(0, 0.5)), rng))
    garden = np.array(site.garden_trees)
    groups.append(
        np.column_stack(
            [
                garden,
                garden[:, 2] * rng.uniform(1.6, 2.6, len(garden)),
                rng.normal(0.2, 0.7, len(garden)),
            ]
        )
    )
    trees = np.concatenate(groups)
    return trees[_plantable(scene, trees)]


def _plantable(scene: Scene, trees: Floats) -> NDArray[np.bool_]:
    """Where a trunk may stand, looked up in a 0.5 m map of what is taken."""
    low = -80.0
    size = int((scene.spec.metres + 160) / 0.5)
    no_trees = ("pond", "parking", "asphalt", "pool", "pale")
    taken = [scene.carriageway.buffer(0.4)]
    taken += [building.footprint().buffer(1.2) for building in scene.buildings]
    taken += [p.polygon for p in scene.patches if p.cover in no_trees]
    taken += [track.line.buffer(1.4) for track in scene.tracks]
    grid = rasterize(
        [(shape, 1) for shape in taken],
        (size, size),
        transform=Affine(0.5, 0, low, 0, 0.5, low),
        dtype="uint8",
    )
    cells = np.floor((trees[:, :2] - low) / 0.5).astype(int)
    inside = ((cells >= 0) & (cells < size)).all(axis=1)
    cells = np.clip(cells, 0, size - 1)
    free: NDArray[np.bool_] = inside & (grid[cells[:, 1], cells[:, 0]] == 0)
    return free


def _traffic(roads: list[Road], rng: Rng) -> list[tuple[float, float, float, float]]:
    """Add a few cars driving on the right, or parked in streets."""
    out: list[tuple[float, float, float, float]] = []
    for road in roads:
        count = rng.poisson(road.line.length / (110 if road.urban else 260))
        for s in rng.uniform(0, road.line.length, count):
            point, heading = pose(road.line, float(s))
            aside = rng.choice([-1, 1]) * road.width * (0.36 if road.urban else 0.24)
            x = point[0] - np.sin(heading) * aside
            y = point[1] + np.cos(heading) * aside
            out.append((float(x), float(y), heading, float(rng.random())))
    return out
