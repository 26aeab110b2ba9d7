"""Run tiles over workers; the only floor that knows dask."""

from geopipe.jobs.budget import Budget
from geopipe.jobs.journal import WORK, hold, unfinished
from geopipe.jobs.map import (
    Engine,
    MapFiles,
    MapPlan,
    choose_device,
    forget_tiles,
    map_scene,
    plan_map,
)
from geopipe.jobs.run import HERE, Workers, run_tiles

__all__ = [
    "HERE",
    "WORK",
    "Budget",
    "Engine",
    "MapFiles",
    "MapPlan",
    "Workers",
    "choose_device",
    "forget_tiles",
    "hold",
    "map_scene",
    "plan_map",
    "run_tiles",
    "unfinished",
]
