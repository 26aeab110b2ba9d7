"""The results as Markdown, JSON and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geopipe.report.figures import chart
from geopipe.report.retrieval import pr_curve
from geopipe.retrieve import RetrievalMetrics
from reproduce.retrieval import paper
from reproduce.retrieval.query_expansion import SHOWN, Feedback, Option


@dataclass(frozen=True)
class Row:
    """A feature and what it is worth."""

    net: str
    feature: str
    width: int
    metrics: RetrievalMetrics
    ms: float = float("nan")


def write(
    out: Path,
    data: str,
    images: int,
    rows: Sequence[Row],
    curves: Sequence[tuple[str, RetrievalMetrics]],
    beyond: Sequence[Option],
    reply: Feedback | None,
) -> None:
    """Write ``DATA.md``, ``DATA.json`` and ``DATA-pr.svg`` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        f"# Retrieval on {data}",
        "",
        f"`python -m reproduce.retrieval.run` (`make reproduce-retrieval`); {images} images, every "
        "one a query, itself excluded; Gaussian normalisation, Euclidean distance; no labels are "
        "seen where no row says so; ms: of a processor core, of the net alone. The paper: Ge et "
        "al., tables 2 to 4.",
        "",
        "## Networks and layers",
        "",
        "| network | feature | length | mAP % | paper | difference | ANMRR | paper | precision "
        "at 10 | ms an image |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(data, r) for r in rows),
        "",
        f"![precision and recall]({data}-pr.svg)",
        "",
    ]
    if data in paper.BOVW:
        lines += ["The paper's own figures:", "", *paper.table(data), ""]
    differences = Path(__file__).with_name(f"{data}.md")
    if differences.exists():
        lines += [differences.read_text(encoding="utf-8")]
    if rows:
        lines += ["## By class", "", *_classes(rows), ""]
    if beyond:
        lines += ["## Beyond the paper", "", *_beyond(beyond), ""]
    if reply is not None:
        lines += [
            "## Feedback",
            "",
            f"The user says yes and no to the first {SHOWN} hits (Rocchio); mAP over the images "
            "not shown, %:",
            "",
            "| without | `--like` | `--like` and `--unlike` |",
            "|---:|---:|---:|",
            f"| {100 * reply.before:.1f} | {100 * reply.like:.1f} | {100 * reply.both:.1f} |",
            "",
        ]
    (out / f"{data}.md").write_text("\n".join(lines))
    short = json.loads(
        json.dumps(_figures(images, rows, beyond, reply)),
        parse_float=lambda text: round(float(text), 5),
    )
    (out / f"{data}.json").write_text(json.dumps(short) + "\n")
    svg = chart(pr_curve(curves), "pr").replace("currentColor", "#444")
    (out / f"{data}-pr.svg").write_text(svg)


def _figures(
    images: int, rows: Sequence[Row], beyond: Sequence[Option], reply: Feedback | None
) -> dict[str, Any]:
    """All figures as JSON values."""
    return {
        "images": images,
        "rows": [
            {
                "net": r.net,
                "feature": r.feature,
                "width": r.width,
                "ms": _number(r.ms),
                **r.metrics.to_dict(),
            }
            for r in rows
        ],
        "beyond": [
            {
                "name": o.name,
                "width": o.width,
                "ms": _number(o.ms),
                "map": o.metrics.mean_ap,
                "anmrr": o.metrics.anmrr,
                "base": o.base.mean_ap,
            }
            for o in beyond
        ],
        "feedback": reply and vars(reply),
    }


def _row(data: str, r: Row) -> str:
    published_map, anmrr = (
        paper.mean_ap(data, r.net, r.feature),
        paper.anmrr(data, r.net, r.feature),
    )
    if r.net == "BoVW":
        published_map, anmrr = paper.BOVW.get(data, (None, None))
    measured_map = 100 * r.metrics.mean_ap
    difference = f"{measured_map - published_map:+.1f}" if published_map is not None else ""
    ten = r.metrics.precision[:, 8].mean() if r.metrics.precision.shape[1] > 8 else math.nan
    ms = "" if math.isnan(r.ms) else f"{r.ms:.1f}"
    return (
        f"| {r.net} | {r.feature} | {r.width} | {measured_map:.1f} | {_text(published_map, '.1f')} "
        f"| {difference} | {r.metrics.anmrr:.3f} | {_text(anmrr, '.3f')} | {ten:.3f} | {ms} |"
    )


def _classes(rows: Sequence[Row]) -> list[str]:
    """mAP by class of each feature, percent."""
    heads = [f"{r.net} {r.feature}" for r in rows]
    lines = [f"| class | {' | '.join(heads)} |", "|---|" + "---:|" * len(rows)]
    for name in rows[0].metrics.by_class:
        row = [f"{100 * r.metrics.by_class[name].mean_ap:.1f}" for r in rows]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return lines


def _beyond(beyond: Sequence[Option]) -> list[str]:
    lines = [
        "| option | length | mAP % | gain | ANMRR | gain | ms an image |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for o in beyond:
        gain = 100 * (o.metrics.mean_ap - o.base.mean_ap)
        less = o.metrics.anmrr - o.base.anmrr
        ms = "" if math.isnan(o.ms) else f"{o.ms:.1f}"
        lines.append(
            f"| {o.name} | {o.width} | {100 * o.metrics.mean_ap:.1f} | {gain:+.1f} "
            f"| {o.metrics.anmrr:.3f} | {less:+.3f} | {ms} |"
        )
    return lines


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
