"""What averaging over flips gives: the models that ``reproduce.real.run`` has trained, mapped anew.

    python -m reproduce.real.flips --sites kampala banepa --seed 2

Needs the folder GEOPIPE_DATA and runs of the method "auto" below ``--out``. The starter model, or
one that did not see the place, is mapped with, too. Writes ``docs/results/real/flips.{json,md}``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_model
from geopipe.checkpoint import ModelFile
from geopipe.checkpoint.starter import STARTER
from geopipe.mapping import Engine
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle
from reproduce.facts import facts
from reproduce.real.judge import judge
from reproduce.real.place import FOLDER, Place
from reproduce.real.run import OUT, RESULTS
from reproduce.starter.run import SITES, model_without

ROLES = ("select", "test")
FLIPS = (1, 2, 4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Map, judge and write the page."""
    sites = sorted(p.stem for p in FOLDER.glob("*.toml"))
    parser = argparse.ArgumentParser(description="maps averaged over flips")
    parser.add_argument("--sites", nargs="+", default=sites, choices=sites)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    rows = []
    for site in args.sites:
        place = Place.open(site, data, args.out / "places")
        for name, model in _models(site, args.seed, args.out):
            rows += list(_evaluated(place, name, ModelFile.open(model), args.out / "flips"))
            tables = {
                **facts(f"python -m reproduce.real.flips --seed {args.seed}"),
                "processor": cpu_model(),
                "rows": rows,
            }
            (args.results / "flips.json").write_text(json.dumps(tables, indent=1) + "\n")
            (args.results / "flips.md").write_text(page(tables))


def _models(site: str, seed: int, out: Path) -> Iterator[tuple[str, Path]]:
    """Those that are there: the default with an accurate tile, and a starter model."""
    starter = model_without(site) if site in SITES else STARTER
    trained = out / f"{site}-auto-{seed}" / "refined.safetensors"
    for name, path in (("the default", trained), ("starter model", starter)):
        if path.is_file():
            yield name, path


def _evaluated(place: Place, name: str, model: ModelFile, out: Path) -> Iterator[dict[str, Any]]:
    for role in ROLES:
        scene = Scene.open(str(place.scene(role)), nodata=place.nodata)
        for flips in FLIPS:
            options = MapOptions(Engine("cpu", flips=flips), vectors=True, overwrite=True)
            start = time.perf_counter()
            bundle = write_bundle(scene, model, out / f"{place.name}-{role}", options)
            seconds = time.perf_counter() - start
            figures = judge(bundle.classes, place, role, model.checkpoint.scheme)
            building = figures["building"]
            row = {
                "site": place.spec["title"],
                "model": name,
                "part": role,
                "flips": flips,
                "iou": figures["iou"]["building"],
                "boundary": building["boundary"]["f1"],
                "f1": building["footprints"]["f1"],
                "seconds": round(seconds, 1),
            }
            print(json.dumps(row), flush=True)
            yield row


def page(tables: dict[str, Any]) -> str:
    """The figures as Markdown, and their means."""
    lines = [
        "# Probabilities averaged over flips of the image",
        "",
        f"`{tables['command']}`, {tables['processor']}, {tables['machine']}; {tables['software']}.",
        "",
        "`geopipe map --flips 1`, `2` and `4 --vectors`: buildings of the parts that were not "
        "trained on, percent. Seconds are of the whole map with its footprints.",
        "",
        "| place | model | part | flips | IoU | boundary F1 | footprint F1 | seconds |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    rows = tables["rows"]
    lines += [
        f"| {r['site']} | {r['model']} | {r['part']} | {r['flips']} | {100 * r['iou']:.1f} | "
        f"{100 * r['boundary']:.1f} | {100 * r['f1']:.1f} | {r['seconds']} |"
        for r in rows
    ]
    for model in sorted({r["model"] for r in rows}):
        for flips in FLIPS:
            some = [r for r in rows if (r["model"], r["flips"]) == (model, flips)]
            means = (
                f"{100 * sum(r[key] for r in some) / len(some):.1f}"
                for key in ("iou", "boundary", "f1")
            )
            lines.append(f"| **mean** | {model} | | {flips} | {' | '.join(means)} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
