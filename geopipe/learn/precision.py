"""Arithmetic of training: bfloat16 where the processor has it, float32 elsewhere."""

from typing import Literal

import torch

TrainingPrecision = Literal["auto", "float32", "bfloat16"]


def training_autocast(device: str, precision: TrainingPrecision) -> torch.autocast:
    """Autocast context for a training step; weights and their updates stay float32."""
    enabled = trains_in_bfloat16(device, precision)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


def trains_in_bfloat16(device: str, precision: TrainingPrecision) -> bool:
    """Whether a training step computes in bfloat16.

    ``auto``: on GPUs and on CPUs with bfloat16 instructions (a coarse step is 3 times faster
    there; emulated, it is slower than float32).
    """
    if precision == "auto":
        return torch.device(device).type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return precision == "bfloat16"
