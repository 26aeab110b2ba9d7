"""Center loss (Wen et al. 2016, ECCV): features of a class lie near their center."""

import torch
from torch import Tensor


def center_loss(features: Tensor, classes: Tensor, centers: Tensor) -> Tensor:
    """Half the mean squared distance of features (n, d) to their classes' (n,) centers (k, d).

    Li et al., eq. 5, but a mean over batch and dimensions where they sum: the cross-entropy beside
    it is a mean too, and a sum over 512 dimensions makes all features equal before any class is
    learnt (decision 14). The gradient for a feature is (x - c) / (n d); centers get none, `moved`
    is how they learn.
    """
    return (features - centers[classes]).square().mean() / 2


@torch.no_grad()
def init_centers(centers: Tensor, features: Tensor, classes: Tensor) -> Tensor:
    """The centers, where those of classes not seen so far (nan) start at their mean in this batch.

    The papers do not say where centers start. From zero they pull all features there at first.
    """
    in_batch = torch.zeros(len(centers), dtype=torch.bool, device=centers.device)
    in_batch[classes] = True
    means = update_centers(centers.nan_to_num(), features, classes, 1.0)
    return torch.where(centers.isnan() & in_batch[:, None], means, centers)


@torch.no_grad()
def update_centers(centers: Tensor, features: Tensor, classes: Tensor, lr: float) -> Tensor:
    """The centers after a step of SGD towards the means of their classes in this batch.

    c + lr (mean - c) for each class that the batch has; the others stay. Wen et al. divide by one
    more than there are of a class, which pulls less on classes with few.
    """
    count = torch.zeros(len(centers), device=centers.device).index_add_(
        0, classes, torch.ones(len(classes), device=centers.device)
    )
    total = torch.zeros_like(centers).index_add_(0, classes, features.to(centers.dtype))
    mean = total / count.clamp(min=1)[:, None]
    return torch.where(count[:, None] > 0, torch.lerp(centers, mean, lr), centers)
