"""The results as a page of Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from geopipe.metrics import Metrics
from reproduce.gid.ablations import METHODS, PARTS
from reproduce.gid.metrics import ALL, SEGMENTS, STAGES

KINDS = {
    "56": "patches of 56 px",
    "112": "patches of 112 px",
    "224": "patches of 224 px",
    ALL: "all sizes",
    SEGMENTS: "all sizes + segments",
}
_STAGES = {"sure": "before retrieval", "confirmed": "after retrieval", "kept": "thinned out, kept"}
_INTRO = (
    "Source: crops of 224 px of Gaofen-2 (4 m) in five classes, split by crop, 80 % to learn from "
    "and 20 % held out; target: crops of other scenes, their fifteen classes merged into the five; "
    "all of these that share pixels with a source crop (167 of 386) are left out. "
    "Judged on the pixels of the label masks, unlabelled ones left out; mean ± standard deviation "
    "over the seeds, which draw splits, training and choice. For transfer the target is halved by "
    "crop, class by class, crops that share pixels together: all methods may look at one half, and "
    "all figures are of the other. "
    "Only the oracle sees labels of the target.",
    "Tong et al. 2020 map whole Gaofen-2 scenes of five classes and report an overall accuracy "
    "near 96 %. These are other figures: they train a ResNet-50 on patches of all 150 scenes, and "
    "fine-tune a model for each target scene, which they see all of; here EfficientNet-Lite0 "
    "learns from some 1100 crops for a few hundred steps, and one model serves all target crops. "
    "Most of these were picked for one class each, and they are mapped from their own 224 px, "
    "mirrored at the edges: a patch of 224 px around the corner of a crop is more than half "
    "mirror image. Crops were compressed as JPEG once more. Orders of methods can be compared, "
    "figures cannot.",
)
_NOTES = {
    "A": "The source model alone. Target: all of its crops.",
    "B": "Pseudo-labels come from one half of the target's crops, figures from the other.",
    "C": "The same crops as another sensor would see them: {sensor}.",
    "D": "Control: source crops that were held out, halved; one half is looked at as if it were a "
    "target, the other judges and weighs the evidence. Transfer should abstain, or change nothing.",
    "E": "Photographs of UC Merced at 0.3 m taken for images at 4 m, whole images of one class. "
    "Built-up: buildings, residential areas, mobile homes; farmland: agricultural; forest: forest, "
    "chaparral; meadow: golf courses; water: rivers.",
    "F": "On the other sensor, first seed: pseudo-labels by threshold and number of neighbours.",
}


def write_page(path: Path, tables: dict[str, Any]) -> None:
    """Write `tables`, as `run` makes them, to `path`."""
    lines = [
        "# Tong et al. 2020: patches, segments, and transfer without labels",
        "",
        f"`{tables['command']}` (`make reproduce-gid`); {tables['machine']}; "
        f"{tables['software']}; seeds {', '.join(map(str, tables['seeds']))}; "
        + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in tables["settings"].items())
        + ".",
    ]
    for paragraph in _INTRO:
        lines += ["", paragraph]
    for part, part_tables in tables["parts"].items():
        note = _NOTES[part].format(sensor=_sensor_text(tables["sensor"]))
        lines += ["", f"## {part}: {PARTS[part]}", "", note, ""]
        lines += (
            _sizes(part_tables)
            if part == "A"
            else _choices(part_tables)
            if part == "F"
            else _transfer_table(part_tables)
        )
    for file, caption in tables["figures"].items():
        lines += ["", f"![{caption}]({file})"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def percent(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean ± deviation of shares in percent, of those that there are."""
    finite = [100 * x for x in values if x is not None and not math.isnan(x)]
    if not finite:
        return "n/a"
    mean = f"{statistics.mean(finite):.{digits}f}"
    return f"{mean} ± {statistics.stdev(finite):.{digits}f}" if len(finite) > 1 else mean


def _sensor_text(sensor: dict[str, Any]) -> str:
    gains = ", ".join(f"{g:g}" for g in sensor["gains"])
    return (
        f"gamma {sensor['gamma']:g}, bands times {gains}, blurred by {sensor['blur_px']:g} px, "
        f"{sensor['coarser']} x coarser and back, noise of {sensor['noise']:g} levels"
    )


def _metrics(seeds: Sequence[Any]) -> list[Metrics]:
    return [Metrics.from_dict(m) for m in seeds]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _figures(metrics: list[Metrics]) -> list[str]:
    """OA, kappa, and user's accuracy of each class."""
    classes = range(len(metrics[0].names))
    return [
        percent(m.overall_accuracy for m in metrics),
        percent(m.kappa for m in metrics),
        *(percent(m.users_accuracy[k] for m in metrics) for k in classes),
    ]


def _sizes(seeds: Sequence[dict[str, Any]]) -> Iterator[str]:
    for where, title in (("source", "Held-out source"), ("target", "Target")):
        by_kind = {kind: _metrics([s[where][kind] for s in seeds]) for kind in KINDS}
        names = by_kind[ALL][0].names
        yield from (f"{title}, {by_kind[ALL][0].pixels} pixels (kappa in percent):", "")
        head = ["", "OA", "kappa", *(f"user's acc. {n}" for n in names)]
        yield from _table(head, ([KINDS[k], *_figures(metrics)] for k, metrics in by_kind.items()))
        yield ""


