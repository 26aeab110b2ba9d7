"""What a network's layers see of an image, cell by cell, taken from the forward that maps it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from geopipe.nets.base import BaseNetwork

_SAMPLES = 32
"""Positions a side of a cell that statistics are taken over, about."""


class FeatureObserver:
    """Pools the outputs of the `feature_layers` of a network, in the thread that asks for it.

    Costs nothing outside of `watch`, and never changes what the network computes.
    """

    def __init__(self, net: BaseNetwork) -> None:
        self._local = threading.local()
        self._layers = [net.get_submodule(name) for name in net.feature_layers]
        for layer in self._layers:
            layer.register_forward_hook(self._keep)

    @contextmanager
    def watch(self, image: Tensor, edges: "CellEdges") -> Iterator[list[Tensor]]:
        """While the network maps `image` (1, bands, h, w): the statistics of its cells.

        The list gets tensors (cells, features) float32, of the image itself and of each layer.
        """
        result = [_statistics(image, edges)]
        self._local.result, self._local.edges = result, edges
        try:
            yield result
        finally:
            del self._local.result, self._local.edges

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del layer, inputs
        if hasattr(self._local, "result"):
            self._local.result.append(_statistics(output, self._local.edges))


class CellEdges:
    """Where cells begin and end in an image, as shares of its sides."""

    def __init__(self, rows: list[float], cols: list[float]) -> None:
        self.rows, self.cols = rows, cols

    def slices(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Of every cell, row by row, in a plane over the same ground as the image."""
        for top, bottom in zip(self.rows, self.rows[1:], strict=False):
            for left, right in zip(self.cols, self.cols[1:], strict=False):
                yield _span(top, bottom, height), _span(left, right, width)


def _span(start: float, stop: float, size: int) -> slice:
    first = min(round(start * size), size - 1)
    last = max(round(stop * size), first + 1)
    return slice(first, last, max(1, (last - first) // _SAMPLES))


def _statistics(x: Tensor, edges: CellEdges) -> Tensor:
    """(1, channels, h, w) to (cells, 2 channels): means and deviations in each cell."""
    rows = []
    for cell in edges.slices(*x.shape[-2:]):
        values = x[0][(slice(None), *cell)].float().flatten(1)
        mean = values.mean(1)
        # Tensor.std takes one value at a time: with it a map took a tenth longer.
        deviation = torch.linalg.vector_norm(values - mean[:, None], dim=1)
        rows.append(torch.cat([mean, deviation / values.shape[1] ** 0.5]))
    return torch.stack(rows)
