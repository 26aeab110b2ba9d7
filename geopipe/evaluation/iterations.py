"""Accuracy on a test scene after each iteration of the refinement."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.evaluation.reliability import map_reliability
from geopipe.files import atomic_file
from geopipe.grid import Window
from geopipe.labels import RasterLabels
from geopipe.mapping import Engine, forget_tiles, map_scene
from geopipe.mapping.min_area import MinArea, class_min_areas
from geopipe.mapping.sieve import sieve
from geopipe.mapping.tile import best_class, score_window
from geopipe.metrics import Metrics, MetricsTable
from geopipe.raster import Scene
from geopipe.raster.cog import write_class_cog
from geopipe.raster.scene import opened, window_geobox
from geopipe.reliability import Reliability, ReliabilityTable
from geopipe.validation import Schema, read_json

_FILE = "evaluation.json"
_WINDOW_PX = 1536
"""Side of the window that is scored to watch a training."""


class _Stored(Schema):
    iterations: list[MetricsTable] = Field(min_length=1, max_length=100)
    reliability: ReliabilityTable | None = None


@dataclass(frozen=True, slots=True)
class IterationMetrics:
    """Metrics and class maps after 0, 1... iterations (0 = the base network alone)."""

    steps: tuple[Metrics, ...]
    maps: tuple[Path, ...]
    reliability: Reliability | None = None
    """Of the probabilities of the last map, before small areas are removed."""

    @classmethod
    def load(cls, folder: Path) -> "IterationMetrics":
        """Read what `evaluate_steps` wrote."""
        stored = read_json(
            folder / _FILE, _Stored, LabelError, f"remove {folder}; the same command makes it again"
        )
        steps = tuple(Metrics.from_table(t) for t in stored.iterations)
        maps = tuple(_map(folder, t) for t in range(len(steps)))
        table = stored.reliability
        of_probabilities = Reliability.from_table(table) if table else None
        return cls(steps, maps, of_probabilities)


def evaluate_steps(
    scene: Scene,
    models: Sequence[Path],
    truth: Path,
    folder: Path,
    engine: Engine,
    *,
    min_area: MinArea = 0.0,
) -> None:
    """Map `scene` after each iteration into `folder` and compare with the raster `truth`.

    Several `models` follow each other as iterations do: a net, and what became of it. Areas below
    `min_area` (see `class_min_areas`) are removed as in a map bundle, so that the figures of the
    last step are those of the map that is delivered.
    """
    tables: list[dict[str, Any]] = []
    for path in models:
        model_file = ModelFile.open(path)
        model = model_file.checkpoint
        steps = tuple(range(model.net.iterations + 1))
        files = map_scene(scene, model_file, folder, engine, iterations=steps, with_confidence=True)
        assert files.confidence
        reliability = map_reliability(files.classes[-1], files.confidence, truth, model.scheme)
        sizes = class_min_areas(min_area, model.scheme, model.provenance)
        sieved = folder / "sieved.tmp.tif"
        for class_map in files.classes:
            target = _map(folder, len(tables))
            if any(sizes):
                sieve(class_map, sieved, sizes)
            write_class_cog(sieved if any(sizes) else class_map, target, model.scheme, {})
            tables.append(evaluate_map(target, truth, scheme=model.scheme).to_dict())
        sieved.unlink(missing_ok=True)
        forget_tiles(folder)
    result = {"iterations": tables, "reliability": reliability.to_dict()}
    with atomic_file(folder / _FILE) as part:
        part.write_text(json.dumps(result, indent=1))


def quick_score(model: Checkpoint, scene: Scene, truth: Path, device: str) -> float:
    """Mean IoU around the middle of the labelled pixels: a look at a training that goes on."""
    window = _labelled_window(truth)
    labels = RasterLabels.open(truth, model.scheme).read(window_geobox(scene.geobox, window))
    (scores,) = score_window(model, scene, window, device=device)
    mapped = best_class(scores).cpu().numpy()
    reference = np.where(scene.read(window).valid, labels, IGNORE)
    return Metrics.of(model.scheme.names, reference, mapped).mean_iou


def _labelled_window(truth: Path) -> Window:
    with opened(truth) as src:
        shape: tuple[int, int] = src.shape
        step = max(1, max(shape) // 512)
        small = src.read(1, out_shape=tuple(-(-n // step) for n in shape))
    labelled = np.nonzero(small != IGNORE)
    center = [int(np.median(indices)) * step if len(indices) else 0 for indices in labelled]
    row, col = (
        min(max(m - _WINDOW_PX // 2, 0), max(n - _WINDOW_PX, 0))
        for m, n in zip(center, shape, strict=True)
    )
    return Window(row, col, _WINDOW_PX, _WINDOW_PX).clip(shape)


def _map(folder: Path, iteration: int) -> Path:
    return folder / f"classes-{iteration}.tif"
