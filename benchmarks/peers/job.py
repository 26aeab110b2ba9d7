"""What every peer is told and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import rasterio
import torch

from benchmarks.tuning import Precision
from geopipe.checkpoint import Checkpoint

BLOCK = 512


@dataclass(frozen=True, slots=True)
class Job:
    """Map `scene` with `model` into the file `out`; of a slow peer only a part is asked."""

    scene: Path
    model: Path
    out: Path
    part: int | None = None
    """Only the upper left `part` x `part` px."""
    precision: Precision = "float32"
    """Of the tuned peers: geopipe's own."""
    loaders: int = 0
    """Processes that read for torchgeo; with 0 it reads between two windows."""
    device: str = "cpu"
    """Of the plain loop and of torchgeo."""

    def load(self) -> Checkpoint:
        """The model, whose nets every peer runs."""
        model = Checkpoint.load(self.model)
        model.net.to(self.device)
        torch.backends.cudnn.allow_tf32 = False  # on a GPU all compute in float32
        if model.gsd != 1.0:
            raise ValueError(f"the peers average to 1 m, the model works at {model.gsd:g} m")
        return model

    def profile(self, src: rasterio.DatasetReader) -> dict[str, object]:
        """How a good engineer stores classes of the scene `src`."""
        height, width = (min(n, self.part or n) for n in src.shape)
        return {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": 1,
            "height": height,
            "width": width,
            "crs": src.crs,
            "transform": src.transform,
            "tiled": True,
            "compress": "deflate",
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "nodata": 255,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The loop's seconds, model loaded and warmed up, until the map lies on disk."""

    seconds: float
    pixels: int
    """Scene pixels that were mapped in that time."""
    notes: dict[str, object] = field(default_factory=dict)
