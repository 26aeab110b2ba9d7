"""Train the starter model, and measure it on places that it does not know.

    python -m reproduce.starter.run --steps 1000

Needs the folder GEOPIPE_DATA. For each site a model is trained on the other sites and maps the test
part of ``reproduce/real`` there, without any training on the site. The model of all sites goes to
``geopipe/starter``. What is done is not done again. Writes ``docs/results/starter.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio
import rasterio
import shapely
from shapely import affinity

from benchmarks.machine import cpu_model
from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.starter import STARTER, STARTER_KEY
from geopipe.classes import load_scheme
from geopipe.errors import SceneError
from geopipe.labels.vectorfile import OSM_CREDIT
from geopipe.mapping import Engine
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.run import run_workflow
from geopipe.workflow.schema import Workflow, parse_workflow
from reproduce.facts import facts
from reproduce.real.judge import judge
from reproduce.real.place import Place

SITES = tomllib.loads(Path(__file__).with_name("sites.toml").read_text())
UNSEEN = ("massachusetts",)
"""Never trained on: its licence is for research only, and its pixels are three times as coarse."""
OUT = Path("outputs/reproduce/starter")
RESULTS = Path("docs/results")
_CLASSES = "buildings"
_GSD = 0.3
_COMMAND = "python -m reproduce.starter.run"
_TRAINED_ON = (
    "OpenAerialMap images (CC BY 4.0) and OpenStreetMap outlines (ODbL 1.0) of Banepa, Kampala, "
    "Catanduanes and Zanzibar"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and judge what is not done yet, then write the page."""
    parser = argparse.ArgumentParser(description="the starter model, where it was not trained")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--without", nargs="+", default=list(SITES), choices=list(SITES), help="sites to leave out"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    if not data.is_dir():
        raise SceneError(f"there is no folder {data}", "set GEOPIPE_DATA")
    out, command = (
        args.out.resolve(),
        f"{_COMMAND} --steps {args.steps} --without {' '.join(args.without)}",
    )
    rows = {}
    complete = _trained(list(SITES), args.steps, data, out / "all")
    for site in args.without:
        others = [name for name in SITES if name != site]
        model = _trained(others, args.steps, data, model_without(site, out).parents[1])
        rows[site] = _figures(model, site, data, out / f"without-{site}")
    for site in UNSEEN:
        rows[site] = _figures(complete, site, data, out / "all")
    STARTER.parent.mkdir(exist_ok=True)
    trained = Checkpoint.load(complete)
    origin = {STARTER_KEY: _TRAINED_ON, "credit": f"{OSM_CREDIT}; images: OpenAerialMap, CC BY 4.0"}
    replace(trained, provenance=trained.provenance | origin).save(STARTER)
    result = {"sites": rows, "processor": cpu_model(), **facts(command)}
    (args.results / "starter.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.results / "starter.md").write_text(_page(result), encoding="utf-8")


def model_without(site: str, out: Path = OUT) -> Path:
    """The file of the starter model that did not learn from `site`."""
    return out / f"without-{site}" / "run" / "base.safetensors"


def _trained(sites: Sequence[str], steps: int, data: Path, out: Path) -> Path:
    """The model that learnt from `sites`."""
    scenes = [_labelled(site, data, out) for site in sites]
    tables: dict[str, Any] = {
        "name": "starter",
        "out": str(out / "run"),
        "classes": _CLASSES,
        "gsd": _GSD,
        "train": {**scenes[0], "also": scenes[1:], "start": "imagenet"},
        "base": {"net": "lite-unet", "steps": steps, "jitter": 0.5},
    }
    workflow: Workflow = parse_workflow(tables, "the starter model")
    model = workflow.out / "base.safetensors"
    if not model.exists():
        run_workflow(workflow)
    return model


def _labelled(site: str, data: Path, out: Path) -> dict[str, Any]:
    """The scene of a site, its labels and where they are complete."""
    place, spec = Place.open(site, data, out / "places"), SITES[site]
    scene = data / place.spec["scene"]
    out.mkdir(parents=True, exist_ok=True)
    labels, area = out / f"{site}.gpkg", out / f"{site}-area.gpkg"
    pyogrio.write_dataframe(place.truth, labels)
    if "complete" in spec:
        complete = pyogrio.read_dataframe(data / spec["complete"]).to_crs(place.truth.crs)
    else:
        with rasterio.open(scene) as src:
            plane = src.transform
        boxes = [shapely.box(c, r, c + w, r + h) for c, r, w, h in spec["boxes"]]
        moved = affinity.affine_transform(shapely.MultiPolygon(boxes), plane.to_shapely())
        complete = gpd.GeoDataFrame(geometry=[moved], crs=place.truth.crs)
    pyogrio.write_dataframe(complete[["geometry"]], area)
    settings = {"scene": str(scene), "labels": str(labels), "area": str(area), "align": False}
    return settings if place.nodata is None else {**settings, "nodata": place.nodata}


def _figures(model: Path, site: str, data: Path, out: Path) -> dict[str, Any]:
    """Figures of the model's map of the test part of a site."""
    place = Place.open(site, data, out / "places")
    scene = Scene.open(place.scene("test"), nodata=place.nodata)
    options = MapOptions(Engine("cpu"), overwrite=True)
    bundle = write_bundle(scene, model, out / "map" / site, options)
    figures = judge(bundle.classes, place, "test", load_scheme(_CLASSES))
    return {"title": place.spec["title"], **figures}


def _page(result: dict[str, Any]) -> str:
    lines = [
        "# The starter model",
        "",
        "A lite U-Net (EfficientNet-Lite0 from ImageNet, 0.3 m) that learnt buildings from",
        "OpenAerialMap images and OpenStreetMap outlines of four places. Each row but the last is",
        "a place that the model in question did not learn from: it was trained on the other",
        "three. Nothing of the place was used, neither labels nor pixels. The last row is an",
        "aerial image of 1 m, far coarser than what the model learnt from. One seed; the test",
        "parts are those of [maps of real places](real/README.md); small areas go as there.",
        "",
        "| place | mean IoU | IoU building | object F1 | boundary F1, 1 m | area |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["sites"].values():
        building = row["building"]
        figures = (
            row["mean_iou"],
            row["iou"]["building"],
            building["objects"]["f1"],
            building["boundary"]["f1"],
            building["area_error"],
        )
        lines.append(f"| {row['title']} | " + " | ".join(f"{100 * f:.1f}" for f in figures) + " |")
    made = f"Made by `{result['command']}` on {result['processor']}; {result['software']}."
    return "\n".join([*lines, "", made, ""])


if __name__ == "__main__":
    main()
