"""How long a network is trained, and the learning rate over that time."""

import math
from typing import Literal

Schedule = Literal["short", "paper"]
"""`short`: for a CPU; large patches, a learning rate that rises and falls, weights of the classes.
`paper`: as in Maggiori et al. 2017, section III, its steps cut to what a CPU can afford."""

WARMUP = 0.1
"""Share of the steps in which the rate rises."""


def one_cycle(done: float) -> float:
    """Factor of the learning rate when the share `done` of the steps is done.

    It rises linearly to 1, then falls to 0 as a half cosine (Smith 2018, arXiv 1803.09820;
    Loshchilov and Hutter 2017, arXiv 1608.03983). A rate three times as high as one that stays the
    same is stable so, and the last steps settle.
    """
    if done < WARMUP:
        return (done + 1e-3) / (WARMUP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))


def constant(done: float) -> float:
    """The rate stays, as in the paper."""
    del done
    return 1.0
