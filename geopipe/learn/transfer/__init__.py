"""Unsupervised domain adaptation with pseudo-labels: select target samples, or abstain."""

from geopipe.learn.transfer.evidence import AbstainThresholds, Evidence, Interval
from geopipe.learn.transfer.gain import estimate_gain
from geopipe.learn.transfer.plan import SampleStatus, TransferPlan
from geopipe.learn.transfer.samples import SourceSamples, TargetSamples, standardized
from geopipe.learn.transfer.selection import Selection, select

__all__ = [
    "AbstainThresholds",
    "Evidence",
    "Interval",
    "SampleStatus",
    "Selection",
    "SourceSamples",
    "TargetSamples",
    "TransferPlan",
    "estimate_gain",
    "select",
    "standardized",
]
