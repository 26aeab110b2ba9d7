"""A tiny place with houses and a road: a scene, its OSM, and models to map it with."""

import hashlib
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine

LEFT, TOP = 789_000.0, 6_501_000.0
"""Lambert-93, where a projected metre is one on the ground to a thousandth."""
GSD = 0.5

ROLES = """
name = "tiny"
out = "made"
device = "cpu"
schedule = "paper" # its patches fit the tiny tiles
[train]
scene = "train.tif"
labels = "train.gpkg"
[enhance]
scene = "enhance.tif"
labels = "enhance.gpkg"
[test]
scene = "test.tif"
labels = "test.gpkg"
"""
"""The head of a workflow over three places that `draw_place` made."""


def write_scene(path, data, *, crs="EPSG:2154", transform=None, **profile):
    """`data` (bands, h, w) as a GeoTIFF."""
    transform = transform or Affine(GSD, 0, LEFT, 0, -GSD, TOP)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(data),
        height=data.shape[1],
        width=data.shape[2],
        dtype=data.dtype,
        crs=crs,
        transform=transform,
        **profile,
    ) as out:
        out.write(data)
    return Path(path)


def draw_place(folder, name, shape=(300, 340), *, east=0.0, hole=24, seed=0):
    """``NAME.tif`` (3 bands uint8, nodata 0 in a corner) and ``NAME.gpkg`` (OSM tags).

    Houses stand every 20 m, a road runs every 40 m; `east`: metres from the first place.
    """
    height, width = shape
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 100, (3, height, width)).astype(np.uint8)
    left, rows = LEFT + east, []

    def paint(right, down, size, colour):
        at = (
            slice(int(down / GSD), int((down + size[0]) / GSD)),
            slice(int(right / GSD), int((right + size[1]) / GSD)),
        )
        image[:, at[0], at[1]] = np.array(colour, np.uint8)[:, None, None]

    for down in np.arange(16.5, height * GSD, 40):
        paint(0, down, (7, width * GSD), (120, 120, 130))
        y = TOP - down - 3.5
        line = shapely.LineString([(left, y), (left + width * GSD, y)])
        rows.append((None, "residential", line))
    for down in np.arange(2, height * GSD - 12, 20):
        for right in np.arange(4, width * GSD - 12, 20):
            size = rng.uniform(8, 11, 2)
            paint(right, down, size, (200, 90, 70))
            x, y = left + right, TOP - down
            rows.append(("house", None, shapely.box(x, y - size[0], x + size[1], y)))
    image += rng.integers(0, 3, image.shape, np.uint8)  # no surface is of one colour throughout
    image[:, :hole, :hole] = 0
    scene = write_scene(
        Path(folder) / f"{name}.tif",
        image,
        nodata=0,
        transform=Affine(GSD, 0, left, 0, -GSD, TOP),
    )
    osm = scene.with_suffix(".gpkg")
    frame = gpd.GeoDataFrame(rows, columns=["building", "highway", "geometry"], crs="EPSG:2154")
    frame["osm_id"] = [str(i) for i in range(len(frame))]
    frame.to_file(osm, layer="osm", driver="GPKG")
    return scene, osm


def lively(model, seed=0):
    """`model` with its last layers turned up, so that no class wins everywhere."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    net = model.net
    with torch.no_grad():
        net.base.conv4.weight *= 3
        if net.postprocessor:
            for update in net.postprocessor.updates:
                update.w2 += 0.05 * torch.randn(update.w2.shape, generator=generator)
    return replace(model, provenance={"credit": "(c) OpenStreetMap contributors"})


def fingerprints(*places):
    """Path -> (time of change, sha256) of each file, below each folder."""
    found = {}
    for place in map(Path, places):
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path)] = (path.stat().st_mtime_ns, digest)
    return found
