"""Sections of a report as data: the page, the JSON and the Markdown show each of them alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geopipe.metrics import Metrics
from geopipe.reliability import Reliability
from geopipe.report.figures import Curve


@dataclass(frozen=True)
class ReportSection:
    """A title, a sentence, charts and a table; what is empty is left out."""

    key: str
    """In the JSON file."""
    title: str
    data: Any
    """The figures as JSON values."""
    note: str = ""
    charts: tuple[Curve, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    """A head, and rows."""


def iterations_section(steps: Sequence[Metrics]) -> ReportSection:
    """The metrics after 0, 1, 2... iterations of the refinement; 0 is the base network alone."""
    classes = steps[0].names
    xs = tuple(float(i) for i in range(len(steps)))

    def line(name: str, shares: list[float]) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
        return name, xs, tuple(100 * x for x in shares)

    accuracy = line("overall accuracy", [m.overall_accuracy for m in steps])
    of_classes = tuple(line(name, [m.iou[k] for m in steps]) for k, name in enumerate(classes))
    charts = (
        Curve("Mean IoU", "iterations", "%", (line("mean IoU", [m.mean_iou for m in steps]),)),
        Curve("Overall accuracy", "iterations", "%", (accuracy,)),
        Curve("IoU of each class", "iterations", "%", of_classes),
    )
    head = ("iterations", "overall accuracy", "mean IoU", *(f"IoU {name}" for name in classes))
    rows = (
        (str(i), *(percent(x) for x in (m.overall_accuracy, m.mean_iou, *m.iou)))
        for i, m in enumerate(steps)
    )
    return ReportSection(
        "iterations",
        "What each iteration of the refinement adds",
        [m.to_dict() for m in steps],
        # A point of accuracy is small beside the IoU of roads.
        "Iteration 0 is the base network alone. Each chart has its own scale.",
        charts,
        (head, *rows),
    )


def reliability_section(reliability: Reliability) -> ReportSection:
    """Accuracy over probability; pixels below the line are less certain than they claim to be."""
    bins = list(reliability.rows())
    series = (
        ("map", tuple(100 * p for _, p, _ in bins), tuple(100 * a for *_, a in bins)),
        ("as it should be", (0.0, 100.0), (0.0, 100.0)),
    )
    rows = ((f"{n:,}", percent(p), percent(a)) for n, p, a in bins)
    return ReportSection(
        "reliability",
        "Reliability of the probabilities",
        reliability.to_dict(),
        "Of the pixels to which the map gives a probability of 80 %, 80 in 100 should be right. "
        f"Expected calibration error: {percent(reliability.ece)} %.",
        (Curve("Reliability", "mean probability, %", "right, %", series),),
        (("pixels", "mean probability", "right"), *rows),
    )


def percent(share: float) -> str:
    """0.5 as 50.00; NaN as a dash."""
    return "–" if math.isnan(share) else f"{100 * share:.2f}"
