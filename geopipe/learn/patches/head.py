"""The last layer alone: logistic regression on the standardised features of a frozen backbone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.progress import progress

_PENALTY = 1e-2
"""Of half the squared weights of standardised features, beside the mean cross-entropy."""
_ITERATIONS = 100


def fit_head(
    head: nn.Linear, batch: Callable[[int], tuple[Tensor, Tensor]], batches: int
) -> tuple[float, int]:
    """Fit `head` in place; returns its mean loss and the number of samples.

    ``batch(k)`` gives features (n, d) and class ids (n,) int64, which are computed once. Each
    dimension is brought to mean 0 and deviation 1 over these samples, so that none counts for its
    unit; the layer takes that in, so it works on features as they are. Equal samples give an equal
    layer.
    """
    features, ids = [], []
    with progress("computing features", batches) as advance:
        for number in range(batches):
            x, y = batch(number)
            features.append(x.float().cpu())
            ids.append(y.cpu())
            advance()
    samples, classes = torch.cat(features), torch.cat(ids)
    mean, std = samples.mean(0), samples.std(0, correction=0)
    std = torch.where(std > 1e-6 * std.max(), std, torch.inf)  # a constant tells nothing
    weight, bias, loss = logistic_regression((samples - mean) / std, classes, head.out_features)
    with torch.no_grad():
        head.weight.copy_(weight / std)
        head.bias.copy_(bias - (weight / std) @ mean)
    return loss, len(samples)


def logistic_regression(
    features: Tensor, ids: Tensor, classes: int, penalty: float = _PENALTY
) -> tuple[Tensor, Tensor, float]:
    """Weight (classes, d), bias (classes,) and mean cross-entropy, by L-BFGS on all samples.

    `features` (n, d) float32, `ids` (n,) int64. Classes count alike, however frequent. One without
    a sample becomes unlikely everywhere.
    """
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    counts = torch.bincount(ids, minlength=classes)
    shares = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe", history_size=10
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, ids, shares)
        total = loss + penalty / 2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(objective)
    with torch.no_grad():
        loss = F.cross_entropy(features @ weight.T + bias, ids, shares)
    return weight.detach(), bias.detach(), float(loss)
