"""How likely tampering with a map is detected when some of its tiles are compared."""

import random

import numpy as np

from geopipe.grid import Tiling


def draw_tiles(tiles: int, count: int, rng: random.Random) -> list[int]:
    """`count` indexes of `tiles` (all, where there are no more), each set with the same chance."""
    return sorted(rng.sample(range(tiles), min(count, tiles)))


def detection_chance(tiles: int, drawn: int, changed: int) -> float:
    """The chance that at least one of `changed` tiles is among `drawn` of `tiles`.

    Drawn without replacement (hypergeometric): 1 - C(tiles - changed, drawn) / C(tiles, drawn).
    """
    missed = 1.0
    for i in range(min(drawn, tiles)):
        missed *= max(tiles - changed - i, 0) / (tiles - i)
    return 1 - missed


def fewest_tiles(tiling: Tiling, share: float) -> int:
    """The fewest tiles that hold `share` of a map's pixels: where tampering is hardest to detect.

    `share` is above 0 and at most 1.
    """
    sizes = np.sort([tile.core.height * tile.core.width for tile in tiling])[::-1]
    held = np.cumsum(sizes)
    return int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1
