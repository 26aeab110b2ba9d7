"""How well road lines follow the roads of a map, from perfect rasters and from a trained model.

    python -m reproduce.roads [--map outputs/forez/map/test]

Perfect rasters are drawn from the true polygons of the simulated tiles and from its flawed map;
masks of real streets are those of ``GEOPIPE_DATA``, if they are there. Writes
``docs/results/roads.{json,md}``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from geopandas import GeoDataFrame
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from geopipe.classes import load_scheme
from geopipe.evaluation.road_accuracy import RoadMetrics, compare_roads, evaluate_roads
from geopipe.labels import open_labels
from geopipe.raster import Scene
from geopipe.vectors.road_layer import road_table, write_roads
from geopipe.vectors.roads import find_roads
from reproduce.facts import facts

SAMPLES = Path("sample_tiles")
RESULTS = Path("docs/results/roads")
SCHEME = "buildings-roads"
HOLES = 12
"""Holes of 6 to 12 m that are cut into each mask of real streets."""
MASK_GSD = 0.39
MASK_WIDTH = 4.7


def main() -> None:
    """Measure all and write the page."""
    parser = argparse.ArgumentParser(description="road lines from maps whose roads are known")
    parser.add_argument("--map", type=Path, default=Path("outputs/forez/map/test"))
    parser.add_argument("--tiles", nargs="*", default=["train", "enhance", "test"])
    args = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the masks of real streets
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        truths = {tile: true_lines(tile, work) for tile in args.tiles}
        perfect = {
            f"{tile}, 0.5 m": drawn(tile, "truth", 0.5, truths[tile], work) for tile in truths
        }
        perfect["test, 1 m"] = drawn("test", "truth", 1.0, truths["test"], work)
        perfect["test, the map's lines 7 m wide"] = drawn("test", "osm", 0.5, None, work)
        mapped = {}
        if (args.map / "classes.tif").exists():
            roads = work / "mapped.gpkg"
            mapped = {"counts": write_roads(find_roads(args.map / "classes.tif"), roads)}
            mapped["metrics"] = evaluate_roads(roads, truths["test"]).to_dict()
        data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data")) / "vegas_roads" / "roads"
        figures = {
            **facts("python -m reproduce.roads"),
            "perfect": perfect,
            "mapped": mapped,
            "streets": streets(data, work) if data.is_dir() else {},
        }
    RESULTS.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text("\n".join(_page(figures)) + "\n", encoding="utf-8")


def true_lines(tile: str, work: Path) -> Path:
    """The centre-lines the simulated tile was drawn from; where they cross they meet."""
    sys.path.insert(0, str(SAMPLES))
    from _layout import TILES, build
    from _osm import to_lambert

    scene = build(TILES[tile])
    roads = [to_lambert(scene.spec, r.line) for r in scene.roads if r.highway != "track"]
    noded = shapely.get_parts(shapely.node(shapely.multilinestrings(roads)))
    out = work / f"lines-{tile}.gpkg"
    GeoDataFrame(geometry=list(noded), crs="EPSG:2154").to_file(out, driver="GPKG", layer="roads")
    return out


def drawn(tile: str, labels: str, gsd: float, truth: Path | None, work: Path) -> dict[str, Any]:
    """Lines from a raster without errors, against the lines it was drawn from."""
    scheme = load_scheme(SCHEME)
    box = Scene.open(SAMPLES / f"{tile}.tif").geobox
    height, width = (round(n * 0.5 / gsd) for n in box.shape)
    box = GeoBox((height, width), box.affine @ Affine.scale(gsd / 0.5), box.crs)
    ids = open_labels(SAMPLES / f"{labels}.gpkg", scheme, box).read(box)
    path = work / "drawn.tif"
    _write(path, np.asarray(ids), box.affine)
    roads = work / "drawn.gpkg"
    start = time.process_time()
    counts = write_roads(find_roads(path, scheme=scheme), roads)
    seconds = time.process_time() - start
    metrics = evaluate_roads(roads, truth or SAMPLES / "osm.gpkg", scheme=scheme, layer=None)
    return {"counts": counts, "metrics": metrics.to_dict(), "seconds": round(seconds, 2)}


def streets(folder: Path, work: Path) -> dict[str, Any]:
    """Masks of real streets: lines drawn as wide as the masks against them; then with holes."""
    scheme = load_scheme(SCHEME)
    overlaps, result, gaps = [], [], 0
    rng = np.random.default_rng(0)
    for source in sorted(folder.iterdir()):
        with rasterio.open(source) as src:
            mask = src.read(1) > 0
        whole = _lines(mask, scheme, work)
        buffered = shapely.buffer(shapely.union_all(whole[0]), MASK_WIDTH / 2)
        again = rasterio.features.rasterize([buffered], mask.shape, transform=_mask_grid()) > 0
        overlaps.append(float((again & mask).sum() / (again | mask).sum()))
        rows, cols = np.nonzero(mask)
        holed = mask.copy()
        y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        for i in rng.integers(0, len(rows), HOLES):
            radius = rng.uniform(3, 6) / MASK_GSD
            holed &= (y - rows[i]) ** 2 + (x - cols[i]) ** 2 > radius**2
        lines, bridged = _lines(holed, scheme, work)
        gaps += bridged
        result.append(compare_roads(lines, whole[0]))
    return {
        "tiles": len(overlaps),
        "iou": [float(np.mean(overlaps)), min(overlaps)],
        "apls_with_holes": float(np.nanmean([m.apls for m in result])),
        "recall_with_holes": float(np.mean([m.recall for m in result])),
        "precision_with_holes": float(np.mean([m.precision for m in result])),
        "bridged": gaps,
    }


def _mask_grid() -> Affine:
    return Affine(MASK_GSD, 0, 664_000, 0, -MASK_GSD, 4_005_000)


def _lines(mask: np.ndarray, scheme: Any, work: Path) -> tuple[np.ndarray, int]:
    """Lines in metres from a mask, and the gaps that were bridged."""
    path = work / "mask.tif"
    _write(path, np.where(mask, 2, 0).astype(np.uint8), _mask_grid(), "EPSG:32611")
    network = find_roads(path, scheme=scheme)
    return np.asarray(road_table(network).geometry.array, object), network.bridged


def _write(path: Path, ids: np.ndarray, grid: Affine, crs: str = "EPSG:2154") -> None:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255, "tiled": True}
    height, width = ids.shape
    with rasterio.open(
        path, "w", **profile, height=height, width=width, crs=crs, transform=grid, compress="lzw"
    ) as out:
        out.write(ids, 1)


def _page(figures: dict[str, Any]) -> list[str]:
    head = "| | precision | recall | F1 | APLS | offset, m | parts, map / truth | dead ends |"
    lines = [
        "# Road lines",
        "",
        f"`{figures['command']}`; {figures['machine']}; {figures['software']}.",
        "Precision and recall within 3 m, APLS: [vectors.md](../vectors.md).",
        "",
        "## From rasters without errors",
        "",
        "Simulated tiles, drawn from their true polygons (roads of 4 to 12 m), against the lines",
        "they were made from. Last: the simulated map's own lines, some of which share no vertex",
        "although they touch once they are 7 m wide; that costs APLS.",
        "",
        head,
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(name, facts_["metrics"]) for name, facts_ in figures["perfect"].items()),
    ]
    if figures["mapped"]:
        counts = figures["mapped"]["counts"]
        lines += [
            "",
            "## From the map of a trained model",
            "",
            "The simulated test tile, mapped by `make forez-map` with `--scores`; "
            f"{counts['bridged_gaps']} gaps were bridged.",
            "",
            head,
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            _row("test", figures["mapped"]["metrics"]),
        ]
    if streets_ := figures["streets"]:
        lines += [
            "",
            "## From masks of real streets",
            "",
            f"{streets_['tiles']} tiles of Las Vegas (SpaceNet 3), 1024 x 1024 px of {MASK_GSD} m,",
            f"whose masks are lines {MASK_WIDTH} m wide.",
            "",
            f"- Our lines, drawn {MASK_WIDTH} m wide, and the masks: IoU {streets_['iou'][0]:.3f} "
            f"on average, {streets_['iou'][1]:.3f} at least.",
            f"- {HOLES} holes of 6 to 12 m in each mask, against the lines without holes: "
            f"{streets_['bridged']} gaps",
            f"  bridged, precision {streets_['precision_with_holes']:.3f}, recall "
            f"{streets_['recall_with_holes']:.3f}, APLS {streets_['apls_with_holes']:.3f}.",
            "  There are no scores, so gaps of up to 10 m are bridged.",
        ]
    lines += ["", "Time and memory of large maps: [bench/vectors.md](bench/vectors.md)."]
    return lines


def _row(name: str, metrics: dict[str, Any]) -> str:
    m = RoadMetrics(**metrics)
    return (
        f"| {name} | {m.precision:.3f} | {m.recall:.3f} | {m.f1:.3f} | {m.apls:.3f} | "
        f"{m.offset_m:.2f} | {m.mapped_components} / {m.truth_components} | "
        f"{m.mapped_dead_ends} / {m.truth_dead_ends} |"
    )


if __name__ == "__main__":
    main()
