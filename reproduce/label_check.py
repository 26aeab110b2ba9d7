"""What `geopipe labels check` and `align` find where the shift is known, and on real scenes.

    python -m reproduce.label_check

Known shifts: the simulated map (sample_tiles/), labels without a shift, labels anywhere. Real ones:
the scenes of the folder ``GEOPIPE_DATA``, those that are there. Writes
``docs/results/label-check.{json,md}`` and pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from geopipe.classes import IGNORE, ClassScheme, load_scheme
from geopipe.grid import Window, ground_gsd
from geopipe.labels import Area, ClippedLabels, VectorLabels, open_labels
from geopipe.metrics import Metrics
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox
from geopipe.register import shifted_labels
from geopipe.register.label_qc import LabelQC, suggestions
from geopipe.register.qc_file import rows
from geopipe.register.qc_tiles import QCTile
from reproduce.facts import facts
from reproduce.maggiori.figures.style import drawing, picture

SAMPLES = Path("sample_tiles")
RESULTS = Path("docs/results/label-check")
REAL = {
    "nairobi": "satellite, off nadir; OSM known to be off by 1 to 5 m in places",
    "zanzibar": "drone; OSM drawn on it: no shift",
    "banepa": "drone; OSM fits to 1-2 px: no shift",
}
Shift = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    """Check all and write what was found."""
    parser = argparse.ArgumentParser(description="checks of labels whose shift is known, or real")
    parser.add_argument("--real", nargs="*", default=list(REAL), choices=list(REAL))
    args = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    scheme = load_scheme("buildings-roads")
    simulated_tiles = {tile: simulated(tile, scheme) for tile in ("test", "train")}
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    real_scenes = {name: real(data / name, name) for name in args.real if (data / name).is_dir()}
    tables = {
        **facts("python -m reproduce.label_check"),
        "simulated": simulated_tiles,
        "real": real_scenes,
    }
    RESULTS.with_suffix(".json").write_text(json.dumps(tables, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text("\n".join(_page(tables)) + "\n", encoding="utf-8")


def simulated(tile: str, scheme: ClassScheme) -> dict[str, Any]:
    """The simulated map, whose shift field is known; the truth itself; the map at random places."""
    sys.path.insert(0, str(SAMPLES))
    from _osm import _road_shift, osm_shift

    scene = Scene.open(SAMPLES / f"{tile}.tif")
    osm, truth = (
        open_labels(SAMPLES / f"{name}.gpkg", scheme, scene.geobox) for name in ("osm", "truth")
    )
    assert isinstance(osm, VectorLabels)
    assert isinstance(truth, VectorLabels)
    qc = LabelQC(scene, osm)
    shifted = shifted_labels(osm, qc.field)
    right = np.where(scene.read().valid, truth.read(scene.geobox), IGNORE).astype(np.uint8)
    blocks = qc.tiles()
    if tile == "test":
        _draw_overlay(RESULTS / "simulated.png", scene, osm, shifted, Window(900, 900, 400, 400))
    return {
        "building_m": _errors(qc, osm, osm_shift),
        "road_across_m": _errors_across(qc, _road_shift),
        "iou": {
            name: list(Metrics.of(scheme.names, right, labels.read(scene.geobox)).iou)
            for name, labels in (("raw", osm), ("aligned", shifted))
        },
        "rejected": _rejection_counts(qc),
        "truth_moved_m": _shift_statistics(LabelQC(scene, truth), truth),
        "anywhere": _randomly_placed(scene, osm),
        "missing": _omission_errors(blocks, qc, right, truth, osm),
        "suggestions": suggestions(blocks, scene, None),
    }


def _errors(qc: LabelQC, labels: VectorLabels, shift: Shift) -> dict[str, list[float]]:
    """Percentiles of the distance between true and estimated shift at each building."""
    positions = _centres(labels, 1)
    estimated, true = (
        _estimated(qc, positions, 1),
        np.column_stack(shift(positions[:, 0], positions[:, 1])),
    )
    return {
        "raw": _percentiles(np.hypot(*true.T)),
        "left": _percentiles(np.hypot(*(estimated + true).T)),
    }


def _errors_across(qc: LabelQC, shift: Shift) -> dict[str, list[float]]:
    """The same for roads every 20 m, across the road: along it nobody can tell."""
    frame = pyogrio.read_dataframe(SAMPLES / "osm.gpkg", layer="roads")
    lines = frame.geometry[(frame.highway != "track").to_numpy()]
    positions, normals = [], []
    for line in lines[lines.intersects(qc.scene.geobox.extent.geom)]:
        for distance in np.arange(5, line.length - 5, 20):
            a, b = (np.array(line.interpolate(distance + d).coords[0]) for d in (-2, 2))
            positions.append((a + b) / 2)
            normals.append(np.array([a[1] - b[1], b[0] - a[0]]) / np.hypot(*(b - a)))
    points, normal = np.array(positions), np.array(normals)
    true = np.column_stack(shift(points[:, 0], points[:, 1]))
    left = true + _estimated(qc, points, 2)
    return {
        name: _percentiles(np.abs((v * normal).sum(1)))
        for name, v in (("raw", true), ("left", left))
    }


def _estimated(qc: LabelQC, positions: np.ndarray, class_id: int) -> np.ndarray:
    """Metres east and north to add, in a plane that is not turned."""
    shift_down, right = qc.field.at(qc.grid.to_px(positions), class_id).T
    return np.column_stack([right, -shift_down])


def _shift_statistics(qc: LabelQC, labels: VectorLabels) -> dict[str, list[float]]:
    names = qc.scheme.names
    return {
        names[k]: _percentiles(
            np.hypot(*_estimated(qc, shapely.get_coordinates(labels.shapes[labels.ids == k]), k).T)
        )
        for k in range(1, len(names))
    }


def _randomly_placed(scene: Scene, osm: VectorLabels) -> dict[str, Any]:
    """Every shape of the map somewhere else: what is accepted there is a false alarm."""
    rng = np.random.default_rng(0)
    left, bottom, right, top = scene.geobox.extent.boundingbox
    positions = rng.uniform((left, bottom), (right, top), (len(osm.shapes), 2))
    offsets = positions - shapely.get_coordinates(shapely.centroid(osm.shapes))
    xy, shape_index = shapely.get_coordinates(osm.shapes, return_index=True)
    shapes = shapely.set_coordinates(osm.shapes.copy(), xy + offsets[shape_index])
    qc = LabelQC(scene, replace(osm, shapes=shapes))
    try:
        return _rejection_counts(qc)
    except Exception as e:  # the labels teach nothing: also an answer
        return {"error": str(e)}


def _rejection_counts(qc: LabelQC) -> dict[str, Any]:
    names = qc.scheme.names
    out = {}
    for k in range(1, len(names)):
        counted = Counter(n.rejected or "accepted" for n in qc.field.tie_points if n.class_id == k)
        out[names[k]] = dict(counted.most_common())
    return out


def _omission_errors(
    blocks: tuple[QCTile, ...],
    qc: LabelQC,
    right: np.ndarray,
    truth: VectorLabels,
    osm: VectorLabels,
) -> dict[str, Any]:
    """Estimated and true share of building area without a label, over the blocks."""
    box = qc.grid.geobox
    pairs = []
    for b in blocks:
        if b.class_id != 1 or np.isnan(b.omission):
            continue
        tile_box = window_geobox(box, b.window)
        stands = truth.shapes[truth.ids == 1]
        stands = stands[shapely.intersects(tile_box.extent.geom, stands)]
        mapped = shapely.union_all(osm.shapes[osm.ids == 1]).buffer(6)
        if len(stands):
            area = shapely.area(stands)
            pairs.append(
                (b.omission, float(area[~shapely.intersects(mapped, stands)].sum() / area.sum()))
            )
    estimated, true = np.array(pairs).T if pairs else (np.array([]), np.array([]))
    return {
        "tiles": len(pairs),
        "mean_found": float(estimated.mean()) if len(estimated) else None,
        "mean_true": float(true.mean()) if len(true) else None,
        "correlation": float(np.corrcoef(estimated, true)[0, 1]) if len(pairs) > 2 else None,
    }


def _centres(labels: VectorLabels, class_id: int) -> np.ndarray:
    return np.asarray(
        shapely.get_coordinates(shapely.centroid(labels.shapes[labels.ids == class_id]))
    )


def _percentiles(metres: np.ndarray) -> list[float]:
    return [round(float(x), 3) for x in np.percentile(metres, (50, 75, 90))]


def real(folder: Path, name: str) -> dict[str, Any]:
    """A real scene with its OSM buildings."""
    scheme = load_scheme("buildings")
    nodata = 255 if name == "banepa" else None
    scene = Scene.open(folder / "scene.tif", nodata=nodata)
    osm = open_labels(folder / "osm_buildings.geojson", scheme, scene.geobox)
    assert isinstance(osm, VectorLabels)
    qc = LabelQC(scene, ClippedLabels(osm, _mapped(osm)) if name == "banepa" else osm)
    blocks = qc.tiles()
    shifted = shifted_labels(osm, qc.field)
    busiest = max((b for b in blocks if not b.rejected), key=lambda b: b.length * (b.features > 9))
    ground = window_geobox(qc.grid.geobox, busiest.window).extent.geom
    inside = osm.shapes[shapely.contains_properly(ground, shapely.centroid(osm.shapes))]
    x, y = np.median(shapely.get_coordinates(shapely.centroid(inside)), axis=0)
    col, row = ~scene.geobox.affine * (x, y)
    side = round(80 / ground_gsd(scene.geobox)[0])
    center = Window(round(row) - side // 2, round(col) - side // 2, side, side)
    _draw_overlay(RESULTS / f"{name}.png", scene, osm, shifted, center)
    return {
        "suggestions": suggestions(blocks, scene, None),
        "rejected": _rejection_counts(qc),
        "moved_m": _shift_statistics(qc, osm)["building"],
        "tiles": [r for r in rows(qc.grid, blocks) if r["features"]],
    }


def _mapped(osm: VectorLabels) -> Area:
    """Where Banepa is mapped: around its buildings."""
    local = shapely.union_all(shapely.buffer(osm.shapes, 30))
    return Area(np.array([local], object), "around the buildings")


def _draw_overlay(
    path: Path, scene: Scene, raw: VectorLabels, shifted: VectorLabels, crop: Window
) -> None:
    """The image with labels as they are (red) and aligned (green)."""
    window = crop.clip(scene.shape)
    raster = scene.read(window)
    box = window_geobox(scene.geobox, window)
    with drawing(path, 7, 7) as figure:
        axes = figure.add_subplot()
        picture(
            axes, raster.data[:3].transpose(1, 2, 0), "labels as they are (red), aligned (green)"
        )
        for labels, colour in ((raw, "#ff3020"), (shifted, "#30ff40")):
            for shape in labels.shapes[shapely.intersects(box.extent.geom, labels.shapes)]:
                for part in shapely.get_parts(shape):
                    xy = np.array([~box.affine * p for p in part.exterior.coords]) - 0.5
                    axes.add_patch(
                        PathPatch(Outline(xy), fill=False, edgecolor=colour, linewidth=1.4)
                    )
        axes.set_xlim(0, window.width)
        axes.set_ylim(window.height, 0)


def _page(tables: dict[str, Any]) -> list[str]:
    lines = [
        "# How well labels are checked and aligned",
        "",
        f"`{tables['command']}` (`make label-check`); {tables['machine']}; {tables['software']}.",
        "No model: edges, and classifiers fitted on the labels, tell what the image shows.",
        "",
        "## Known shifts: the simulated map",
        "",
        "Metres: median, three quarters, nine tenths. *Left*: distance between the true and the "
        "estimated shift; of roads across the road only.",
        "",
        "| tile | buildings off | left | roads off | left | IoU building raw, aligned "
        "| IoU road raw, aligned | labels without shift, moved: building, road |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for tile, t in tables["simulated"].items():
        b, r, iou, still = t["building_m"], t["road_across_m"], t["iou"], t["truth_moved_m"]
        row = [
            _m(b["raw"]),
            _m(b["left"]),
            _m(r["raw"]),
            _m(r["left"]),
            *(f"{100 * iou['raw'][k]:.1f}, {100 * iou['aligned'][k]:.1f}" for k in (1, 2)),
            f"{_m(still['building'])}; {_m(still['road'])}",
        ]
        lines.append(f"| {tile} | " + " | ".join(row) + " |")
    lines += ["", "Nodes of the field accepted, of all:", ""]
    lines += [
        "| tile | building | road | the same shapes at random places: building, road |",
        "|---|---|---|---|",
    ]
    for tile, t in tables["simulated"].items():
        random = t["anywhere"]
        row = [_share(t["rejected"][c]) for c in ("building", "road")]
        row.append(
            random.get("error") or ", ".join(_share(random[c]) for c in ("building", "road"))
        )
        lines.append(f"| {tile} | " + " | ".join(row) + " |")
    lines += ["", "Building area without a label, blocks of 200 m:", ""]
    lines += ["| tile | blocks | estimated | true | correlation |", "|---|---:|---:|---:|---:|"]
    for tile, t in tables["simulated"].items():
        m = t["missing"]
        estimated, true = (100 * (m[k] or 0) for k in ("mean_found", "mean_true"))
        lines.append(
            f"| {tile} | {m['blocks']} | {estimated:.0f} % | {true:.0f} % |"
            f" {m['correlation'] or 0:.2f} |"
        )
    lines += ["", "![Simulated](label-check/simulated.png)", "", "## Real scenes"]
    for name, t in tables["real"].items():
        lines += ["", f"### {name}: {REAL[name]}", "", *(f"- {s}" for s in t["suggestions"])]
        lines.append(f"- nodes accepted: {_share(t['rejected']['building'])}")
        lines.append(f"- aligning moves the vertices of buildings by {_m(t['moved_m'])} m")
        lines.append("")
        lines += [
            "| block at (m) | features | dx | dy | ± | omission | commission | status |",
            "|---|---:|---:|---:|---:|---:|---:|---|",
        ]
        for r in t["tiles"]:
            omission = "" if r["omission_share"] is None else f"{100 * r['omission_share']:.0f} %"
            shift = " | ".join(
                "" if r[k] is None else f"{r[k]:.2f}" for k in ("dx_m", "dy_m", "error_m")
            )
            lines.append(
                f"| {r['row']}, {r['column']} | {r['features']} | {shift} | {omission} | "
                f"{r['commission']} | {r['status']} |"
            )
        lines += ["", f"![{name}](label-check/{name}.png)"]
    return lines


def _m(percentiles: list[float]) -> str:
    return " / ".join(f"{x:.2f}" for x in percentiles)


def _share(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return f"{counts.get('accepted', 0)} of {total}"


if __name__ == "__main__":
    main()
