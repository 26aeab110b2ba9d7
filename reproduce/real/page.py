"""``docs/results/real/README.md`` from what is done."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geopipe.errors import LabelError
from geopipe.validation import read_json
from reproduce.real.methods import METHODS
from reproduce.results import PlaceResult

Run = dict[str, Any]
_COLUMNS = (
    "method",
    "seeds",
    "mean IoU",
    "{}",
    "object F1",
    "the same without < 10 m²",
    "footprint F1 (possible)",
    "boundary F1, 1 m",
    "relaxed F1, 3 m",
    "area",
    "minutes",
    "memory",
)


def write_page(results: Path) -> None:
    """A table for each site, on its test part."""
    hint = "remove it; the same command makes it again"
    runs = [
        read_json(p, PlaceResult, LabelError, hint).model_dump()
        for p in sorted(results.glob("*-*-*.json"))
    ]
    sites: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        sites[run["site"]].append(run)
    lines = ["# Maps of real places", "", *_INTRODUCTION]
    for result in sites.values():
        lines += ["", f"## {result[0]['title']}", "", *_table(result)]
    machines = sorted({f"{r['processor']}, {r['precision']}; {r['software']}" for r in runs})
    lines += ["", f"Made by `python -m reproduce.real.run` on {' and '.join(machines)}."]
    (results / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


_INTRODUCTION = (
    "Each place is cut into a training part (labels as they are, or made noisy where they are",
    "clean), an accurate tile, and a test part apart from both (`reproduce/real/*.toml`). Figures",
    "are of the test part, percent, mean ± standard deviation over the seeds. Object F1: mapped",
    "polygons that match a true building at an IoU of more than 0.5; buildings that touch are one,",
    "in the truth and in the map. Footprint F1: the footprints of `--vectors` against every true",
    "building of 10 m² and more by itself; in brackets the footprints of the rasterized truth.",
    "Empty: of a run before they were judged. [What limits them](footprints.md).",
    "The default goes on from the starter model: at places that the one of the package learned",
    "from, from one that did not (`python -m reproduce.starter.run`).",
    "Area: mapped over true, less 1. Minutes and peak memory are of the whole workflow,",
    "with both maps, on the machine named below, which did other work beside some of the runs.",
)


def _table(runs: list[Run]) -> list[str]:
    shown = next(iter(runs[0]["figures"]["with_tile"]["test"]["iou"]))
    names = [n for n in runs[0]["figures"]["with_tile"]["test"]["iou"] if n != shown]
    head = [c.format("IoU " + ", ".join(names)) for c in _COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for method, spec in METHODS.items():
        of_method = [r for r in runs if r["method"] == method]
        if not of_method:
            continue
        lines.append(_row(spec.alone, of_method, "alone", names))
        lines.append(_row(spec.with_tile, of_method, "with_tile", names))
    return lines


def _row(name: str, runs: list[Run], which: str, names: list[str]) -> str:
    result = [r["figures"][which]["test"] for r in runs]

    def cell(get: Callable[[Run], float | None]) -> str:
        values = [v for v in map(get, result) if v is not None]
        return _spread(values) if len(values) == len(result) else ""

    def of_class(kind: str, *keys: str) -> str:
        return cell(lambda f: _deep(f, kind, *keys))

    ious = ", ".join(cell(lambda f, n=n: f["iou"][n]) for n in names)  # type: ignore[misc]
    whole = which == "with_tile"
    footprints = of_class("building", "footprints", "f1")
    if footprints:
        footprints += f" ({of_class('building', 'footprints_of_truth', 'f1')})"
    cells = [
        name,
        str(len(runs)),
        cell(lambda f: f["mean_iou"]),
        ious,
        of_class("building", "objects", "f1"),
        of_class("building", "objects_no_crumbs", "f1"),
        footprints,
        of_class(names[-1], "boundary", "f1"),
        of_class("road", "relaxed", "f1"),
        of_class(names[-1], "area_error"),
        f"{statistics.mean(r['minutes'] for r in runs):.1f}" if whole else "",
        f"{statistics.mean(r['peak_mb'] for r in runs):.0f} MB" if whole else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _deep(table: Run, *keys: str) -> float | None:
    value: Any = table
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return None if value is None else float(value)


def _spread(values: list[float]) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean
