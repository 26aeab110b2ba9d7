"""Measure and write the page."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from reproduce.compare.buildings import buildings_runs
from reproduce.compare.page import page
from reproduce.compare.plant import plant, true_buildings
from reproduce.compare.roads import roads_run
from reproduce.compare.trained import FEATURES, trained_runs
from reproduce.facts import facts
from reproduce.real.place import Place
from reproduce.real.run import OUT

RESULTS = Path("docs/results/compare")
SEEDS = (0, 1)
TRAINED_SEEDS = (0, 1, 2, 3, 4)
"""Of the edits; the map is one."""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="planted edits, and how compare finds them")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--trained", type=Path, default=OUT, help="--out of reproduce.real.run")
    args = parser.parse_args()
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    truth = true_buildings(data / "banepa/osm_buildings.geojson")
    runs: list[dict[str, Any]] = []
    trained: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            runs += buildings_runs(plant(truth, seed), seed, Path(folder))
        if (args.trained / FEATURES).is_file():
            place = Place.open("banepa", data, args.trained / "places")
            trained = trained_runs(args.trained, place, truth, TRAINED_SEEDS, Path(folder))
        figures = {
            **facts("python -m reproduce.compare"),
            "buildings": runs,
            "trained": trained,
            "roads": [roads_run(seed, Path(folder)) for seed in args.seeds],
        }
    RESULTS.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
