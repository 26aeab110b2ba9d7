"""How much of the time of a scene classifier is its net's own, in training and in use.

    python -m benchmarks.chips [--chips 640] [--epochs 1] [--side 224] [--repeats 3]

writes ``docs/results/bench/chips.{json,md}``. In each round chips of noise are decoded and learnt
from, decoded and classified; before and after, the bare net takes as many that lie in memory, with
the same threads and arithmetic. Weights are random: they cost as much as any.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from benchmarks.machine import describe_machine, load
from geopipe.checkpoint import Checkpoint
from geopipe.learn.chips import ChipTrainingPlan, DecodedChips, chip_net, predict, train_network
from geopipe.learn.chips.model import ChipModelSpec, open_labels_of
from geopipe.learn.precision import training_autocast
from geopipe.nets.patches import BATCH
from geopipe.raster.chips import ChipFolder

RESULTS = Path("docs/results/bench/chips")
MODELS = ("finetune:efficientnet_lite0", "fusion:efficientnet_lite0+alexnet")
_PX, _CLASSES = 256, 4


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="chips per second")
    parser.add_argument("--chips", type=int, default=640, help="a multiple of 32")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=MODELS)
    args = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = _noise(Path(folder) / "chips", args.chips)
        for model in args.models:
            design = ChipModelSpec(model, ("random:0",), args.side)
            labels = open_labels_of(root, args.side, Path(folder), skip_bad=False)
            start = design.start(labels.scheme, design.backbones(), labels.sizes)
            _bare_training(start, 1)  # the first steps choose kernels
            _bare_use(start, 1)
            for number in range(args.repeats):
                work = Path(folder) / f"{len(rounds)}"
                rounds.append({"model": model, **_round(start, root, work, args.epochs)})
                print(f"round {number + 1}: {rounds[-1]}", flush=True)
    facts = {**vars(args), "threads": torch.get_num_threads(), "machine": describe_machine()}
    write(rounds, {**facts, "load": load()})


def _noise(root: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        path = root / f"class{i % _CLASSES}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(128, 30, (_PX, _PX, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=91)
    return root


def _round(start: Checkpoint, root: Path, work: Path, epochs: int) -> dict[str, float]:
    """Chips per second: ``train`` and ``classify``, and ``bare-`` of both."""
    side, chips = chip_net(start).side, ChipFolder.open(root).chips
    batches = len(chips) // BATCH

    def train() -> None:
        labels = open_labels_of(root, side, work / "train", skip_bad=False)
        train_network(start, labels.all, ChipTrainingPlan(epochs), folder=work / "train")

    def classify() -> None:
        decoded = DecodedChips.of(chips, side, work / "use", skip_bad=False)
        predict(start, decoded, np.arange(len(chips)))

    def bare_train() -> None:
        _bare_training(start, batches * epochs)

    def bare_use() -> None:
        _bare_use(start, batches)

    seconds_by_name: dict[str, float] = {}
    for name, own_step, bare_step, count in (
        ("train", train, bare_train, len(chips) * epochs),
        ("classify", classify, bare_use, len(chips)),
    ):
        before = _seconds(bare_step)  # half before, half after: drift
        took = _seconds(own_step)
        seconds_by_name |= {
            name: count / took,
            f"bare-{name}": 2 * count / (before + _seconds(bare_step)),
        }
    return seconds_by_name


def _seconds(work: Callable[[], None]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _bare_training(start: Checkpoint, batches: int) -> None:
    """Forward, backward and step of the net, of one batch in memory again and again."""
    net, plan = deepcopy(chip_net(start)), ChipTrainingPlan()
    net.parameter_groups()
    optimizer = torch.optim.Adam(net.rates(plan.pretrained_lr, plan.lr), amsgrad=True)
    images, ids = torch.randn(BATCH, 3, net.side, net.side), torch.arange(BATCH) % _CLASSES
    for _ in range(batches):
        optimizer.zero_grad(set_to_none=True)
        with training_autocast("cpu", plan.precision):
            scores = net.backbone(images)
        F.cross_entropy(scores.float(), ids).backward()
        optimizer.step()


def _bare_use(start: Checkpoint, batches: int) -> None:
    net = chip_net(start).eval()
    images = torch.randn(BATCH, 3, net.side, net.side)
    with torch.inference_mode():
        for _ in range(batches):
            net.backbone(images).softmax(1)


def write(rounds: list[dict[str, Any]], facts: dict[str, object]) -> None:
    """The figures as JSON and Markdown."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    report = json.dumps({**facts, "rounds": rounds}, indent=1, default=str)
    RESULTS.with_suffix(".json").write_text(report + "\n")
    lines = [
        "# Scene classifiers",
        "",
        f"`python -m benchmarks.chips --chips {facts['chips']} --epochs {facts['epochs']} --side "
        f"{facts['side']} --repeats {facts['repeats']}`; {facts['threads']} threads, load "
        f"{facts['load']}. JPEGs of {_PX} px, decoding included; chips per second, medians of "
        "rounds.",
        "",
        "| model | | chips/s | net alone | share |",
        "|---|---|---:|---:|---:|",
    ]
    for model in dict.fromkeys(r["model"] for r in rounds):
        model_rounds = [r for r in rounds if r["model"] == model]
        for name in ("train", "classify"):
            rate, bare_rate, share = (
                statistics.median(values)
                for values in (
                    [r[name] for r in model_rounds],
                    [r[f"bare-{name}"] for r in model_rounds],
                    [r[name] / r[f"bare-{name}"] for r in model_rounds],
                )
            )
            lines += [f"| {model} | {name} | {rate:.1f} | {bare_rate:.1f} | {100 * share:.0f} % |"]
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
