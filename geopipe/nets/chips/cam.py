"""Grad-CAM: where in an image a net sees a class (Selvaraju et al. 2017, ICCV).

Li et al. (DDRL-AM), eq. 1 and 2: alpha_k = mean over space of d y_c / d A_k, with y_c the score of
class c before the softmax and A_k the maps of the last convolution; the map is
ReLU(sum_k alpha_k A_k).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's usual name)


def grad_cam(
    maps: Tensor, scores_of: Callable[[Tensor], Tensor], classes: Tensor | None = None
) -> Tensor:
    """(N, h, w) float32 of `maps` (N, k, h, w); `scores_of(maps)` are scores (N, classes).

    `classes` (N,): whose map, by default the predicted ones. Of any net, since torch derives it:
    on a copy of the maps and with gradients switched on, so inside `torch.inference_mode` too, as
    long as the weights were made outside of it.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = maps.detach().float().clone().requires_grad_()
        scores = scores_of(leaf)
        class_ids = scores.argmax(1) if classes is None else classes.clone()
        (slope,) = torch.autograd.grad(scores.gather(1, class_ids[:, None]).sum(), leaf)
        return (slope.mean((2, 3), keepdim=True) * leaf).sum(1).relu().detach()


def linear_cam(maps: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """The same for a net whose scores are `weight` (classes, k) times the maps' means, plus a bias.

    There d y_c / d A_k = weight[c, k] / (h w) everywhere, so no gradient is computed: the map is
    ReLU(sum_k weight[c, k] A_k) / (h w), that of CAM (Zhou et al. 2016) divided by the area.
    """
    area = maps.shape[-2] * maps.shape[-1]
    return torch.einsum("nkhw,nk->nhw", maps.float(), weight[classes].float()).relu() / area


def attention_map(cam: Tensor, side: int) -> Tensor:
    """A map (N, h, w) as a grey image (N, 1, side, side).

    It is scaled to 1 at its highest, then enlarged bilinearly. A map that is 0 everywhere (nothing
    speaks for the class) stays 0.
    """
    top = cam.amax((1, 2), keepdim=True)
    scaled = torch.where(top > 0, cam / top.clamp(min=torch.finfo(cam.dtype).tiny), 0)
    return F.interpolate(scaled[:, None], (side, side), mode="bilinear")
