"""Section IV of Maggiori et al. 2017, and what a user would do without it, on one protocol.

    python -m reproduce.maggiori.run --sites forez banepa --seeds 0 1 2

Trains and maps what is not there yet below ``outputs/reproduce/`` (hours on a CPU; a run that was
stopped goes on) and writes ``docs/results/maggiori/``: JSON, Markdown and figures.
"""

from __future__ import annotations

import argparse
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from geopipe.checkpoint import Checkpoint
from geopipe.metrics import Metrics
from geopipe.report.closeups import select_windows
from reproduce.facts import facts
from reproduce.maggiori import figures, filters
from reproduce.maggiori.maps import labelled
from reproduce.maggiori.methods import METHODS, Run
from reproduce.maggiori.page import SHOWN, write_page
from reproduce.maggiori.sensitivity import CASES
from reproduce.site import Site

OUT = Path("outputs/reproduce")
RESULTS = Path("docs/results/maggiori")
SIDES = (300, 200, 120, 60)
"""Scene pixels a side of a close-up: the largest that the labelled part of a scene holds."""


def main() -> None:
    """Run what is asked for, then write what that gave."""
    parser = argparse.ArgumentParser(description="the paper's experiments")
    parser.add_argument("--sites", nargs="+", default=["forez", "banepa"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--cases",
        nargs="*",
        default=list(CASES),
        choices=list(CASES),
        help="sensitivity, on the simulated scene, first seed",
    )
    parser.add_argument("--only-done", action="store_true", help="run nothing, show what is done")
    parser.add_argument("--no-page", action="store_true", help="only run")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results: dict[str, Any] = {}
    for name in args.sites:
        site = Site.open(name, OUT / name, only_done=args.only_done)
        runs = {
            m: list(site.each(args.seeds, partial(METHODS[m].does, site)).values())
            for m in args.methods
        }
        runs = {m: of_seeds for m, of_seeds in runs.items() if of_seeds}
        cases = {
            case: of_seed[args.seeds[0]]
            for case in (args.cases if name == "forez" else ())
            if (of_seed := site.each(args.seeds[:1], partial(CASES[case].does, site)))
        }
        results[name] = _tables(runs, cases)
        if not args.no_page:
            results[name]["filters"] = draw(site, runs, RESULTS / name)
    if not args.no_page:
        command = "python -m reproduce.maggiori.run"
        tables = {**facts(command), "seeds": args.seeds, "sites": results}
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "maggiori.json").write_text(json.dumps(tables, indent=1) + "\n")
        write_page(RESULTS / "README.md", tables)


def _tables(runs: dict[str, list[Run]], cases: dict[str, tuple[Metrics, ...]]) -> dict[str, Any]:
    def plain(steps: tuple[Metrics, ...]) -> list[dict[str, Any]]:
        return [m.to_dict() for m in steps]

    return {
        "methods": {
            m: [{"test": plain(r.steps), "tile": plain(r.trained)} for r in of_seeds]
            for m, of_seeds in runs.items()
        },
        "cases": {case: plain(steps) for case, steps in cases.items()},
    }


def draw(site: Site, runs: dict[str, list[Run]], folder: Path) -> dict[str, Any]:
    """The figures of one site; returns what the filters were found to be."""
    names = {m: METHODS[m].name for m in runs}
    methods_shown = [m for m in SHOWN if m in runs]
    curves = [m for m in ("crf", "agnostic", "beyond", "unshared") if m in runs]
    figures.over_iterations(
        folder / "iterations.png", {names[m]: [r.steps for r in runs[m]] for m in curves}
    )
    figures.class_bars(
        folder / "classes.png", {names[m]: [r.steps[-1] for r in runs[m]] for m in methods_shown}
    )
    truth, test = site.labels("test"), site.scene("test")
    windows = next(filter(None, (select_windows(truth, 4, side) for side in SIDES)), [])
    maps = {"truth": truth, **{names[m]: runs[m][0].map for m in methods_shown}}
    notes = {
        names[m]: f"mean IoU {100 * runs[m][0].steps[-1].mean_iou:.1f} %" for m in methods_shown
    }
    full_region = figures.read_place(test, labelled(test, truth, site.scheme), maps, site.scheme)
    figures.full_maps(folder / "maps.png", full_region, site.scheme, notes)
    closeup_regions = [figures.read_place(test, window, maps, site.scheme) for window in windows]
    figures.close_ups(folder / "close-ups.png", closeup_regions, site.scheme)
    if "rnn" not in runs or runs["rnn"][0].model is None:
        return {}
    model = Checkpoint.load(runs["rnn"][0].model)
    of_class = site.scheme.names[1:]
    rows = [(window, of_class[i % len(of_class)]) for i, window in enumerate(windows)]
    figures.fuzzy_maps(folder / "fuzzy.png", figures.fuzzy_rows(model, test, truth, rows))
    filter_results = filters.compare(model, test, windows[0])
    _, scores = filters.net_scores(model, test, windows[0])
    listed = filters.list_filters(filters.refinement(model), list(scores[1:]))
    figures.kernels(folder / "filters.png", filters.refinement(model), listed)
    figures.responses(folder / "responses.png", figures.respond(model, test, windows[0]))
    return filter_results


if __name__ == "__main__":
    main()
