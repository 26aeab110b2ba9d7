"""Fit the last layer of a patch model anew: to source samples, and to answers of the target."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.errors import ConfigError


@dataclass(frozen=True)
class HeadPlan:
    """How the last layer learns from answers."""

    answers: float = 0.5
    """Share of the loss that falls to the answers once there are many; the rest is the source's."""
    half: int = 10
    """Answers at which they have half of that share."""
    penalty: float = 1e-3
    """Of the squared distance from the weights before, in units of standardised features."""
    steps: int = 100
    """Iterations of L-BFGS."""

    def __post_init__(self) -> None:
        if not (0 < self.answers < 1 and self.half >= 0 and self.penalty > 0 and self.steps >= 1):
            raise ConfigError(
                f"answers={self.answers:g}, half={self.half}, penalty={self.penalty:g}: a share "
                "between 0 and 1, a count and a penalty above 0"
            )


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer: class scores are ``features @ weight.T + bias``."""

    weight: np.ndarray
    """(classes, d) float32"""
    bias: np.ndarray
    """(classes,) float32"""

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n, classes) of features (n, d)."""
        scores = features @ self.weight.T + self.bias
        scores = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(scores / scores.sum(1, keepdims=True))


def refit(
    head: Head,
    source: tuple[np.ndarray, np.ndarray],
    answers: tuple[np.ndarray, np.ndarray],
    plan: HeadPlan | None = None,
) -> Head:
    """Fit the head to source samples and answers together, starting from what it was.

    The loss is the weighted cross-entropy plus a penalty on what changes, so few answers change
    little. Classes of the source weigh alike; every answer weighs the same.

    Args:
        head: The last layer as it is.
        source: Features (n, d) and class ids (n,) of labelled source samples.
        answers: The same of the target.
        plan: Weights of the loss.
    """
    plan = plan or HeadPlan()
    count = len(answers[1])
    if not count:
        return head
    features = np.concatenate([source[0], answers[0]]).astype(np.float32)
    ids = np.concatenate([source[1], answers[1]]).astype(np.int64)
    share = plan.answers * count / (count + plan.half)
    by_class = np.bincount(source[1], minlength=len(head.bias))
    present = max(int((by_class > 0).sum()), 1)
    weights = np.concatenate(
        [(1 - share) / present / by_class[source[1]], np.full(count, share / count)]
    )
    scale = np.maximum(features.std(0), 1e-6)
    x, y, w = (torch.from_numpy(a) for a in (features, ids, weights.astype(np.float32)))
    delta = torch.zeros(head.weight.shape, requires_grad=True)
    shift = torch.zeros(head.bias.shape, requires_grad=True)
    start, bias, unit = (
        torch.from_numpy(a.astype(np.float32)) for a in (head.weight, head.bias, 1 / scale)
    )
    center = torch.from_numpy(features.mean(0))
    optimizer = torch.optim.LBFGS(
        [delta, shift], max_iter=plan.steps, line_search_fn="strong_wolfe"
    )
    base = x @ start.T + bias
    standardised = (x - center) * unit

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = base + standardised @ delta.T + shift
        value = (F.cross_entropy(scores, y, reduction="none") * w).sum()
        value = value + plan.penalty * delta.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    change = delta.detach() * unit
    return Head((start + change).numpy(), (bias + shift.detach() - change @ center).numpy())
