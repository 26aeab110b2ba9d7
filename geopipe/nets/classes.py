"""Other outputs for a trained network: other classes, or cores of buildings beside them."""

from collections.abc import Sequence

import torch

from geopipe.nets.base import BaseNetwork
from geopipe.nets.build import build_base_network


def with_classes(net: BaseNetwork, sources: Sequence[int | None]) -> BaseNetwork:
    """A copy of `net` for other classes.

    Args:
        net: A trained network whose `class_axes` tell which weights belong to a class.
        sources: For each class of the copy, the class of `net` that it is; None for a new one,
            whose weights are those of an untrained network.

    Returns:
        The copy. Its scores of a class that `net` has are those of `net`, unless the network mixes
        the scores of classes: then what a new class adds begins at zero.
    """
    copy = build_base_network(net.bands, len(sources), **net.architecture)
    kept = [k for k, source in enumerate(sources) if source is not None]
    before = [source for source in sources if source is not None]
    weights = dict(net.state_dict())
    for name, axes in net.class_axes.items():
        weight = copy.state_dict()[name].clone()
        if kept:
            weight[_places(kept, axes)] = weights[name][_places(before, axes)]
        weights[name] = weight
    copy.load_state_dict(weights)
    return copy


def with_core_scores(net: BaseNetwork) -> BaseNetwork:
    """A copy of `net` that also scores cores, as an untrained network does; else the same.

    Raises ValueError for a network that has no such scores, see `BaseNetwork.cores`.
    """
    copy = build_base_network(net.bands, net.classes, **{**net.architecture, "cores": True})
    copy.load_state_dict({**copy.state_dict(), **net.state_dict()})
    return copy


def _places(classes: Sequence[int], axes: int) -> tuple[torch.Tensor, ...]:
    """Index of the weights of `classes`, along the first dimension or along the first two."""
    ids = torch.tensor(classes)
    return (ids,) if axes == 1 else (ids[:, None], ids)
