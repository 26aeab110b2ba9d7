"""Train and evaluate scene classifiers of whole chips."""

from geopipe.learn.chips.decoded import DecodedChips
from geopipe.learn.chips.frozen_features import frozen_features
from geopipe.learn.chips.plan import AttentionMode, ChipTrainingPlan
from geopipe.learn.chips.predict import Predictions, cams, chip_net, predict
from geopipe.learn.chips.splits import LabelledChips, Split, folds, shares
from geopipe.learn.chips.training import Samples, train_network, zero

__all__ = [
    "AttentionMode",
    "ChipTrainingPlan",
    "DecodedChips",
    "LabelledChips",
    "Predictions",
    "Samples",
    "Split",
    "cams",
    "chip_net",
    "folds",
    "frozen_features",
    "predict",
    "shares",
    "train_network",
    "zero",
]
