"""Measure how far a net looks, to hold its declared reach against."""

import torch

from geopipe.nets.mapnet import MapNet


def measured_halo(net: MapNet, bands: int) -> int:
    """Pixels around a stride-aligned core that its outputs depend on, found by a gradient probe.

    The gradient of one stride period of outputs is taken with respect to the input, over several
    draws of noise, so that every ReLU opens for some: the true support of the weights.
    """
    size, halo = net.stride, net.halo
    seen = torch.zeros(size + 2 * halo, size + 2 * halo, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        shape = (1, bands, size + 2 * halo, size + 2 * halo)
        image = torch.randn(shape, generator=generator).requires_grad_()
        net(image).square().sum().backward()
        assert image.grad is not None
        seen |= image.grad[0].abs().sum(0) > 0
    rows, cols = seen.any(1).nonzero(), seen.any(0).nonzero()
    first = min(int(rows[0]), int(cols[0]))
    last = max(int(rows[-1]), int(cols[-1]))
    return max(halo - first, last - (size + halo - 1))
