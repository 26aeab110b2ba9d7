"""Memory that a map needs, and the tile size that a given memory allows."""

import math
from dataclasses import dataclass

from geopipe.checkpoint import STRIP_PX, Checkpoint
from geopipe.errors import ConfigError
from geopipe.grid import NetworkGrid
from geopipe.grid.tiling import BLOCK, require_core
from geopipe.limits import memory_mb
from geopipe.mapping.tile import CLASSES_AT_ONCE
from geopipe.nets import RefinementRNN, SegmentVote
from geopipe.nets.segment_vote import FLOATS
from geopipe.parallel import Workers
from geopipe.raster import Scene

DEFAULT_CORE = 1024
"""Scene pixels a side of a tile's core, unless memory is short."""
_CORES = (1024, 768, 512, 256)
_MOST_NET_PX = 1536
"""Side of the default tile on the network's grid, where that is the finer one."""
_PATCH_CORE = 2048
"""About the side of a core for a net that looks at patches: cells that a core's border cuts are
computed on both sides of it."""
PROCESS_MB = 330
"""A process with torch and GDAL loaded and GDAL's cache full, before its first tile."""
_FIXED_MB = 75
"""Of one tile at work, whatever its size: the hidden layer of a block, the nets' buffers, and what
the allocator keeps between tiles (with 30 a map of two threads took 650 MB where 562 were planned).
"""
_GPU_PROCESS_MB = 600
"""What CUDA and its libraries take on a device."""
_GPU_THREADS = 3
"""Tiles at once on a GPU, unless told: one is read, one computed, one written."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a run takes on this machine; nothing, where a cluster computes."""

    core: int
    at_once: int
    """Tiles computed at the same time here."""
    memory_mb: int
    vram_mb: int
    limit_mb: int | None
    """What the user leaves to worker processes together; one that takes more is stopped."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the user allows: pixels a side of a core, MB of memory and of a GPU's memory."""

    core: int | None = None
    ram_mb: int | None = None
    vram_mb: int | None = None

    def fit(self, scene: Scene, model: Checkpoint, workers: Workers, device: str) -> Need:
        """The largest tiles, and as many at once as there are cores, that stay within the budget.

        Where no `ram_mb` is given, what the machine has is the budget, and the smallest tiles are
        tried even where they seem too large for it. Raises ConfigError, with what is needed, when
        even the smallest do not stay within a budget that is given.
        """
        if self.core is not None:
            require_core(self.core)
        most_mb = self.ram_mb or memory_mb()
        on_gpu = device != "cpu"
        requested = workers.at_once
        if on_gpu and not workers.count:
            requested = workers.threads or _GPU_THREADS
        processes = workers.count + 1  # this one hands out the tiles, or computes them
        at_least = max(workers.count, 1)
        smallest = None
        for core in (self.core,) if self.core else _cores(scene, model):
            tile, vram = tile_mb(scene, model, core), on_gpu * gpu_tile_mb(scene, model, core)
            for at_once in range(requested, at_least - 1, -1) if requested else (0,):
                smallest = Need(
                    core,
                    at_once,
                    round(processes * PROCESS_MB + at_once * tile),
                    round(on_gpu * at_least * _GPU_PROCESS_MB + at_once * vram),
                    self.ram_mb and self.ram_mb - PROCESS_MB,
                )
                if smallest.memory_mb <= most_mb and smallest.vram_mb <= (self.vram_mb or math.inf):
                    return smallest
        assert smallest is not None
        if self.core and not self.ram_mb and smallest.memory_mb > most_mb and requested:
            raise ConfigError(
                f"a tile size of {self.core} takes {smallest.memory_mb} MB, this machine has "
                f"{most_mb} MB",
                f"give a smaller tile size; {DEFAULT_CORE} is the default",
            )
        if not self.ram_mb and smallest.vram_mb <= (self.vram_mb or math.inf):
            return smallest
        short = smallest.memory_mb > (self.ram_mb or math.inf)
        raise ConfigError(
            f"{self.ram_mb} MB of memory are too little: tiles of {smallest.core} px take "
            f"{smallest.memory_mb} MB"
            if short
            else f"{self.vram_mb} MB of GPU memory are too little: tiles of {smallest.core} px "
            f"take {smallest.vram_mb} MB",
            "give more, or fewer `workers`" if workers.count > 1 else "give more",
        )


def _cores(scene: Scene, model: Checkpoint) -> tuple[int, ...]:
    """Sides of cores to choose from; of patches, first one that cuts no cell, if there is.

    Where the network's pixels are finer than the scene's, a tile takes memory by theirs.
    """
    if not model.net.patchwise:
        finest = min(NetworkGrid.of(scene.geobox, model.gsd).factor)
        return tuple(c for c in _CORES if c / finest <= _MOST_NET_PX) or _CORES[-1:]
    cell_px = [f * model.net.stride for f in NetworkGrid.of(scene.geobox, model.gsd).factor]
    multiple = math.lcm(BLOCK, *(round(c) for c in cell_px))
    if all(c == round(c) for c in cell_px) and multiple <= 2 * _PATCH_CORE:
        return (_PATCH_CORE // multiple * multiple or multiple, *_CORES)
    return (_PATCH_CORE, *_CORES)


def tile_mb(scene: Scene, model: Checkpoint, core: int) -> float:
    """Memory of one tile at work on a CPU (its blocks bound the refinement's hidden layer)."""
    net, read = _pixels(scene, model, core)
    bands, classes = model.bands, len(model.scheme)
    on_scene = core**2 * (4 * _copies(classes) + 10)  # enlarged scores, the best of them
    votes = FLOATS if isinstance(model.net.postprocessor, SegmentVote) else 0
    copies = 1 if model.net.patchwise and not model.net.postprocessor else 3
    copies += model.net.iterations  # by matrix product, each step has a plane of its own
    layers = net * model.net.base.floats_per_pixel + model.net.base.floats_per_batch
    on_net = 4 * (net * (2 * bands + copies * classes) + max(layers, net * votes))
    read_floats = min(read, STRIP_PX) * (bands * 6 + 2)
    return _FIXED_MB + (max(on_scene, read_floats) + on_net) / 1e6


def gpu_tile_mb(scene: Scene, model: Checkpoint, core: int) -> float:
    """Memory of one tile on a GPU, which refines it whole."""
    net, read = _pixels(scene, model, core)
    classes = len(model.scheme)
    hidden = 32 * classes * 3 if isinstance(model.net.postprocessor, RefinementRNN) else 0
    base = model.net.base
    layers = 4 * (net * max(hidden, base.floats_per_pixel) + base.floats_per_batch)
    read_floats = min(read, STRIP_PX) * 5 * model.bands
    return (layers + read_floats + core**2 * 4 * _copies(classes)) / 1e6


def _copies(classes: int) -> int:
    """Planes of scores on the scene's grid: all of them, and what some take on the way there."""
    return classes + 2 * min(classes, CLASSES_AT_ONCE)


def _pixels(scene: Scene, model: Checkpoint, core: int) -> tuple[float, float]:
    """Net pixels of a tile with its halo, and the scene pixels under them."""
    factor, stride = NetworkGrid.of(scene.geobox, model.gsd).factor, model.net.stride
    # A border may cut a step of the network anywhere: it is computed whole.
    sides = [(math.ceil(core / f / stride) + 1) * stride for f in factor]
    net = math.prod(side + 2 * model.net.halo for side in sides)
    return net, net * math.prod(factor)
