"""Memory that a batch of training samples takes, before it is taken."""

from geopipe.errors import ConfigError
from geopipe.limits import memory_mb
from geopipe.nets import BaseNetwork

_COPIES = 3
"""Of the values that a forward holds: all layers are kept for the gradient, which has its own."""


def require_memory(net: BaseNetwork, batch: int, side: int, device: str) -> None:
    """Raise ConfigError where a batch cannot fit into this machine's memory.

    Args:
        net: The network that is trained.
        batch: Samples of a step.
        side: Pixels a side of a sample, with its context.
        device: Where it is trained; the memory of a GPU is its own.
    """
    values = side**2 * (net.floats_per_pixel if not net.patchwise else 48)
    needed_mb, limit_mb = round(batch * values * 4 * _COPIES / 1e6), memory_mb()
    if device == "cpu" and needed_mb > limit_mb:
        raise ConfigError(
            f"a batch of {batch} samples of {side} px takes about {needed_mb} MB, this machine has "
            f"{limit_mb} MB",
            f"give a smaller `batch`, at most {max(1, batch * limit_mb // needed_mb)}",
        )
