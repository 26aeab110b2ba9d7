"""Jobs that worker processes import; in a module, so that what they keep outlives a call."""

import time
from dataclasses import dataclass

import numpy as np
import psutil

KEPT = []


@dataclass(frozen=True)
class Eats:
    """Grows its process to `calm_mb`, and at tile `last` beyond all bounds."""

    calm_mb: int
    last: int

    def __call__(self, tile):
        me = psutil.Process()
        while me.memory_info().rss < 1e6 * (1e6 if tile.index == self.last else self.calm_mb):
            KEPT.append(np.ones(4_000_000, np.uint8))
        time.sleep(0.15)  # dask looks at the memory ten times a second
        return tile.index
