"""Networks without memory, of which the shapes are asked for or the weights are still to come.

Torch's device "meta" has such tensors. Some operations on them make torch import its compiler or
sympy, which together take longer than all that geopipe does before its first tile; here they are
left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Networks built inside have tensors without memory; no start values are drawn for them."""
    with torch.device("meta"), _Shapes():
        yield


def allocate(net: nn.Module) -> None:
    """Give the tensors of a network without memory some on the CPU, whose values are arbitrary."""
    with _Shapes():
        net.to_empty(device="cpu")


class _Shapes(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if func is torch.empty_like:
            (like,) = args
            device = (kwargs or {}).get("device")
            return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)
        return func(*args, **(kwargs or {}))
