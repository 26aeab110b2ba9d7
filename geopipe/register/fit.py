"""Find where labels have to go, with no more to go by than the labels and the image."""

from dataclasses import replace

import numpy as np
import shapely

from geopipe.labels import LabelSource, LimitedLabels, VectorLabels
from geopipe.progress import progress
from geopipe.register.belief import QuickLook
from geopipe.register.field import ShiftField, estimate, sheets_of
from geopipe.register.plane import Plane
from geopipe.register.surfaces import Agreement

_TAUGHT = 1 / 3
"""Share of believed estimates from which on labels that were moved teach more than as they are."""


def fit_labels(
    plane: Plane, labels: LabelSource, most: float, seed: int = 0
) -> tuple[ShiftField, QuickLook]:
    """The shifts of `labels`, up to `most` metres, and what the image looks like in the end.

    In two turns: what a class looks like is learnt from the labels as they are, and once more from
    where the first turn moved them. A belief learnt from shifted labels is shifted itself by about
    their mean; on labels that were all off by 4.5 m the second turn left a seventh of the error.
    A class of which most estimates were refused has no second turn: what chance moved would vouch
    for itself. Raises LabelError where a class is too rare to learn what it looks like.
    """
    agreement, sheets = Agreement(plane, plane.px(most)), len(sheets_of(plane))
    with progress("aligning labels", 2 * (1 + sheets)) as advance:
        belief = QuickLook.fit(plane, labels, seed)
        advance()
        first = estimate(agreement, belief, most, advance)
        taught = {k for k in first.classes if len(first.of_class(k)) > _TAUGHT * first.count(k)}
        if not taught:
            advance(1 + sheets)
            return first, belief
        belief = QuickLook.fit(plane, moved_source(labels, first), seed)
        advance()
        second = estimate(agreement, belief, most, advance)
    kept = [n for n in first.nodes if n.class_id not in taught]
    kept += [n for n in second.nodes if n.class_id in taught]
    return replace(second, nodes=tuple(kept)), belief


def moved_source(labels: LabelSource, shifts: ShiftField) -> LabelSource:
    """As `moved_labels`, for labels that may be limited to an area: the area stays."""
    moved = moved_labels(shifts.plane.labels, shifts)
    return LimitedLabels(moved, labels.area) if isinstance(labels, LimitedLabels) else moved


def moved_labels(labels: VectorLabels, shifts: ShiftField) -> VectorLabels:
    """The labels with every vertex moved by the field of its class."""
    shapes, plane = labels.shapes.copy(), shifts.plane
    for class_id in np.unique(labels.ids):
        which = labels.ids == class_id
        xy = shapely.get_coordinates(shapes[which])
        target = plane.to_px(xy)
        target = target + shifts.at(target, int(class_id)) / plane.gsd
        shapes[which] = shapely.set_coordinates(shapes[which], plane.from_px(target))
    return replace(labels, shapes=shapes)
