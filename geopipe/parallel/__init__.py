"""Run one function over many tiles: in threads here, on local processes, or on a cluster."""

from geopipe.parallel.run import run_tiles
from geopipe.parallel.workers import LOCAL, MOST_AT_ONCE, Workers

__all__ = ["LOCAL", "MOST_AT_ONCE", "Workers", "run_tiles"]
