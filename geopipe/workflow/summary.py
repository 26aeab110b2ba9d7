"""What a workflow found, as parts of its report."""

from collections.abc import Mapping, Sequence

from geopipe.learn.fit import Fitted
from geopipe.score.metrics import Metrics
from geopipe.workflow.report import Curve


def methods(steps: Sequence[Metrics]) -> tuple[tuple[str, Metrics], ...]:
    """The coarse net and, where there is one, its refinement."""
    first, *later = steps
    return (("CNN", first), ("CNN+RNN", later[-1])) if later else (("CNN", first),)


def in_words(steps: Sequence[Metrics]) -> str:
    """One sentence for those who read no table."""
    if not steps:
        return "No test scene was given, so how good the map is remains unknown."
    first, last = 100 * steps[0].mean_iou, 100 * steps[-1].mean_iou
    if len(steps) == 1:
        return f"The coarse CNN reaches {first:.1f} % mean IoU on the test scene."
    verb = "lifts" if last >= first else "lowers"
    return (
        f"The refinement {verb} mean IoU on the test scene from {first:.1f} % (CNN) to "
        f"{last:.1f} % (CNN+RNN), {last - first:+.1f} points."
    )


def curves(records: Mapping[str, Fitted]) -> tuple[Curve, ...]:
    """Loss of each training and, where it was looked at, its mean IoU meanwhile."""
    made = []
    for name, record in records.items():
        xs = tuple(float(s) for s in record.steps)
        loss = Curve(f"Training the {name}: loss", "steps", "cross-entropy", (
            (name, xs, tuple(record.losses)),
        ))  # fmt: skip
        made.append(loss)
        if record.checks:
            steps, scores = zip(*record.checks, strict=True)
            line = (name, tuple(float(s) for s in steps), tuple(100 * s for s in scores))
            title = f"Training the {name}: mean IoU on the enhancement tile, not trained on"
            made.append(Curve(title, "steps", "%", (line,)))
    return tuple(made)