def _transfer_table(seeds: Sequence[dict[str, Any]]) -> Iterator[str]:
    names = tuple(seeds[0]["methods"]["none"][ALL]["classes"])
    methods = [m for m in METHODS if m in seeds[0]["methods"]]

    def metrics_of(method: str, kind: str) -> list[Metrics]:
        return _metrics([s["methods"][method][kind] for s in seeds])

    def row(title: str, plain: list[Metrics], outlined: list[Metrics]) -> list[str]:
        pairs = zip(plain, metrics_of("none", ALL), strict=True)
        gain = percent(a.overall_accuracy - b.overall_accuracy for a, b in pairs)
        figures = _figures(plain)
        return [
            title,
            figures[0],
            gain,
            percent(m.overall_accuracy for m in outlined),
            *figures[1:],
        ]

    rows = [row(METHODS[m], metrics_of(m, ALL), metrics_of(m, SEGMENTS)) for m in methods]
    by_evidence = ["both" if s["goes_on"] else "none" for s in seeds]
    cautious = [
        _metrics([s["methods"][m][kind] for s, m in zip(seeds, by_evidence, strict=True)])
        for kind in (ALL, SEGMENTS)
    ]
    trained = by_evidence.count("both")
    rows.append(
        row(f"retrieval, unless it abstains ({trained} of {len(seeds)} trained)", *cautious)
    )
    head = [
        "",
        "OA, all sizes",
        "gain",
        "OA + segments",
        "kappa",
        *(f"user's acc. {n}" for n in names),
    ]
    yield from _table(head, rows)
    yield from ("", "What the evidence said, without labels, and what the labels say:", "")
    yield from _evidence(seeds)
    yield from ("", "Pseudo-labels that are right, percent (cells without a clear label left out):")
    yield ""
    yield from _table(
        ["", "cells", "all", *names],
        (
            [title, *_precision([s["precision"] for s in seeds], k, names)]
            for k, title in _STAGES.items()
        ),
    )


def _evidence(seeds: Sequence[dict[str, Any]]) -> Iterator[str]:
    def figure(f: dict[str, Any], digits: int = 2) -> str:
        if f["value"] is None:
            return "n/a"
        return " ".join(
            (f"{f['value']:.{digits}f}", f"({f['low']:.{digits}f} to {f['high']:.{digits}f})")
        )

    def number(x: float | None) -> str:
        return "n/a" if x is None else f"{x:.2f}"

    head = [
        "seed",
        "verdict",
        "domain AUC",
        "distance",
        "passed",
        "accuracy gap",
        "reverse validation",
        "estimated gain",
        "true gain",
    ]
    rows = []
    for i, s in enumerate(seeds):
        e = s["evidence"]
        rows.append(
            [
                str(s.get("seed", i)),
                "trains" if s["goes_on"] else "abstains",
                figure(e["domain_auc"]),
                number(e["distance"]),
                number(e["passed"]),
                figure(e["accuracy_gap"], 1),
                figure(e["reverse_validation"]),
                figure(e["gain"], 1),
                f"{s['true_gain']:.1f}",
            ]
        )
    yield from _table(head, rows)
    reasons = seeds[0]["evidence"]["reasons"]
    if reasons:
        yield from ("", "Reasons (first seed):", "", *(f"- {r}" for r in reasons))


def _precision(seeds: Sequence[dict[str, Any]], stage: str, names: Sequence[str]) -> list[str]:
    samples = statistics.mean(s[stage]["all"]["samples"] for s in seeds)
    shares = [percent(s[stage][k]["precision"] for s in seeds) for k in ("all", *names)]
    return [f"{samples:.0f}", *shares]


def _choices(results: dict[str, Any]) -> Iterator[str]:
    def accuracy(maps: Any) -> str:
        return percent([Metrics.from_dict(maps[ALL]).overall_accuracy]) if maps else "not trained"

    names = tuple(next(iter(results.values()))["samples"])
    for stage in STAGES:
        rows = (
            [
                name.replace("-", " "),
                *_precision([run["precision"]], stage, names),
                accuracy(run.get("maps")),
            ]
            for name, run in results.items()
        )
        yield from (f"Pseudo-labels that are right, {_STAGES[stage]}, percent:", "")
        yield from _table(["", "cells", "all", *names, "OA when trained on"], rows)
        yield ""


def groups(tables: dict[str, Any], pick: Callable[[str], str]) -> dict[str, dict[str, list[float]]]:
    """For the bars: part -> method -> overall accuracy of each seed; `pick` names a part."""
    by_class: dict[str, dict[str, list[float]]] = {}
    for part in (p for p in "BCDE" if p in tables["parts"]):
        seeds = tables["parts"][part]
        by_class[pick(part)] = {
            METHODS[m]: [s["methods"][m][ALL]["overall_accuracy"] for s in seeds]
            for m in METHODS
            if m in seeds[0]["methods"]
        }
    return by_class
