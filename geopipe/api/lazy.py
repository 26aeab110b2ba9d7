"""Arrays that dask computes block by block; of `geopipe.api` the only module that knows dask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.delayed import delayed

from geopipe.grid import Tile, Tiling, Window
from geopipe.raster import Scene

Read = Callable[[Window], np.ndarray]
"""Window -> pixels (bands, h, w)."""


def is_lazy(data: object) -> bool:
    """Whether `data` is an array of dask's."""
    return isinstance(data, da.Array)


def from_windows(read: Read, shape: tuple[int, int, int], dtype: Any, side: int) -> Any:
    """A dask array (bands, h, w) in blocks of `side` px that `read` fills when it is computed."""
    bands, *plane = shape
    chunks = ((bands,), *(_chunks(n, side) for n in plane))
    return da.map_blocks(
        _read_block,
        _Reader(read),
        chunks=chunks,
        dtype=dtype,
        name=f"geopipe-read-{uuid4().hex}",
        meta=np.empty((0, 0, 0), dtype),
    )


@dataclass(frozen=True)
class ScenePixels:
    """Reads pixels and, as one more band, where they are valid (1) and where not (0)."""

    scene: Scene

    def __call__(self, window: Window) -> np.ndarray:
        """(bands + 1, h, w) in the scene's dtype."""
        raster = self.scene.read(window)
        return np.concatenate([raster.data, raster.valid[None].astype(raster.data.dtype)])


@dataclass(frozen=True)
class _Reader:
    """Keeps dask from looking into `read`."""

    read: Read


def _read_block(reader: _Reader, block_info: Any = None) -> np.ndarray:
    (_, (top, bottom), (left, right)) = block_info[None]["array-location"]
    return reader.read(Window(top, left, bottom - top, right - left))


def by_tile(
    tiling: Tiling,
    needed: Callable[[Window], Window],
    compute: Callable[[Tile, Window, Any, Any], np.ndarray],
    pixels: Any,
    mask: Any | None,
    bands: int,
) -> Any:
    """A dask array (bands, h, w) uint8 whose blocks are the tiles of `tiling`.

    A block is ``compute(tile, held, pixels, mask)`` with the part ``held = needed(tile.core)``,
    clipped to the plane, of `pixels` (bands, h, w) and `mask` (h, w): what the tile depends on, its
    overlap with its neighbours included.
    """
    name = f"geopipe-predict-{uuid4().hex}"
    run = delayed(compute, name=f"{name}-compute", pure=False, traverse=False)
    rows, cols = tiling.grid
    blocks: list[list[Any]] = [[] for _ in range(rows)]
    for tile in tiling:
        held = needed(tile.core).clip(tiling.shape)
        block = run(
            tile,
            held,
            pixels[(slice(None), *held.slices)],
            None if mask is None else mask[held.slices],
            dask_key_name=f"{name}-{tile.index}",
        )
        shape = (bands, *tile.core.shape)
        blocks[tile.index // cols].append(da.from_delayed(block, shape, np.uint8))
    return da.block(blocks)


def _chunks(length: int, side: int) -> tuple[int, ...]:
    whole, rest = divmod(length, side)
    return (side,) * whole + ((rest,) if rest else ())
