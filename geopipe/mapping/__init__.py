"""Semantic segmentation of whole scenes: tiles in, georeferenced class maps out."""

from geopipe.mapping.device import choose_device
from geopipe.mapping.journal import WORK, unfinished
from geopipe.mapping.memory import Budget
from geopipe.mapping.scene import (
    Engine,
    MapFiles,
    MapPlan,
    forget_tiles,
    map_scene,
    plan_map,
    tile_job,
)
from geopipe.parallel import LOCAL, Workers, run_tiles

__all__ = [
    "LOCAL",
    "WORK",
    "Budget",
    "Engine",
    "MapFiles",
    "MapPlan",
    "Workers",
    "choose_device",
    "forget_tiles",
    "map_scene",
    "plan_map",
    "run_tiles",
    "tile_job",
    "unfinished",
]
