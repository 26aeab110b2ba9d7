"""Ask about a target: wrong decisions of simulated audits, and accuracy by number of answers.

    python -m reproduce.gid.ask

Features of a frozen backbone, computed once and kept in ``outputs/reproduce/gid/ask``. The old
model is a last layer fitted to source crops; the adapted one learnt its own pseudo-labels. Target
crops that share pixels with the source are left out. Half of the others is asked about, accuracy is
that of the cells of the other half. Answers are the labels. Writes ``docs/results/gid/ask.json``
and ``ask.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.classes import IGNORE
from geopipe.learn.ask import (
    Choice,
    Head,
    HeadPlan,
    TestPlan,
    decide,
    draw_disagreements,
    rank_by_gain,
    refit,
)
from geopipe.learn.patches import embed
from geopipe.learn.patches.model import PatchModelSpec
from geopipe.learn.transfer import SourceSamples, TargetSamples, TransferPlan, select
from reproduce.facts import facts
from reproduce.gid import data
from reproduce.gid.overlap import shared_with_source

OUT = Path("outputs/reproduce/gid/ask")
RESULTS = Path("docs/results/gid")
CROPS = 35
"""Source crops of a class."""
ANSWERS = (0, 10, 20, 40, 80)
FIRST = 40
"""Questions that decide; the others are ranked by gain."""
AUDITS = 1000
POPULATIONS = (60, 300, 1500)
"""Places where two simulated models disagree."""
WIN_RATES = (0.35, 0.45, 0.5, 0.55, 0.65, 0.75)
"""Share of them at which the adapted one is right, of those at which one is."""
NEITHER = 0.2
"""Share of them at which both are wrong."""
MOST = 80
"""Answers of an audit."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Features, class ids and positions of cells."""

    features: np.ndarray
    ids: np.ndarray
    positions: np.ndarray

    def subset(self, rows: np.ndarray) -> Samples:
        """Those with these indices, or where this mask is true."""
        return Samples(self.features[rows], self.ids[rows], self.positions[rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description="questions about a target")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--audits", type=int, default=AUDITS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    tables: dict[str, Any] = facts("python -m reproduce.gid.ask")
    tables["simulated"] = simulated_audits(args.audits)
    source, target = samples(args.out)
    tables["cells"] = {"source": len(source.ids), "target": len(target.ids)}
    tables["seeds"] = []
    for seed in args.seeds:
        print(f"seed {seed}", flush=True)
        tables["seeds"].append(accuracies(source, target, seed, args.audits))
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "ask.json").write_text(json.dumps(tables, indent=1) + "\n")
    (args.results / "ask.md").write_text(page(tables))


# -- audits of simulated models


def simulated_audits(count: int) -> list[dict[str, Any]]:
    """Rates of wrong decisions, for models whose places of success cluster in strata, or do not."""
    rows = []
    for population in POPULATIONS:
        for rate in WIN_RATES:
            for clustered in (False, True):
                figures = [
                    _audit(population, rate, clustered, np.random.default_rng([seed, population]))
                    for seed in range(count)
                ]
                rows.append(
                    {
                        "population": population,
                        "win_rate": rate,
                        "clustered": clustered,
                        **summary(figures),
                    }
                )
    return rows


def _audit(
    population: int, rate: float, clustered: bool, rng: np.random.Generator
) -> tuple[Choice, int, int]:
    """What an audit chose, after how many answers, and the sign of the truth."""
    decided = population - round(NEITHER * population)
    wins = round(rate * decided)
    outcomes = np.repeat([1, -1, 0], [wins, decided - wins, population - decided])
    if not clustered:
        rng.shuffle(outcomes)
    strata = np.array_split(np.roll(outcomes, rng.integers(population)), min(MOST, population))
    draws = np.array([rng.choice(s) for s in strata])
    decision = decide(rng.permutation(draws), population, 0.2, TestPlan(), forecast=False)
    return decision.choice, decision.used, int(np.sign(outcomes.sum()))


def summary(figures: Sequence[tuple[Choice, int, int]]) -> dict[str, float]:
    """Shares in percent, and the mean number of answers."""
    wrong = [
        (choice is Choice.ADAPTED and truth <= 0) or (choice is Choice.OLD and truth >= 0)
        for choice, _, truth in figures
    ]
    choices = [choice for choice, _, _ in figures]
    return {
        "wrong": 100 * float(np.mean(wrong)),
        "undecided": 100 * float(np.mean([c is Choice.UNDECIDED for c in choices])),
        "answers": float(np.mean([used for _, used, _ in figures])),
    }


