"""TiePoint: an estimate of the shift of one class at one position."""

from dataclasses import dataclass

FEW, EDGE, FLAT, TORN, ODD, CHANCE = (
    "too few features",
    "best at the edge of the search",
    "no clear best displacement",
    "halves of the evidence disagree",
    "unlike its neighbours",
    "too few estimates around are accepted",
)


@dataclass(frozen=True)
class TiePoint:
    """An estimate at one place for one class; metres on the ground, down and right positive."""

    row: float
    col: float
    class_id: int
    down: float
    """What has to be added to the labels' position to fit the image."""
    right: float
    error: float
    """Half the distance between the estimates of two halves of the evidence."""
    height: float
    """Of the peak, in deviations of its surface."""
    weight: float
    """Sum of the weights."""
    rejected: str = ""
    """Why nothing is accepted here; empty when it is."""
