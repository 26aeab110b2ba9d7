"""Part e: land cover by patches on Gaofen crops (reproduce/gid) with a ResNet-50."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu.chips import data_folder, data_root
from benchmarks.gpu.samples import tiny_crops
from benchmarks.gpu.setting import Figures, Setting, SkippedError
from geopipe.metrics import Metrics
from reproduce.gid import data
from reproduce.gid.ablations import Study
from reproduce.gid.experiment import Experiment, Settings

BACKBONE = "resnet50"
TINY = Settings(steps=2, backbone="alexnet", weights="random:0")


def measure(setting: Setting, figures: Figures) -> None:
    """Train on source crops, then map those held out and the target's, as seed 0 of part A."""
    if setting.size == "tiny":
        settings, gid = TINY, tiny_crops(setting.folder)
    else:
        weights = find_weights(setting.weights)
        settings, gid = Settings(backbone=BACKBONE, weights=weights), data_folder("gid")
    settings = replace(settings, device=setting.device)
    out = setting.folder / f"crops-{setting.size}"
    study = Study(out, gid, None, 0)
    lab = Experiment(0, out, study.source, settings)
    start = time.monotonic()
    path = lab.model_path
    figures.put(
        backbone=settings.backbone,
        steps=settings.steps,
        training_seconds=round(time.monotonic() - start, 1),
        overall_accuracy={},
    )
    test_crops = data.of_rasters(lab.source, lab.crops[1])
    for name, patches in (("source-held", test_crops), ("target-all", study.target)):
        shares = accuracies(lab.evaluate(name, path, patches, {}))
        figures.put(overall_accuracy={**figures.found["overall_accuracy"], name: shares})


def accuracies(maps: dict[str, Metrics]) -> dict[str, float]:
    """Kind of map (size of patch, all, segments) -> share of the pixels that are right."""
    return {kind: round(metrics.overall_accuracy, 4) for kind, metrics in maps.items()}


def find_weights(candidates: tuple[str, ...]) -> str:
    """A file: one that was given, one of GEOPIPE_DATA, or one that torchvision left here."""
    for net, _, file in (word.partition("=") for word in candidates):
        if net == BACKBONE:
            return file
    for folder in (data_root() / "weights", Path(torch.hub.get_dir()) / "checkpoints"):
        for path in sorted(folder.glob(f"{BACKBONE}[-_.]*")):
            if path.suffix in (".pth", ".pt", ".safetensors"):
                return str(path)
    raise SkippedError(f"no weights of {BACKBONE}: give --weights {BACKBONE}=FILE")
