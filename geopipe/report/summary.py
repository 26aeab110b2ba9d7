"""Results of a workflow as parts of its report."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from geopipe.evaluation.raster_objects import ObjectCounts
from geopipe.learn.loop import TrainingHistory
from geopipe.metrics import Metrics
from geopipe.report.map_report import Curve


def methods(steps: Sequence[Metrics], names: tuple[str, str]) -> tuple[tuple[str, Metrics], ...]:
    """The base network and, if there was an accurate tile, what it became; with their names."""
    first, *later = steps
    return ((names[0], first), (names[1], later[-1])) if later else ((names[0], first),)


Objects = Mapping[str, ObjectCounts]
"""Class name -> its objects in the truth and in the map."""


def summary_text(
    steps: Sequence[Metrics], names: tuple[str, str], objects: Objects = MappingProxyType({})
) -> tuple[str, ...]:
    """Sentences for those who read no table; `names` as above."""
    if not steps:
        return ("No test scene was given, so how good the map is remains unknown.",)
    first, last = steps[0], steps[-1]
    sentences = []
    for k, name in list(enumerate(last.names))[1:]:
        if len(steps) == 1:
            sentences.append(f"The IoU of {name} on the test scene: {_percent(last.iou[k])}.")
            continue
        change = 100 * (last.iou[k] - first.iou[k])
        verb = "rises" if change >= 0 else "falls"
        sentences.append(
            f"With the accurate tile, the IoU of {name} on the test scene {verb} from "
            f"{_percent(first.iou[k])} to {_percent(last.iou[k])}."
        )
    for name, counts in objects.items():
        sentences.append(
            f"The map finds {counts.matched} of {counts.truth} areas of {name} (IoU above 0.5) and "
            f"shows {counts.mapped}."
        )
    return tuple(sentences)


def lead_table(
    steps: Sequence[Metrics], names: tuple[str, str], objects: Objects
) -> tuple[tuple[str, ...], ...]:
    """Each class with what matters most: IoU by method, and its objects."""
    if not steps:
        return ()
    shown = [(f"IoU {name}", metrics) for name, metrics in methods(steps, names)]
    last = steps[-1]
    head = [
        "class",
        *(title for title, _ in shown),
        "user's accuracy",
        "producer's accuracy",
    ]
    if objects:
        head += ["mapped", "in the truth", "found"]
    rows = [tuple(head)]
    for k, name in enumerate(last.names):
        row = [name, *(_percent(metrics.iou[k]) for _, metrics in shown)]
        row += [_percent(last.users_accuracy[k]), _percent(last.producers_accuracy[k])]
        if objects:
            counts = objects.get(name)
            row += (
                [str(counts.mapped), str(counts.truth), str(counts.matched)] if counts else [""] * 3
            )
        rows.append(tuple(row))
    return tuple(rows)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def curves(records: Mapping[str, TrainingHistory], *, tile_apart: bool) -> tuple[Curve, ...]:
    """Loss of each training and, where it was looked at, its mean IoU meanwhile.

    `tile_apart`: whether the accurate tile is no part of the scene that the base network learns.
    """
    where = "which it does not learn from" if tile_apart else "a part of the training scene"
    charts = []
    for name, record in records.items():
        xs = tuple(float(s) for s in record.steps)
        loss = Curve(
            f"Training the {name}: loss",
            "steps",
            "cross-entropy",
            ((name, xs, tuple(record.losses)),),
        )
        charts.append(loss)
        if record.checks:
            steps, scores = zip(*record.checks, strict=True)
            line = (name, tuple(float(s) for s in steps), tuple(100 * s for s in scores))
            title = f"Training the {name}: mean IoU on the accurate tile, {where}"
            charts.append(Curve(title, "steps", "%", (line,)))
    return tuple(charts)
