"""The results as a page of Markdown: our figures beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geopipe.metrics import Metrics
from reproduce.facts import mean_std_text
from reproduce.maggiori.methods import BEYOND, METHODS
from reproduce.maggiori.sensitivity import CASES

SHOWN = ("cnn", "crf", "agnostic", "rnn", "crf-shares", "unet-tuned", "forest-accurate")
"""The methods whose maps are drawn."""
_TITLES = {
    "forez": "Forez, simulated: buildings and roads",
    "banepa": "Banepa (Nepal), real pixels: buildings",
}


def write_page(path: Path, tables: dict[str, Any]) -> None:
    """Write `tables`, as `run` makes them, to `path`."""
    lines = [
        "# Maggiori et al. 2017, section IV, and what one would do without it",
        "",
        f"`{tables['command']}` (`make reproduce-maggiori`); {tables['machine']}; "
        f"{tables['software']}; seeds {', '.join(map(str, tables['seeds']))}.",
        "",
        "Judged on the test scene, which no step saw; mean ± standard deviation over the seeds, in "
        "percent. The paper's column: its Pléiades test tile (Fig. 7a), other images than ours, so "
        "the order of the methods can be compared and the figures cannot. Ours train for fewer "
        "steps (a CPU): 1200 of the CNN, 1500 of the refinement (800 at Banepa) where the paper "
        "has 50,000. Methods and seeds that a table lacks were not run yet.",
    ]
    for name, site in tables["sites"].items():
        lines += ["", f"## {_TITLES.get(name, name)}", "", *_site(name, site)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _site(name: str, site: dict[str, Any]) -> Iterator[str]:
    runs = {
        m: [tuple(Metrics.from_dict(t) for t in run["test"]) for run in of_seeds]
        for m, of_seeds in site["methods"].items()
    }
    yield from _methods({m: [steps[-1] for steps in r] for m, r in runs.items() if m != "beyond"})
    yield from ("", f"![Iterations]({name}/iterations.png)", "")
    longest = "beyond" if "beyond" in runs else "rnn"
    yield from _iterations({m: runs[m] for m in ("agnostic", longest, "unshared") if m in runs})
    yield from _overfitting(site)
    if site["cases"]:
        cases = {c: [Metrics.from_dict(t) for t in ts] for c, ts in site["cases"].items()}
        yield from _sensitivity(cases, runs["rnn"][0])
    yield from _filters(site.get("filters") or {})
    for file, caption in (
        ("classes", "IoU of each class"),
        ("maps", "Maps of what is judged, first seed"),
        ("close-ups", "Close-ups"),
        ("fuzzy", "Probability of a class after each iteration"),
        ("filters", "Filters of the refinement"),
        ("responses", "What some of them respond to"),
    ):
        yield from ("", f"![{caption}]({name}/{file}.png)")


def _methods(finals: dict[str, list[Metrics]]) -> Iterator[str]:
    names = next(iter(finals.values()))[0].names
    classes = " | ".join(f"IoU {n}" for n in names)
    yield f"| method | seeds | OA | mean IoU | {classes} | paper: OA, mean IoU |"
    yield "|---|" + "---:|" * (len(names) + 4)
    for m, final_metrics in finals.items():
        row = [
            f"{len(final_metrics)}",
            mean_std_text([x.overall_accuracy for x in final_metrics]),
            mean_std_text([x.mean_iou for x in final_metrics]),
            *(mean_std_text([x.iou[k] for x in final_metrics]) for k in range(len(names))),
            ", ".join(f"{x:.2f}" for x in METHODS[m].paper[:2]),
        ]
        yield f"| {METHODS[m].name} | " + " | ".join(row) + " |"


def _iterations(runs: dict[str, list[tuple[Metrics, ...]]]) -> Iterator[str]:
    max_iterations = max((len(of_seeds[0]) for of_seeds in runs.values()), default=0)
    steps = [t for t in (*range(6), 8, 10, BEYOND) if t < max_iterations]
    yield "Mean IoU after each iteration; trained for five, run on beyond:"
    yield ""
    yield "| method | " + " | ".join(map(str, steps)) + " |"
    yield "|---|" + "---:|" * len(steps)
    for m, of_seeds in runs.items():
        row = [
            mean_std_text([r[t].mean_iou for r in of_seeds]) if t < len(of_seeds[0]) else ""
            for t in steps
        ]
        yield f"| {METHODS[m].name} | " + " | ".join(row) + " |"


def _overfitting(site: dict[str, Any]) -> Iterator[str]:
    yield from ("", "On the tile that the refinement is trained on, and on the test scene:", "")
    yield "| method | mean IoU, trained on | mean IoU, test | difference |"
    yield "|---|---:|---:|---:|"
    for m in ("rnn", "agnostic", "unshared"):
        runs = site["methods"].get(m, ())
        if not runs:
            continue
        tile, test = (
            [Metrics.from_dict(r[k][-1]).mean_iou for r in runs] for k in ("tile", "test")
        )
        gaps = [a - b for a, b in zip(tile, test, strict=True)]
        cells = " | ".join(mean_std_text(x) for x in (tile, test, gaps))
        yield f"| {METHODS[m].name} | {cells} |"


def _sensitivity(cases: dict[str, list[Metrics]], usual: Sequence[Metrics]) -> Iterator[str]:
    yield from ("", "What the result depends on (first seed only):", "")
    yield "| | CNN | CNN+RNN | OA |"
    yield "|---|---:|---:|---:|"
    for label, steps in (("as above", usual), *((CASES[c].name, s) for c, s in cases.items())):
        first, last = steps[0], steps[-1]
        yield (
            f"| {label} | {100 * first.mean_iou:.1f} | {100 * last.mean_iou:.1f} | "
            f"{100 * last.overall_accuracy:.1f} |"
        )


def _filters(results: dict[str, Any]) -> Iterator[str]:
    if not results:
        return
    learned, untrained = results["learned"], results["untrained"]

    def shares(values: dict[str, Any]) -> str:
        pairs = zip(results["classes"], values["response_like"], strict=True)
        return ", ".join(f"{name} {100 * share:.0f} %" for name, share in pairs)

    yield from ("", "Filters M_i (seed 0) that act as oriented derivatives:")
    yield (
        f"by their weights {100 * learned['like']:.0f} % (untrained {100 * untrained['like']:.0f} "
        f"%); by their response to the CNN's score maps {shares(learned)} (untrained "
        f"{shares(untrained)})."
    )
