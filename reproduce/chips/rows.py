"""The rows of the tables: which nets are trained, and what the papers say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from geopipe.learn.chips import ChipTrainingPlan
from geopipe.learn.chips.model import ChipModelSpec, ChipTraining

NETS = (
    "efficientnet_lite0",
    "mobilenet_v2",
    "alexnet",
    "caffenet",
    "vgg16",
    "googlenet",
    "resnet18",
    "resnet50",
)
"""Asked for in this order; those without weights are left out, and named."""
SHIPPED = {
    "googlenet": "googlenet_bvlc_fp16.safetensors",
    "resnet18": "resnet18_hybrid_fp16.safetensors",
}
"""Files in the folder ``weights`` of GEOPIPE_DATA."""
FUSIONS = ("alexnet.c5+alexnet.c5", "googlenet.im+googlenet.im", "googlenet.im+alexnet.c5")
IFTENE = {
    "fusion:alexnet.c5+alexnet.c5": "97.31 (CaffeNet twice, WHU-RS19)",
    "fusion:googlenet.im+googlenet.im": "97.65 (WHU-RS19)",
    "fusion:googlenet.im+alexnet.c5": "98.22 (GoogLeNet + CaffeNet, WHU-RS19)",
    "finetune:googlenet": "94.72, augmented 96.32 (WHU-RS19)",
    "finetune:alexnet": "augmented 96.84 (CaffeNet, WHU-RS19)",
}
LI = {
    "finetune:resnet18": "96.19 ± 0.14",
    "ResNet-18 + AM": "98.24 ± 0.10",
    "ResNet-18 + AM + CL": "99.05 ± 0.08",
}
CENTER = 0.5


@dataclass(frozen=True)
class Settings:
    """What all rows share."""

    epochs: int = 40
    side: int = 224
    frozen_side: int = 224
    """Of part a, which needs no other: its rows do not train."""
    batch: int = 32
    device: str = "cpu"
    weights: Mapping[str, str] = field(default_factory=dict)
    """Net -> source."""
    cache: Path | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    part: str
    name: str
    training: ChipTraining

    @property
    def paper(self) -> str:
        """What the papers say of it, or of what is nearest to it."""
        if self.training.frozen:
            return ""
        return IFTENE.get(self.name, "") or LI.get(self.name, "")


def rows(settings: Settings, parts: Iterable[str]) -> list[Row]:
    """The rows of these parts (a, b, c, d) whose weights can be had."""
    available = [net for net in NETS if net in settings.weights]
    result: list[Row] = []
    if "a" in parts:
        result += [_row("a", f"finetune:{n}", settings, frozen=True) for n in available]
    if "b" in parts:
        result += [_row("b", f"finetune:{n}", settings) for n in available]
    if "c" in parts:
        result += [
            _row("c", f"fusion:{f}", settings)
            for f in FUSIONS
            if all(p.partition(".")[0] in available for p in f.split("+"))
        ]
    if "d" in parts and "resnet18" in available:
        result += [
            *([] if "b" in parts else [_row("d", "finetune:resnet18", settings)]),
            _row("d", "ddrl-am", settings, name="ResNet-18 + AM"),
            _row("d", "ddrl-am", settings, center=CENTER, name="ResNet-18 + AM + CL"),
            _row("d", "ddrl-am", settings, true=True, name="ResNet-18 + AM of the true class"),
        ]
    return result


def _row(
    part: str,
    model: str,
    settings: Settings,
    *,
    frozen: bool = False,
    center: float = 0.0,
    true: bool = False,
    name: str = "",
) -> Row:
    nets = {p.backbone for p in ChipModelSpec(model).model_spec.parts}
    weights = tuple(f"{n}={settings.weights[n]}" for n in sorted(nets))
    if frozen:  # neither epochs nor batches: rows stay as they are where these are cut
        settings = replace(
            settings, epochs=Settings.epochs, batch=Settings.batch, side=settings.frozen_side
        )
    plan = ChipTrainingPlan(
        settings.epochs, settings.batch, center=center, attention="true" if true else "predicted"
    )
    design = ChipModelSpec(model, weights, settings.side)
    training = ChipTraining(design, plan, frozen, device=settings.device, cache=settings.cache)
    return Row(part, name or model, training)


def pairs(accuracy: Mapping[str, float]) -> list[tuple[str, str]]:
    """What is compared with what: each fusion with its best part, attention with none."""
    result = []
    for name in accuracy:
        if name.startswith("fusion:"):
            parts = {f"finetune:{p.partition('.')[0]}" for p in name[7:].split("+")}
            best = max(parts & accuracy.keys(), key=lambda p: accuracy[p], default="")
            result += [(name, best)] if best else []
    plain, am, full = LI
    comparisons = ((am, plain), (full, plain), (full, am), ("ResNet-18 + AM of the true class", am))
    return result + [(a, b) for a, b in comparisons if a in accuracy and b in accuracy]
