"""Part a: does the device give the classes that the CPU gives, and has its map seams?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.setting import Figures, Setting
from benchmarks.gpu.tiles import NAMES, sample_tile
from geopipe.checkpoint import Checkpoint
from geopipe.grid import Tiling
from geopipe.mapping.seams import verify_seams
from geopipe.mapping.tile import best_class, score_window
from geopipe.raster import Scene

CORE = 1024


@dataclass(slots=True)
class Agreement:
    """Scores of one scene by two devices, held against each other pixel by pixel."""

    pixels: int = 0
    changed: int = 0
    """Pixels of another class."""
    max_difference: float = 0.0
    """Of a score."""
    max_score: float = 0.0
    widest_changed: float = 0.0
    """Of the changed pixels, the most that the two best scores are apart: beside the largest
    difference it tells whether rounding explains the change."""

    def add(self, exact: Tensor, other: Tensor, valid: Tensor) -> None:
        """Scores (classes, h, w) of a window, both on the CPU, and which of its pixels count."""
        changed = valid & (best_class(exact) != best_class(other))
        first, second = exact.topk(2, 0).values
        self.pixels += int(valid.sum())
        self.changed += int(changed.sum())
        self.max_difference = _largest(self.max_difference, (exact - other).abs()[:, valid])
        self.max_score = _largest(self.max_score, exact.abs()[:, valid])
        self.widest_changed = _largest(self.widest_changed, (first - second)[changed])


def _largest(before: float, values: Tensor) -> float:
    return max(before, float(values.max())) if values.numel() else before


def measure(setting: Setting, figures: Figures) -> None:
    """The sample tiles by both devices, after no and after all iterations; then seams."""
    size = setting.amount
    path, source = setting.model()
    figures.put(model=source, agreement={})
    cpu_model, gpu_model = (Checkpoint.load(path) for _ in range(2))
    gpu_model.net.to(setting.device)
    for name in NAMES:
        scene = Scene.open(str(sample_tile(name, size.tile_px, setting.folder)))
        agreements = compare(scene, cpu_model, gpu_model, setting.device)
        by_step = {step: asdict(agreement) for step, agreement in agreements.items()}
        figures.put(agreement={**figures.found["agreement"], name: by_step})
    scene = Scene.open(str(sample_tile("test", size.tile_px, setting.folder)))
    figures.put(seams=seams(scene, path, size.seam_cores, setting.device))


def compare(
    scene: Scene, cpu_model: Checkpoint, gpu_model: Checkpoint, device: str
) -> dict[str, Agreement]:
    """Iterations -> how the same model on the CPU and on `device` agree on `scene`."""
    steps = (0, cpu_model.net.iterations)
    agreements = {str(step): Agreement() for step in steps}
    for tile in Tiling(scene.shape, CORE):
        valid = torch.from_numpy(scene.read(tile.core).valid)
        exact = score_window(cpu_model, scene, tile.core, iterations=steps)
        other = score_window(gpu_model, scene, tile.core, iterations=steps, device=device)
        for agreement, a, b in zip(agreements.values(), exact, other, strict=True):
            agreement.add(a, b.cpu(), valid)
    return agreements


def seams(scene: Scene, model: Path, cores: tuple[int, ...], device: str) -> dict[str, object]:
    """What ``geopipe verify-seams`` finds, without the paths."""
    report = verify_seams(scene, model, cores=cores, device=device).to_dict()
    return {k: v for k, v in report.items() if k not in ("scene", "model")}
