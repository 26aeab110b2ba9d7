"""How much of a class map equals geopipe's."""

from __future__ import annotations

from pathlib import Path

import rasterio
from rasterio.windows import Window

STRIP = 1024


def equal_pixels(path: Path, reference: Path) -> float:
    """Fraction of equal pixels, over what the map at `path` covers of the reference."""
    equal = 0
    with rasterio.open(path) as got, rasterio.open(reference) as expected:
        if not (got.width <= expected.width and got.height <= expected.height):
            raise ValueError(f"{path} is larger than {reference}")
        for row in range(0, got.height, STRIP):
            window = Window(0, row, got.width, min(STRIP, got.height - row))
            a, b = (src.read(1, window=window) for src in (got, expected))
            equal += int((a == b).sum())
        return equal / int(got.width * got.height)
