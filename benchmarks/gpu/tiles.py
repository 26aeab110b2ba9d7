"""The sample tiles, or the middle of them."""

from __future__ import annotations

from pathlib import Path

import rasterio
from rasterio.windows import Window

from benchmarks.gpu.setting import ROOT

NAMES = ("train", "enhance", "test")


def sample_tile(name: str, middle_px: int | None, folder: Path) -> Path:
    """A sample tile; with `middle_px` the middle of it, so many pixels a side, in `folder`."""
    tile_path = ROOT / "sample_tiles" / f"{name}.tif"
    if middle_px is None:
        return tile_path
    path = folder / f"{name}-{middle_px}.tif"
    if path.is_file():
        return path
    with rasterio.open(tile_path) as src:
        row, col = ((n - middle_px) // 2 for n in src.shape)
        window = Window(col, row, middle_px, middle_px)
        profile = {
            **src.profile,
            "height": middle_px,
            "width": middle_px,
            "compress": "deflate",
            "photometric": "rgb",
            "transform": src.window_transform(window),
        }
        with rasterio.open(path, "w", **profile) as out:
            out.write(src.read(window=window))
    return path
