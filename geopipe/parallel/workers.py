"""Workers: where tiles run."""

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from geopipe.errors import ConfigError
from geopipe.limits import useful_threads

MOST_AT_ONCE = max(64, 4 * (os.cpu_count() or 1))
"""Processes or threads here; more than four for each processor only take memory."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where tiles run: in this process, in `count` local ones, or on the cluster at `scheduler`."""

    count: int = 0
    scheduler: str | None = None
    threads: int | None = None
    """Tiles at once in this process or, together, in the local ones; None = torch's threads, which
    are the cores unless OMP_NUM_THREADS says otherwise, or fewer where a CPU quota is less."""
    memory_mb: int | None = None
    """What all local processes may take together; one that takes more is started anew."""
    client: Any = field(default=None, repr=False, compare=False)
    """An open ``distributed.Client`` to run on, instead of `count` or `scheduler`."""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"workers={self.count} is negative", "0 runs in this process")
        for name, number in (("workers", self.count), ("threads", self.threads or 0)):
            if number > MOST_AT_ONCE:
                raise ConfigError(
                    f"{name}={number} is more than {MOST_AT_ONCE}; this machine has "
                    f"{os.cpu_count()} processors",
                    "give at most as many as it has",
                )
        if self.count and self.scheduler:
            raise ConfigError("give `workers` or `scheduler`, not both")
        if self.client is not None and (self.count or self.scheduler):
            raise ConfigError("give a client, or `workers` or `scheduler`, not both")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads={self.threads}: at least one is needed")

    @property
    def distant(self) -> bool:
        """Whether a cluster that was there before computes the tiles."""
        return bool(self.scheduler) or self.client is not None

    @property
    def at_once(self) -> int:
        """Tiles computed at the same time on this machine."""
        if self.distant:
            return 0
        return max(self.count, self.threads or useful_threads(torch.get_num_threads()))


LOCAL = Workers()
"""In this process."""
