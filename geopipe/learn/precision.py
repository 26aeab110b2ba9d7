"""Arithmetic of training: bfloat16 where the processor has it, float32 elsewhere."""

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def training_autocast(device: str, precision: Precision) -> torch.autocast:
    """Autocast context for a training step.

    ``auto``: bfloat16 on GPUs and on CPUs with bfloat16 instructions (a coarse step is 3 times
    faster there; emulated, it is slower than float32). Weights and their updates stay float32.
    """
    kind = torch.device(device).type
    if precision == "auto":
        native = kind == "cuda" or torch.cpu._is_avx512_bf16_supported()
        precision = "bfloat16" if native else "float32"
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")
