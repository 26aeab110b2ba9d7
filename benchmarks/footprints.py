"""Measure footprints where the raster is perfect: true buildings, rasterized and traced again.

    python -m benchmarks.footprints [SCENE TRUTH [--where COLUMN=VALUE]]

The default is the simulated test tile. Prints a table in Markdown: the outlines as traced, the
same orthogonalized one by one, and `find_footprints`. True buildings below 10 m2 are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize

from geopipe.classes import load_scheme
from geopipe.evaluation.objects import ObjectMetrics, match_objects
from geopipe.grid import ground_gsd
from geopipe.raster import Scene
from geopipe.raster.cog import write_class_cog
from geopipe.raster.orthogonalize import orthogonalized
from geopipe.raster.polygons import polygon_tables
from geopipe.vectors.footprints import find_footprints
from reproduce.real.judge import in_metres

TILES = Path(__file__).resolve().parent.parent / "sample_tiles"
MIN_M2 = 10.0


def true_buildings(scene: Scene, truth: Path, where: str | None) -> np.ndarray:
    """(n,) polygons in the CRS of the scene, those that lie on it by more than half."""
    frame = gpd.read_file(truth)
    if where:
        column, value = where.split("=")
        frame = frame[frame[column].astype(str) == value]
    assert scene.geobox.crs is not None
    shapes = np.asarray(frame.to_crs(scene.geobox.crs.proj).geometry.array, object)
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapes)))
    parts = parts[shapely.get_type_id(parts) == 3]
    on_scene = shapely.area(shapely.intersection(parts, scene.geobox.extent.geom))
    return np.asarray(parts[on_scene > shapely.area(parts) / 2])


def measure(
    scene: Scene, truth: np.ndarray, folder: Path
) -> tuple[dict[str, ObjectMetrics], float]:
    """Figures of each method, and the processor's seconds of `find_footprints`."""
    ids = rasterize(
        [(shape, 1) for shape in truth],
        scene.shape,
        transform=scene.geobox.affine,
        dtype="uint8",
    )
    raw, path = folder / "raw.tif", folder / "classes.tif"
    with rasterio.open(
        raw,
        "w",
        driver="GTiff",
        height=scene.shape[0],
        width=scene.shape[1],
        count=1,
        dtype="uint8",
        nodata=255,
        crs=scene.geobox.crs.to_wkt() if scene.geobox.crs else None,
        transform=scene.geobox.affine,
    ) as out:
        out.write(ids, 1)
    scheme = load_scheme("buildings-roads")
    write_class_cog(raw, path, scheme, {})
    with rasterio.open(path) as src:
        tables = [np.asarray(t.geometry.array, object) for t in polygon_tables(src, scheme, [1])]
    traced = np.concatenate(tables)
    pixel = max(ground_gsd(scene.geobox))
    start = time.process_time()
    table = find_footprints(path, scheme=scheme)
    seconds = time.process_time() - start
    methods = {
        "traced": traced,
        "each orthogonalized": np.array([orthogonalized(p, pixel) for p in traced], object),
        "footprints": np.asarray(table.geometry.array, object),
    }
    true = in_metres(truth, scene)
    true = true[shapely.area(true) >= MIN_M2]
    return {
        name: match_objects(in_metres(shapes, scene), true) for name, shapes in methods.items()
    }, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", nargs="?", type=Path, default=TILES / "test.tif")
    parser.add_argument("truth", nargs="?", type=Path, default=TILES / "truth.gpkg")
    parser.add_argument("--where", help="rows of the truth that are buildings")
    words = parser.parse_args()
    where = words.where or ("class=building" if words.truth.parent == TILES else None)
    scene = Scene.open(words.scene)
    truth = true_buildings(scene, words.truth, where)
    with tempfile.TemporaryDirectory() as folder:
        methods, seconds = measure(scene, truth, Path(folder))
    print("| outlines | objects (truth) | precision | recall | F1 | mean F1 | mean IoU | PoLiS, m |"
          " boundary F1 | merged | vertices (truth) | ratio | right angles (truth) |")  # fmt: skip
    print("|---" + "|---:" * 12 + "|")
    for name, m in methods.items():
        print(
            f"| {name} | {m.mapped} ({m.truth}) | {m.precision:.3f} | {m.recall:.3f} | {m.f1:.3f} |"
            f" {m.mean_f1:.3f} | {m.mean_iou:.3f} | {m.polis_m:.2f} | {m.boundary_f1:.3f} |"
            f" {m.under_segmented:.3f} | {m.vertices:g} ({m.true_vertices:g}) |"
            f" {m.vertex_ratio:.2f} | {m.right_angle_share:.3f} ({m.true_right_angle_share:.3f}) |"
        )
    print(f"\n{seconds:.1f} s of one core for the footprints")


if __name__ == "__main__":
    main()
