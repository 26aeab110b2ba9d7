"""Maps of real places by several methods, judged where nothing was trained.

    python -m reproduce.real.run --sites massachusetts kampala --methods cnn-rnn auto --seeds 0 1 2

Needs the folder GEOPIPE_DATA; without arguments every site of ``reproduce/real/*.toml`` by every
method. What is done is one JSON file each below ``--results``, and is not done again. Writes
``docs/results/real/README.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import cpu_model
from geopipe.classes import load_scheme
from geopipe.errors import GeopipeError, SceneError
from geopipe.learn.precision import trains_in_bfloat16
from geopipe.mapping import Engine
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.run import run_workflow
from geopipe.workflow.schema import Workflow, load_workflow
from geopipe.workflow.sources import network_gsd, start_model
from reproduce.facts import facts
from reproduce.real.forest import forest_maps
from reproduce.real.judge import judge
from reproduce.real.methods import FOREST, METHODS
from reproduce.real.page import write_page
from reproduce.real.place import FOLDER, Place
from reproduce.starter.run import SITES, model_without

OUT = Path("outputs/reproduce/real")
RESULTS = Path("docs/results/real")
_START = Path("workflows/new-scene.toml")
"""What a newcomer starts from: every method is a change of it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and is not done, then write the page."""
    sites = sorted(p.stem for p in FOLDER.glob("*.toml"))
    parser = argparse.ArgumentParser(description="maps of real places, compared with their labels")
    parser.add_argument("--sites", nargs="+", default=sites, choices=sites)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of every workflow, as of geopipe run",
    )
    parser.add_argument("--here", action="store_true", help="one run, in this process")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for site, method, seed in product(args.sites, args.methods, args.seeds):
        target = args.results / f"{site}-{method}-{seed}.json"
        if args.here:
            _run(site, method, seed, args, target)
        elif not target.exists():
            # A process each: its peak of memory is its own.
            command = [sys.executable, "-m", "reproduce.real.run", "--here", "--sites", site]
            command += ["--methods", method, "--seeds", str(seed), "--out", str(args.out)]
            command += ["--results", str(args.results), *(f"--set={pair}" for pair in args.set)]
            if subprocess.run(command, check=False).returncode:
                failed.append(f"{site}, {method}, seed {seed}")
    if not args.here:
        write_page(args.results)
    if failed:
        raise SystemExit(f"without a result: {'; '.join(failed)}")


def _run(site: str, method: str, seed: int, args: argparse.Namespace, target: Path) -> None:
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    if not data.is_dir():
        raise SceneError(f"there is no folder {data}", "set GEOPIPE_DATA")
    place = Place.open(site, data, args.out / "places")
    changes = dict(pair.split("=", 1) for pair in args.set)
    workflow = _workflow(place, method, seed, args.out, changes)
    start = time.perf_counter()
    try:
        alone, with_tile = (forest_maps if method == FOREST else _network_maps)(workflow, place)
    except GeopipeError as e:
        raise SystemExit(f"{site}, {method}: {e.message}; {e.hint}") from e
    seconds = time.perf_counter() - start
    scheme = load_scheme(workflow.classes)
    figures: dict[str, Any] = {
        "alone": {"test": judge(alone, place, "test", scheme)},
        "with_tile": {role: judge(path, place, role, scheme) for role, path in with_tile.items()},
    }
    message = {
        "site": site,
        "title": place.spec["title"],
        "method": method,
        "seed": seed,
        "changed": changes,
        "minutes": seconds / 60,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "threads": torch.get_num_threads(),
        "precision": "bfloat16" if trains_in_bfloat16("cpu", "auto") else "float32",
        "processor": cpu_model(),
        **facts(f"python -m reproduce.real.run --sites {site} --methods {method} --seeds {seed}"),
        "figures": figures,
    }
    target.write_text(json.dumps(message, indent=1) + "\n")


def _network_maps(workflow: Workflow, place: Place) -> tuple[Path, dict[str, Path]]:
    """The map of the test part without the accurate tile, and the maps of a run of `workflow`."""
    run_workflow(workflow)
    maps = {r: workflow.out / "map" / r / "classes.tif" for r in ("select", "test")}
    return _alone(workflow, place), maps


def _alone(workflow: Workflow, place: Place) -> Path:
    """The map of the test part before the accurate tile was learnt from, made like any other."""
    scene = Scene.open(place.scene("test"), nodata=place.nodata)
    options = MapOptions(Engine("cpu"), vectors=True, overwrite=True)
    return write_bundle(
        scene, workflow.out / "base.safetensors", workflow.out / "alone", options
    ).classes


def _workflow(place: Place, method: str, seed: int, out: Path, changes: dict[str, str]) -> Workflow:
    settings = {
        "name": f"{place.spec['title']}: {method}",
        "out": str((out / f"{place.name}-{method}-{seed}").resolve()),
        "classes": _classes(place),
        "seed": str(seed),
        "map.vectors": "true",
        "map.scenes": json.dumps([str(place.scene(r).resolve()) for r in ("test", "select")]),
        **METHODS[method].settings,
    }
    for role in ("train", "enhance", "test"):
        settings |= {
            f"{role}.scene": str(place.scene(role).resolve()),
            f"{role}.labels": str(place.labels(role).resolve()),
            f"{role}.area": str(place.area_file(role).resolve()),
        }
        if place.nodata is not None:
            settings[f"{role}.nodata"] = str(place.nodata)
    workflow = load_workflow(_START, settings | changes)
    start = start_model(workflow)
    if start is None or not start.by_default or place.name not in SITES:
        return workflow
    # The starter model of the package has seen the place.
    other = model_without(place.name).resolve()
    if not other.is_file():
        raise SceneError(
            f"there is no {other}", f"run python -m reproduce.starter.run --without {place.name}"
        )
    settings |= {"train.start": str(other), "gsd": str(network_gsd(workflow))}
    return load_workflow(_START, settings | changes)


def _classes(place: Place) -> str:
    name: str = place.spec["classes"]
    return str((FOLDER / name).resolve()) if name.endswith(".toml") else name


if __name__ == "__main__":
    main()
