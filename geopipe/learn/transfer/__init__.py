"""Transfer to a new domain without labels: choose samples to train on, and tell whether to."""

from geopipe.learn.transfer.choose import Selection, choose
from geopipe.learn.transfer.evidence import Caution, Evidence, Figure
from geopipe.learn.transfer.plan import Fate, TransferPlan
from geopipe.learn.transfer.samples import SourceSamples, TargetSamples
from geopipe.learn.transfer.weigh import weigh

__all__ = [
    "Caution",
    "Evidence",
    "Fate",
    "Figure",
    "Selection",
    "SourceSamples",
    "TargetSamples",
    "TransferPlan",
    "choose",
    "weigh",
]
