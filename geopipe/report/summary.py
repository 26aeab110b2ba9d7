"""Results of a workflow as parts of its report."""

from collections.abc import Mapping, Sequence

from geopipe.learn.loop import TrainingHistory
from geopipe.metrics import Metrics
from geopipe.report.map_report import Curve


def methods(steps: Sequence[Metrics], names: tuple[str, str]) -> tuple[tuple[str, Metrics], ...]:
    """The base network and, if there was an accurate tile, what it became; with their names."""
    first, *later = steps
    return ((names[0], first), (names[1], later[-1])) if later else ((names[0], first),)


def summary_text(steps: Sequence[Metrics], names: tuple[str, str]) -> str:
    """One sentence for those who read no table; `names` as above."""
    if not steps:
        return "No test scene was given, so how good the map is remains unknown."
    first, last = 100 * steps[0].mean_iou, 100 * steps[-1].mean_iou
    if len(steps) == 1:
        return f"The {names[0]} reaches {first:.1f} % mean IoU on the test scene."
    verb = "lifts" if last >= first else "lowers"
    return (
        f"The accurate tile {verb} mean IoU on the test scene from {first:.1f} % ({names[0]}) to "
        f"{last:.1f} % ({names[1]}), {last - first:+.1f} points."
    )


def curves(records: Mapping[str, TrainingHistory]) -> tuple[Curve, ...]:
    """Loss of each training and, where it was looked at, its mean IoU meanwhile."""
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
            title = f"Training the {name}: mean IoU on the enhancement tile, not trained on"
            charts.append(Curve(title, "steps", "%", (line,)))
    return tuple(charts)
