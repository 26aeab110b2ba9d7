"""The figures as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = {
    "limit": "nets alone, tuned (the limit)",
    "geopipe": "**geopipe map**",
    "geopipe-1-worker": "geopipe map --workers 1, one thread",
    "geopipe-2-workers": "geopipe map --workers 2, one thread each",
    "tuned": "rasterio loop, tuned",
    "tuned-threads": "rasterio loop, tuned, a window on each core",
    "plain": "rasterio loop, plain",
    "dask": "rioxarray + dask.array.map_overlap",
    "torchgeo": "torchgeo GridGeoSampler",
    "as-written": "refinement as written, argmax",
}


def markdown(figures: Mapping[str, Any]) -> str:
    """Targets first, then a table per scene, then what it was measured on."""
    lines = ["# Speed and memory", "", f"`{figures['command']}`, {figures['date']}", ""]
    lines += machine(figures)
    lines += ["## Targets", "", *targets(figures["targets"])]
    for size, scene in figures["sizes"].items():
        lines += ["", f"## {int(size):,} x {int(size):,} px", "", *table(scene)]
    lines += ["", NOTES]
    if figures["skipped"]:
        lines += ["", "Left out:", ""]
        lines += [f"- {name}: {reason}" for name, reason in figures["skipped"].items()]
    lines += ["", "## Load", "", *rounds(figures["rounds"])]
    return "\n".join(lines) + "\n"


NOTES = """\
Loop: seconds with the model loaded and warmed up, median of the rounds (lowest-highest). Wall: the
whole process. x limit, x geopipe: ratios of loops within a round, their median. RSS: highest sum
over all processes. Equal: share of pixels with geopipe's class. A star: measured on a part of the
scene and scaled."""


def machine(figures: Mapping[str, Any]) -> list[str]:
    """One paragraph."""
    m = figures["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in figures["versions"].items())
    trained = "trained" if figures["model"]["trained"] else "untrained"
    return [
        f"{m['cpu']}, {m['cores']} cores, {m['ram_gb']} GB; {m['system']}, Python {m['python']}; "
        f"{versions}. {trained.capitalize()} model; alternating rounds: {figures['repeats']}.",
        "",
    ]


def targets(rows: list[Mapping[str, Any]]) -> list[str]:
    """Wanted, measured, met."""
    status_text = {True: "yes", False: "**no**", None: "not measured"}
    lines = ["| target | wanted | measured | met | at |", "|---|---:|---:|---|---|"]
    for row in rows:
        measured = "" if row["measured"] is None else f"{row['measured']:g}"
        if row["spread"]:
            measured += f" ({row['spread'][0]:g}-{row['spread'][1]:g})"
        lines.append(
            f"| {row['name']} | {row['wanted']} | {measured} | {status_text[row['met']]} | "
            f"{row['at']} |"
        )
    return lines


def table(scene: Mapping[str, Any]) -> list[str]:
    """One row a runner, the fastest first."""
    lines = [
        "| runner | loop s | wall s | Mpx/s | x limit | x geopipe | RSS MB | PSS MB | equal |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    runners = scene["runners"]
    for name in sorted(runners, key=lambda n: runners[n]["median_seconds"]):
        r = runners[name]
        star = " *" if "scaled_from_pixels" in r else ""
        row = [
            LABELS.get(name, name),
            f"{r['median_seconds']:.2f} ({min(r['seconds']):.2f}-{max(r['seconds']):.2f}){star}",
            "" if star else f"{r['median_wall_seconds']:.1f}",
            f"{r['megapixels_per_second']:.2f}",
            *(_ratio(r[f"ratio_to_{other}"]) for other in ("limit", "geopipe")),
            str(r["peak_rss_mb"]),
            "" if r["peak_pss_mb"] is None else str(r["peak_pss_mb"]),
            "" if r["equal_to_geopipe"] is None else f"{100 * r['equal_to_geopipe']:.4f} %",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _ratio(value: Mapping[str, float] | None) -> str:
    return f"{value['median']:.2f}" if value else ""


def rounds(rows: list[Mapping[str, Any]]) -> list[str]:
    """How busy the machine was, our own runs included, and what its host took away."""
    keys = ("size", "round", "load_before", "load_after", "stolen_seconds")
    lines = ["| px | round | load before | after | stolen s |", "|---:|---:|---:|---:|---:|"]
    return lines + [f"| {' | '.join(str(row[key]) for key in keys)} |" for row in rows]
