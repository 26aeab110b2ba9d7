"""The results on frozen backbones as a page of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from geopipe.files import atomic_file

_DOMAINS = {"target": "other scenes", "shifted": "another sensor"}
_STAGES = {"sure": "before retrieval", "confirmed": "after retrieval", "kept": "thinned out, kept"}
_INTRO = (
    "Target: the crops of GID that share no pixels with a source crop (167 of 386 do, and are left "
    "out), two cells of 56 px each, patches of 56, 112 and 224 px. Source: crops of the five "
    "classes, up to 55 of each to learn from and 15 held out. Crops that share pixels lie on one "
    "side of every cut. A logistic regression on features that nothing was trained on here; "
    "features are not augmented. Methods look at one half of the target's crops, without labels; "
    "figures are of the other half, over cells, not pixels: they cannot be compared with those of "
    "README.md. *Another sensor* is simulated: gamma, gains, blur, half the resolution, noise.",
    "*Balanced*: the mean of the recalls, classes drawn alike. *Mixes*: 30 class mixes of a "
    "Dirichlet distribution in which all are as likely; crops are drawn by a mix, with "
    "replacement, and its accuracy is the mean of the recalls by its shares. Mean ± standard "
    "deviation over the seeds; worst: the worst mix of the worst seed.",
)


def write_page(path: Path, tables: dict[str, Any]) -> None:
    """Write the results of `reproduce.gid.frozen` to `path`."""
    seeds = tables["tables"]
    lines = [
        "# Frozen backbones, and adaptation without labels, on the clean split",
        "",
        f"`{tables['command']}` (`make reproduce-gid`); {tables['machine']}; "
        f"{tables['software']}; seeds {', '.join(map(str, tables['seeds']))}.",
    ]
    for paragraph in _INTRO:
        lines += ["", paragraph]
    cells = tables["cells"]
    lines += ["", "Cells by class (built-up, farmland, forest, meadow, water):", ""]
    lines += _table(["", "cells"], ([k, ", ".join(map(str, v))] for k, v in cells.items()))
    lines += ["", "## Features", "", "Balanced accuracy without adaptation, percent.", ""]
    lines += _table(
        ["", "held-out source", *_DOMAINS.values()],
        (
            [kind, *(_text(s["backbones"][kind][k] for s in seeds) for k in _KEYS)]
            for kind in seeds[0]["backbones"]
        ),
    )
    worlds = [part for part in seeds[0] if " | " in part]
    for world in worlds:
        kind, name = world.split(" | ")
        lines += ["", f"## {_DOMAINS[name].capitalize()}, {kind}", ""]
        lines += adaptation_table([s[world]["adaptation"] for s in seeds])
    lines += ["", "## Baker Lake, 0.5 m", ""]
    lines += [
        "An aerial image of 140 x 170 m with cells of 28 px, far from anything at 4 m. Classes: "
        "built-up (roads and buildings), water, and all vegetation as one. Percent of the "
        f"{sum(cells['aerial'])} labelled cells; so few, all in one image, tell little.",
        "",
    ]
    kinds = list(seeds[0]["aerial"])
    lines += _table(
        ["", *kinds],
        (
            [method, *(_text(s["aerial"][kind][method] for s in seeds) for kind in kinds)]
            for method in seeds[0]["aerial"][kinds[0]]
        ),
    )
    lines += ["", "## Pseudo-labels that are right, percent", ""]
    lines += _table(
        ["", *_STAGES.values()],
        (
            [
                ", ".join((world.split(" | ")[0], _DOMAINS[world.split(" | ")[1]])),
                *(
                    _precision([s[world]["precision"][stage]["all"] for s in seeds])
                    for stage in _STAGES
                ),
            ]
            for world in worlds
        ),
    )
    with atomic_file(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


_KEYS = ("held-out source", *_DOMAINS)


def adaptation_table(seeds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A row per method: of each seed's accuracies, means, the worst, and gains over "none"."""
    head = ["", "balanced", "mixes, mean", "mixes, worst", "gain, mean", "worst gain"]
    rows = []
    for method in seeds[0]:
        means = [statistics.mean(s[method]["mixes"]) for s in seeds]
        gains = [
            [a - b for a, b in zip(s[method]["mixes"], s["none"]["mixes"], strict=True)]
            for s in seeds
        ]
        rows.append(
            [
                method,
                _text(s[method]["balanced"] for s in seeds),
                _text(means),
                f"{min(min(s[method]['mixes']) for s in seeds):.1f}",
                _text(statistics.mean(g) for g in gains),
                f"{min(map(min, gains)):.1f}",
            ]
        )
    yield from _table(head, rows)


def _precision(seeds: Sequence[dict[str, Any]]) -> str:
    shares = [100 * s["precision"] for s in seeds if s["precision"] is not None]
    count = statistics.mean(s["samples"] for s in seeds)
    return f"{_text(shares)} of {count:.0f}" if shares else "none"


def _text(values: Iterable[float]) -> str:
    known = list(values)
    mean = f"{statistics.mean(known):.1f}"
    return f"{mean} ± {statistics.stdev(known):.1f}" if len(known) > 1 else mean


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
