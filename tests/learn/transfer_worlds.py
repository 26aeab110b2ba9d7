"""Two domains of Gaussian classes with known truth: the target is the source turned and moved."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm
from sklearn.linear_model import LogisticRegression

from geopipe.learn.transfer import SourceSamples, TargetSamples

CLASSES = 5


@dataclass(frozen=True, eq=False)
class World:
    source: SourceSamples
    target: TargetSamples
    truth: np.ndarray


def world(seed, shift=0.0, *, gone=None, foreign=False, count=300, spread=1.6, dims=16) -> World:
    """`shift`: 0 is the same domain; `gone`: a class the target lacks; `foreign`: it has none."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0, spread, (CLASSES, dims))
    classes = np.repeat(np.arange(CLASSES), count)
    here, there = (means[classes] + rng.normal(0, 1.5, (len(classes), dims)) for _ in range(2))
    held_out = rng.random(len(classes)) < 0.3
    turn = rng.normal(size=(dims, dims))
    turn = (turn - turn.T) / np.linalg.norm(turn - turn.T, 2)
    if shift:
        there = 1.1 * there @ expm(0.5 * shift * turn)
        there += 3.2 * shift * rng.normal(size=dims) / np.sqrt(dims)
    if foreign:
        there = rng.normal(0, 3, there.shape) + rng.normal(0, 3, dims)
    present = classes != gone
    here, there = here.astype(np.float32), there[present].astype(np.float32)
    model = LogisticRegression(max_iter=500).fit(here[~held_out], classes[~held_out])
    return World(
        SourceSamples(here, model.predict_proba(here), classes, held_out),
        TargetSamples(there, model.predict_proba(there)),
        classes[present],
    )
