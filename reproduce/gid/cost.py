"""What a run costs: patches that go through the net, and the time these take here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from geopipe.learn.patches import PatchPlan, patch_net
from reproduce.gid import data
from reproduce.gid.ablations import NEIGHBOURS, THRESHOLDS
from reproduce.gid.experiment import Settings

TRAINED = 3
"""A patch trained on costs as much as so many that are looked at."""
CROP, PHOTOGRAPH = 16 * 3, 25 * 3
"""Patches of a crop of 224 px and of a photograph of 256 px."""


@dataclass(frozen=True)
class Counts:
    """Images."""

    held: int
    """Source crops held out."""
    known: int
    """Source crops in whose cells neighbours are sought."""
    target: int
    photographs: int


def patches(
    count: Counts, settings: Settings, parts: Sequence[str], *, first: bool, train: bool
) -> int:
    """Patches looked at, or as many as cost the same, for one seed from nothing.

    `first`: the seed that part F is done with; `train`: that trains models there.
    """
    tuning, half = settings.tuning_steps * PatchPlan.batch * TRAINED, count.target // 2
    in_f = "F" in parts and first
    with_transfer = any(p in parts for p in "BCDE") or in_f
    total = settings.steps * PatchPlan.batch * TRAINED
    total += (
        CROP * count.held * ("A" in parts or with_transfer) + CROP * count.known * with_transfer
    )
    total += CROP * count.target * ("A" in parts or "B" in parts)
    total += CROP * count.target * ("C" in parts or in_f)
    total += sum(p in parts for p in "BC") * 3 * (tuning + CROP * half)
    total += ("D" in parts) * (tuning + CROP * count.held // 2)
    total += ("E" in parts) * (tuning + PHOTOGRAPH * count.photographs * 3 // 2)
    # The usual threshold and the usual number of neighbours are one plan in two rows.
    models = len(THRESHOLDS) + len(NEIGHBOURS) - 1 - ("C" in parts)
    total += (in_f and train) * models * (tuning + CROP * half)
    return total


def per_second(settings: Settings) -> float:
    """Patches that go through the net in a second here and now."""
    net = patch_net(settings.design.model(data.scheme())).to(settings.device)
    batch = torch.zeros(32, 3, net.side, net.side, device=settings.device)
    with torch.inference_mode():
        net.logits(batch)
        start = time.perf_counter()
        for _ in range(2):
            net.logits(batch).sum().item()
    return 2 * len(batch) / (time.perf_counter() - start)