# -- crops


def samples(out: Path) -> tuple[Samples, Samples]:
    """Cells of source crops, as many of each class, and of target crops of other scenes."""
    gid = data.data_folder("gid")
    shared = shared_with_source(gid)
    target = data.crops(gid / "target" / "image", gid / "target" / "label", shared)
    source = data.crops(gid / "source" / "image", gid / "source" / "label")
    chosen = data.balanced(data.folders(source), np.arange(len(source.rasters)), CROPS, 0)
    source = data.of_rasters(source, chosen)
    model = PatchModelSpec(cell=data.CELL, gsd=data.GSD).model(data.scheme())
    both = []
    for patches in (source, target):
        seen = embed(model, "lite0", patches, cache=out / "cache")
        labelled = patches.ids != IGNORE
        both.append(
            Samples(
                seen.features[labelled],
                patches.ids[labelled].astype(np.int64),
                patches.positions[labelled],
            )
        )
    return both[0], both[1]


def accuracies(source: Samples, target: Samples, seed: int, audits: int) -> dict[str, Any]:
    """Accuracy on the other half of the target by number of answers and way to choose them."""
    rng = np.random.default_rng(seed)
    crops = rng.permutation(np.unique(target.positions[:, 0]))
    is_pool = np.isin(target.positions[:, 0], crops[: len(crops) // 2])
    pool, test = target.subset(is_pool), target.subset(~is_pool)
    classes = len(data.scheme())
    empty = Head(
        np.zeros((classes, source.features.shape[1]), np.float32), np.zeros(classes, np.float32)
    )
    known = source.features, source.ids
    old = refit(empty, known, known, HeadPlan(half=0))
    adapted = _adapted(old, source, pool, rng, seed)

    def accuracy(head: Head) -> float:
        return 100 * float((head.probabilities(test.features).argmax(1) == test.ids).mean())

    def learnt(head: Head, rows: np.ndarray) -> float:
        return accuracy(refit(head, known, (pool.features[rows], pool.ids[rows])))

    predictions = [h.probabilities(pool.features).argmax(1) for h in (old, adapted)]
    differ = int((predictions[0] != predictions[1]).sum())
    outcomes = (predictions[1] == pool.ids).astype(int) - (predictions[0] == pool.ids)

    def audit(number: int) -> tuple[Choice, int, int]:
        drawn = draw_disagreements(predictions[0], predictions[1], pool.positions, MOST, number)
        decision = decide(
            outcomes[drawn], differ, differ / len(pool.ids), TestPlan(), forecast=False
        )
        return decision.choice, decision.used, int(np.sign(outcomes.sum()))

    rows: dict[str, list[float]] = {"random places": [], "as geopipe asks": [], "ranked only": []}
    for count in ANSWERS:
        if not count:
            for values in rows.values():
                values.append(accuracy(old))
            continue
        draws = [rng.permutation(len(pool.ids))[:count] for _ in range(5)]
        rows["random places"].append(float(np.mean([learnt(old, d) for d in draws])))
        ranked, _ = rank_by_gain(pool.features, old.probabilities(pool.features), count, seed)
        rows["ranked only"].append(learnt(old, ranked))
        rows["as geopipe asks"].append(
            learnt(*_conversation(pool, known, (old, adapted), count, seed))
        )
    every = np.arange(len(pool.ids))
    oracle = refit(old, known, (pool.features[every], pool.ids[every]), HeadPlan(0.9, 0))
    return {
        "seed": seed,
        "old": accuracy(old),
        "adapted": accuracy(adapted),
        "oracle": accuracy(oracle),
        "disagreements": differ,
        "pool": len(pool.ids),
        "true_gain": 100 * float(outcomes.sum()) / len(pool.ids),
        "audits": summary([audit(n) for n in range(audits)]),
        "accuracy": rows,
    }


def _adapted(
    old: Head, source: Samples, pool: Samples, rng: np.random.Generator, seed: int
) -> Head:
    """The old head fitted to its own pseudo-labels of the pool, both stages of Tong et al."""
    held_out = np.isin(
        source.positions[:, 0], rng.permutation(np.unique(source.positions[:, 0]))[:CROPS]
    )
    selection = select(
        SourceSamples(source.features, old.probabilities(source.features), source.ids, held_out),
        TargetSamples(pool.features, old.probabilities(pool.features), pool.positions),
        TransferPlan(seed=seed),
    )
    rows = selection.selected
    pseudo = pool.features[rows], selection.labels[rows].astype(np.int64)
    return refit(old, (source.features, source.ids), pseudo)


def _conversation(
    pool: Samples,
    known: tuple[np.ndarray, np.ndarray],
    heads: tuple[Head, Head],
    count: int,
    seed: int,
) -> tuple[Head, np.ndarray]:
    """The head that is kept, and the places asked about: first to decide, then to learn."""
    predictions = [h.probabilities(pool.features).argmax(1) for h in heads]
    first = draw_disagreements(
        predictions[0], predictions[1], pool.positions, min(count, FIRST), seed
    )
    outcomes = (predictions[1] == pool.ids).astype(int) - (predictions[0] == pool.ids)
    differ = int((predictions[0] != predictions[1]).sum())
    decision = decide(outcomes[first], differ, differ / len(pool.ids), forecast=False)
    kept = heads[1] if decision.choice is Choice.ADAPTED else heads[0]
    if len(first) == count:
        return kept, first
    so_far = refit(kept, known, (pool.features[first], pool.ids[first]))
    more, _ = rank_by_gain(
        pool.features, so_far.probabilities(pool.features), count - len(first), seed, first
    )
    return kept, np.concatenate([first, more])


# -- the page


def page(tables: dict[str, Any]) -> str:
    """The results as Markdown."""
    seeds = tables["seeds"]
    worst = max(r["wrong"] for r in tables["simulated"])
    lines = [
        "# Questions about a target",
        "",
        "## Audits of simulated models",
        "",
        f"{len(tables['simulated'])} kinds of audits, {AUDITS} of each, of at most {MOST}",
        f"answers; at {100 * NEITHER:.0f} % of the places neither model is right, and the models",
        "disagree on 20 % of the target. Clustered: what is right depends on the stratum.",
        "",
        "| places | adapted is right at | clustered | wrong % | undecided % | answers |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r['population']} | {100 * r['win_rate']:.0f} % | {'yes' if r['clustered'] else 'no'} |"
        f" {r['wrong']:.1f} | {r['undecided']:.1f} | {r['answers']:.0f} |"
        for r in tables["simulated"]
    ]
    lines += [
        "",
        f"The largest rate of wrong decisions is {worst:.1f} %.",
        "",
        "## Crops of the Gaofen Image Dataset",
        "",
        f"Frozen EfficientNet-Lite0, {CROPS} source crops a class; {tables['cells']['target']}",
        "labelled cells of target crops that share no pixel with the source, half of them asked",
        "about, the other half tested. Overall accuracy of cells, mean of the seeds",
        f"{', '.join(str(s['seed']) for s in seeds)}. As geopipe asks: up to {FIRST} places where",
        "the models disagree, which decide between them, then places ranked by expected gain.",
        "",
        "| answers | " + " | ".join(map(str, ANSWERS)) + " | all cells of the half (oracle) |",
        "|---|" + "---:|" * (len(ANSWERS) + 1),
    ]
    oracle = np.mean([s["oracle"] for s in seeds])
    for name in seeds[0]["accuracy"]:
        means = np.mean([s["accuracy"][name] for s in seeds], axis=0)
        lines.append(f"| {name} | " + " | ".join(f"{m:.1f}" for m in means) + f" | {oracle:.1f} |")
    lines += [
        "",
        f"Audits of the real pair of models, {AUDITS} each:",
        "",
        "| seed | old | adapted | disagree on | true gain | wrong % | undecided % | answers |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {s['seed']} | {s['old']:.1f} | {s['adapted']:.1f} |"
        f" {s['disagreements']} of {s['pool']} |"
        f" {s['true_gain']:+.1f} | {s['audits']['wrong']:.1f} | {s['audits']['undecided']:.1f} |"
        f" {s['audits']['answers']:.0f} |"
        for s in seeds
    ]
    return "\n".join([*lines, "", f"Made by `{tables['command']}`.", ""])


if __name__ == "__main__":
    main()
