"""The gradient of a batch, computed on several cores: a shard of the batch each."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from geopipe.allocator import trim_malloc, tune_malloc
from geopipe.learn.loss import SummedLoss
from geopipe.limits import useful_threads

SHARDS = 4
"""Most shards of a batch: a fixed number, so that the sum of their gradients has one order."""


@contextmanager
def sharded_gradient(
    part: Callable[[int, range], SummedLoss], net: nn.Module, batch: int
) -> Iterator[Callable[[int], float]]:
    """``gradient(step)``: the gradient of a step's batch in ``.grad``; returns the batch's loss.

    ``part(step, numbers)`` is the loss over some samples of the batch, which are numbered
    throughout the training. Threads inside of an operation wait for each other at its end; shards
    wait once a step, so a busy neighbour costs no more than its share of the processor. Gradients
    are summed in the order of the shards: the result does not depend on the number of threads.
    On a GPU, and while batch norm takes its statistics from the batch, there is one shard.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    count = 1 if _needs_whole_batch(net) else min(SHARDS, batch)
    before = torch.get_num_threads()
    usable = useful_threads(before)
    threads = min(count, usable)
    tune_malloc()

    def run(step: int, shard: int) -> tuple[Sequence[Tensor], float, float]:
        first = step * batch
        numbers = range(first + batch * shard // count, first + batch * (shard + 1) // count)
        total, weight = part(step, numbers)
        return torch.autograd.grad(total, parameters), total.item(), float(weight)

    def gradient(step: int) -> float:
        parts = list(pool.map(run, [step] * count, range(count)))
        weight = max(sum(w for _, _, w in parts), 1e-9)  # 0: a batch without a label
        for index, parameter in enumerate(parameters):
            parameter.grad = sum((g[index] for g, _, _ in parts), torch.zeros(())) / weight
        return sum(total for _, total, _ in parts) / weight

    each = usable // threads
    try:
        with ThreadPoolExecutor(
            threads, "training", initializer=torch.set_num_threads, initargs=(each,)
        ) as pool:
            yield gradient
    finally:
        torch.set_num_threads(before)
        trim_malloc()


def _needs_whole_batch(net: nn.Module) -> bool:
    on_gpu = any(p.is_cuda for p in net.parameters())
    return on_gpu or any(isinstance(m, nn.BatchNorm2d) and m.training for m in net.modules())
