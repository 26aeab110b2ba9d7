"""Run tiles over workers; the only floor that knows dask."""

from geopipe.jobs.map import MapFiles, MapPlan, choose_device, map_scene, plan_map
from geopipe.jobs.run import HERE, Workers, run_tiles

__all__ = [
    "HERE",
    "MapFiles",
    "MapPlan",
    "Workers",
    "choose_device",
    "map_scene",
    "plan_map",
    "run_tiles",
]
