"""Which implementation of a layer is the fastest on this processor, by measurement."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch

from geopipe.nets.matmul import mnih_scores, refine_steps
from geopipe.nets.mnih import MnihCNN
from geopipe.nets.refinement import RefinementRNN

Form = Literal["convolution", "matmul"]

_ROUNDS = 3
_MAX_TIME_RATIO = 0.95
"""What the product may take of the convolution's time to be chosen: no change for nothing."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """How a CPU computes float32 scores: by convolution or by matrix product; see `nets.matmul`.

    Scores of the two differ by rounding, so one map is made with one choice.
    """

    base: Form = "convolution"
    refinement: Form = "convolution"

    @classmethod
    def benchmark(cls) -> Self:
        """The faster forms on one thread of this processor, in about half a second."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                base, refine = MnihCNN(3, 3).eval(), RefinementRNN(3, 3).eval()
                image, scores = torch.randn(1, 3, 316, 316), torch.randn(1, 3, 164, 164)
                # As SegmentationModel calls them: channels last for the refinement's convolutions.
                last = [
                    x.contiguous(memory_format=torch.channels_last)
                    for x in (scores, image[..., :164, :164])
                ]
                plain = [x.contiguous() for x in last]
                return cls(
                    _faster(lambda: base(image), lambda: mnih_scores(base, image)),
                    _faster(lambda: refine.steps(*last), lambda: refine_steps(refine, *plain)),
                )
        finally:
            torch.set_num_threads(before)


def _faster(convolution: Callable[[], object], matmul: Callable[[], object]) -> Form:
    """Of alternating rounds the best count: a busy neighbour slows some of them."""
    seconds = ([], [])  # type: tuple[list[float], list[float]]
    for _ in range(1 + _ROUNDS):
        for form, took in zip((convolution, matmul), seconds, strict=True):
            start = time.perf_counter()
            form()
            took.append(time.perf_counter() - start)
    by_convolution, by_matmul = (min(took[1:]) for took in seconds)
    return "matmul" if by_matmul < _MAX_TIME_RATIO * by_convolution else "convolution"
