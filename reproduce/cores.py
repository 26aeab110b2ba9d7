"""What learning the cores of buildings gives: footprints with and without them.

    python -m reproduce.cores --sites banepa --steps 200

Needs the folder GEOPIPE_DATA. On the accurate tile of each site a lite U-Net learns from ImageNet's
weights, with the cores and without, and maps the test part of ``reproduce/real``. What is trained
is not trained again. Writes ``docs/results/cores.json`` and ``cores.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize, shapes
from scipy.ndimage import distance_transform_edt
from shapely.geometry import shape

from benchmarks.machine import cpu_model
from geopipe.classes import load_scheme
from geopipe.errors import SceneError
from geopipe.evaluation.objects import match_objects
from geopipe.grid import NetworkGrid, ground_gsd, suited_gsd
from geopipe.labels import core_labels
from geopipe.learn import BaseNetworkPlan, build_pool, train_base_network
from geopipe.mapping import Engine
from geopipe.nets import SegmentationModel, build_base_network
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.sources import label_source
from geopipe.workflow.training_steps import CORE_PX
from reproduce.facts import facts
from reproduce.real.judge import CRUMB_M2, judge, metres, true_buildings
from reproduce.real.place import Place

OUT = Path("outputs/reproduce/cores")
RESULTS = Path("docs/results")
VARIANTS = {"without": "without cores", "with": "with cores"}
_SCHEME = load_scheme("buildings")
_PATCH = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and judge, then write the page."""
    parser = argparse.ArgumentParser(description="footprints with and without learnt cores")
    parser.add_argument("--sites", nargs="+", default=["banepa"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    if not data.is_dir():
        raise SceneError(f"there is no folder {data}", "set GEOPIPE_DATA")
    rows = []
    for site in args.sites:
        place = Place.open(site, data, args.out / "places")
        for variant in VARIANTS:
            model = args.out / f"{site}-{variant}-{args.steps}-{args.seed}.safetensors"
            if not model.exists():
                _train(place, variant == "with", args.steps, args.seed, model)
            rows.append(_figures(place, model, args.out / f"{site}-{variant}", variant))
    command = f"python -m reproduce.cores --sites {' '.join(args.sites)} --steps {args.steps}"
    result = {
        "steps": args.steps,
        "seed": args.seed,
        "rows": rows,
        "processor": cpu_model(),
        **facts(f"{command} --seed {args.seed}"),
    }
    (args.results / "cores.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.results / "cores.md").write_text(_page(result), encoding="utf-8")


def _train(place: Place, with_cores: bool, steps: int, seed: int, out: Path) -> None:
    scene = Scene.open(place.scene("enhance"), nodata=place.nodata)
    gsd = suited_gsd(scene.geobox)
    choice = LabelledScene(
        scene=scene.path,
        labels=place.labels("enhance"),
        area=place.area_file("enhance"),
        nodata=place.nodata,
    )
    labels = label_source(choice, _SCHEME, scene)
    net = SegmentationModel(build_base_network(len(scene.bands), 2, "lite-unet"))
    pool = build_pool(
        scene,
        labels,
        NetworkGrid.of(scene.geobox, gsd),
        halo=net.halo,
        patch=_PATCH,
        seed=seed,
        stride=net.stride,
        cores=core_labels(labels, CORE_PX * gsd) if with_cores else None,
    )
    plan = BaseNetworkPlan.of("lite-unet", steps=steps, seed=seed)
    train_base_network(pool, _SCHEME, plan, dtype=scene.dtype, gsd=gsd, out=out, key=out.name)


def _figures(place: Place, model: Path, folder: Path, variant: str) -> dict[str, Any]:
    """Of the model's map of the test part."""
    scene = Scene.open(place.scene("test"), nodata=place.nodata)
    options = MapOptions(Engine("cpu"), vectors=True, overwrite=True)
    bundle = write_bundle(scene, model, folder, options)
    figures = judge(bundle.classes, place, "test", _SCHEME)
    building = figures["building"]
    return {
        "site": place.name,
        "title": place.spec["title"],
        "variant": variant,
        "iou": figures["iou"]["building"],
        "objects": building["objects"],
        "footprints": building["footprints"],
        "split_as_truth": _split_as_truth(bundle.classes, place, scene),
        "of_truth": building["footprints_of_truth"],
    }


def _split_as_truth(class_map: Path, place: Place, scene: Scene) -> float:
    """F1 of the map's pixels if each belonged to the true building that is nearest to it."""
    truth, plane = true_buildings(place, "test", scene), metres(ground_gsd(scene.geobox))
    with rasterio.open(class_map) as src:
        mapped = src.read(1) == _SCHEME.id_of("building")
    area = [(place.area("test"), 1)]
    mapped &= rasterize(area, mapped.shape, transform=scene.geobox.affine).astype(bool)
    numbers = rasterize(
        [(polygon, i) for i, polygon in enumerate(truth, 1)],
        mapped.shape,
        transform=plane,
        dtype="int32",
    )
    rows, cols = distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    nearest = np.where(mapped, numbers[rows, cols], 0).astype(np.int32)
    parts: dict[int, list[Any]] = {}
    for geometry, number in shapes(nearest, nearest > 0, connectivity=4, transform=plane):
        parts.setdefault(int(number), []).append(shape(geometry))
    largest = np.array([max(polygons, key=shapely.area) for polygons in parts.values()], object)
    return match_objects(largest[shapely.area(largest) >= CRUMB_M2], truth).f1


def _page(result: dict[str, Any]) -> str:
    lines = [
        "# Footprints with and without learnt cores",
        "",
        "A lite U-Net learns from ImageNet's weights on the accurate tile of a place alone, "
        f"{result['steps']} steps,",
        f"seed {result['seed']}, with the cores of buildings as a second target and without. "
        "Figures are of the",
        "footprints of the test part (percent), against every true building of 10 m² and more by",
        "itself. Merged: share of footprints that hold two true buildings or more. Split as the",
        "truth: F1 of the same map if each of its pixels belonged to the nearest true building.",
        "Perfect raster: F1 of the footprints of the rasterized truth. Object F1: areas of the",
        "raster, as in [maps of real places](real/README.md).",
        "",
        "| place | network | IoU building | object F1 | footprints (truth) | precision | recall "
        "| **F1** | merged | split as the truth | perfect raster |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        counts = row["footprints"]
        shares = (
            *(counts[k] for k in ("precision", "recall", "f1", "merged")),
            row["split_as_truth"],
            row["of_truth"]["f1"],
        )
        lines.append(
            f"| {row['title']} | {VARIANTS[row['variant']]} | {100 * row['iou']:.1f} | "
            f"{100 * row['objects']['f1']:.1f} | {counts['mapped']} ({counts['truth']}) | "
            + " | ".join(f"{100 * share:.1f}" for share in shares)
            + " |"
        )
    made = f"Made by `{result['command']}` on {result['processor']}; {result['software']}."
    return "\n".join([*lines, "", made, ""])


if __name__ == "__main__":
    main()
