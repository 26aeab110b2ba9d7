"""Learn what whole chips show."""

from geopipe.learn.scenes.frozen import frozen
from geopipe.learn.scenes.pictures import Pictures
from geopipe.learn.scenes.plan import Attention, ScenePlan
from geopipe.learn.scenes.predict import Seen, cams, chip_net, predict
from geopipe.learn.scenes.splits import Labelled, Split, folds, shares
from geopipe.learn.scenes.train import Samples, trained, zero

__all__ = [
    "Attention",
    "Labelled",
    "Pictures",
    "Samples",
    "ScenePlan",
    "Seen",
    "Split",
    "cams",
    "chip_net",
    "folds",
    "frozen",
    "predict",
    "shares",
    "trained",
    "zero",
]
