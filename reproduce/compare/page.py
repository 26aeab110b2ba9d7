"""The figures as Markdown."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduce.compare.buildings import FDRS
from reproduce.compare.plant import ADDED, DELETED, FALSE_SHARE, GSD, MISSED, OVERSTATED, SHIFTED

FIGURES = ("expected_false", "false_share", "unmatched_share", "recall")


def page(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    runs, roads = figures["buildings"], figures["roads"]
    lines = [
        "# Planted edits, and how `geopipe compare` finds them",
        "",
        f"`{figures['command']}`; {figures['software']}. Mean over {len(roads)} seeds.",
        "",
        "**Not of a trained map**, but for one section: the map is the true building block of "
        f"Banepa (its OSM), drawn at {GSD:g} m and spoilt: "
        f"{100 * MISSED:.0f} % of the buildings are missing and "
        f"{100 * FALSE_SHARE:.0f} % of what it shows is false. Each object has a probability that "
        "is right by construction (*calibrated*), or its log odds divided by "
        f"{OVERSTATED:g} (*too sure*). `write_features` makes footprints of it, which join and "
        "divide the rows of the old town as they do for any map. The reference is the truth "
        f"without {100 * DELETED:.0f} % of the buildings, with {100 * ADDED:.0f} % that are not "
        f"there, {100 * SHIFTED:.0f} % shifted by 3 to 6 m each, and all of it shifted by a smooth "
        "field of 1 to 4 m.",
        "",
        "## Only in the image, against `--fdr`",
        "",
        "False: share of the reported buildings that are not real, which is what fdr bounds. "
        "In OSM: share that the reference has, where the match failed. "
        "Recall: share of the deleted buildings that the map shows. Expected: the share that "
        "compare computes.",
        "",
        "| scores | calibrated on | fdr | reported | expected | false | in OSM | recall |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    keys = dict.fromkeys((r["scores"], r["calibrated_on"], r["fdr"]) for r in runs)
    for scores, how, fdr in keys:
        rows = [
            r for r in runs if (r["scores"], r["calibrated_on"], r["fdr"]) == (scores, how, fdr)
        ]
        means = [_mean(rows, k) for k in FIGURES]
        reported = np.mean([r["reported"] for r in rows])
        cells = " | ".join("-" if m is None else f"{m:.3f}" for m in means)
        lines.append(f"| {scores} | {how} | {fdr:g} | {reported:.0f} | {cells} |")
    every = [r for r in runs if r["fdr"] == FDRS[0]]
    lines += [
        "",
        f"Without any threshold {np.mean([r['candidates'] for r in every]):.0f} buildings are only "
        f"in the image, {_mean(every, 'candidate_false'):.3f} of them false, with a recall of "
        f"{_mean(every, 'candidate_recall'):.3f}: the rest of the deleted buildings became part of "
        "a neighbour's footprint.",
    ]
    lines += _trained(figures["trained"])
    lines += [
        "",
        "## The other edits",
        "",
        "| edit | planted | precision | recall |",
        "|---|---:|---:|---:|",
    ]
    for name, title in (("moved", "shifted buildings"), ("only_osm", "only in OSM")):
        sets = [r[name] for r in every]
        lines.append(_row(title, np.mean([x["planted"] for x in sets]), sets))
    for name, title in (("missing", "roads deleted, km"), ("misplaced", "roads shifted, km")):
        sets = [r[name] for r in roads]
        lines.append(_row(title, np.mean([x["planted_km"] for x in sets]), sets))
    lines += [
        "",
        "Only in OSM are the invented buildings and those that the map misses. Roads: lines of the "
        "simulated map in `sample_tiles`, 15 % deleted and 10 % shifted by 6 to 9 m in the "
        "reference, false ones in the map, fdr 0.1; by length.",
        "",
    ]
    return "\n".join(lines)


def _trained(runs: list[dict[str, Any]]) -> list[str]:
    """The section on a trained map; nothing where there was none."""
    if not runs:
        return []
    seeds = sorted({r["seed"] for r in runs})
    first = [r for r in runs if r["fdr"] == FDRS[0] and r["calibrated_on"] == "the reference"]
    lines = [
        "",
        "## The same with a trained map",
        "",
        "The map of Banepa's test part that `python -m reproduce.real.run --sites banepa "
        "--methods auto --seeds 0` makes: a network that has seen neither this part nor its OSM. "
        "The OSM of the part is edited as above "
        f"({np.mean([r['deleted'] for r in first]):.0f} buildings deleted), with "
        f"{len(seeds)} seeds; figures are of all together. A footprint is false where less than "
        "half of it lies on true buildings. Precision: share of the reported footprints that "
        "lie on a deleted building; recall: share of the deleted ones that have one. Truth: of "
        "the select part beside it, which is not judged.",
        "",
        "| calibrated on | fdr | reported | expected | false | in OSM | precision | recall "
        "| seeds with none |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for how, fdr in dict.fromkeys((r["calibrated_on"], r["fdr"]) for r in runs):
        rows = [r for r in runs if (r["calibrated_on"], r["fdr"]) == (how, fdr)]
        expected = _mean(rows, "expected_false")
        cells = [_pooled([r["reported"] for r in rows], k) for k in ("false", "in_osm", "right")]
        recall = np.mean([r["reported"]["recall"] for r in rows])
        none = sum(r["reported"]["count"] == 0 for r in rows)
        count = np.mean([r["reported"]["count"] for r in rows])
        lines.append(
            f"| {how} | {fdr:g} | {count:.0f} | {'-' if expected is None else f'{expected:.3f}'} "
            f"| {' | '.join(cells)} | {recall:.3f} | {none} |"
        )
    every = [r["candidates"] for r in first]
    lines += [
        "",
        f"Without any threshold {np.mean([r['count'] for r in every]):.0f} buildings are only in "
        f"the image, {_pooled(every, 'false')} of them false and {_pooled(every, 'in_osm')} in "
        f"OSM, with a recall of {np.mean([r['recall'] for r in every]):.3f}: the map joins most "
        "houses of the old town with a neighbour that OSM has.",
    ]
    return lines


def _pooled(rows: list[dict[str, Any]], key: str) -> str:
    """A share of all buildings of several runs."""
    count = sum(r["count"] for r in rows)
    rows = [{"right": r["count"] - r["false"] - r["in_osm"], **r} for r in rows]
    return f"{sum(r[key] for r in rows) / count:.3f}" if count else "-"


def _row(title: str, planted: float, sets: list[dict[str, Any]]) -> str:
    precision, recall = (_mean(sets, k) for k in ("precision", "recall"))
    return f"| {title} | {planted:.3g} | {precision:.3f} | {recall:.3f} |"


def _mean(rows: list[dict[str, Any]], key: str) -> float | None:
    values = [r[key] for r in rows if r[key] is not None]
    return float(np.mean(values)) if values else None
