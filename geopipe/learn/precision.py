"""Arithmetic of training: bfloat16 where the processor has it, float32 elsewhere."""

import os
from typing import Literal

import torch

_ISAS_WITH_BFLOAT16 = {"DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512"}
"""Values of oneDNN's limit that leave bfloat16."""

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
        return torch.device(device).type == "cuda" or _has_bfloat16()
    return precision == "bfloat16"


def _has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16, and torch and oneDNN may use it.

    ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA limit them; emulated it is far slower than float32.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return (
        torch.cpu._is_avx512_bf16_supported()
        and "AVX512" in torch.backends.cpu.get_cpu_capability()
        and (not limit or limit in _ISAS_WITH_BFLOAT16 or "AMX" in limit)
    )
