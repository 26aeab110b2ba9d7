"""bfloat16 in training: only where the processor and what limits its use have it."""

import pytest
import torch

from geopipe.learn.precision import trains_in_bfloat16


@pytest.mark.parametrize(
    ("has_it", "torch_uses", "onednn_limit", "expected"),
    [
        (True, "AVX512", None, True),
        (True, "AVX512", "ALL", True),
        (True, "AVX512", "AVX512_CORE_BF16", True),
        (True, "AVX512", "AVX512_CORE_AMX", True),
        (True, "AVX512", "avx2", False),
        (True, "AVX512", "AVX512_CORE_VNNI", False),
        (True, "AVX2", None, False),
        (True, "DEFAULT", None, False),
        (False, "AVX512", None, False),
    ],
)
def test_auto_is_bfloat16_where_nothing_emulates_it(
    monkeypatch, has_it, torch_uses, onednn_limit, expected
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: torch_uses)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if onednn_limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", onednn_limit)
    assert trains_in_bfloat16("cpu", "auto") == expected
    assert trains_in_bfloat16("cpu", "bfloat16")
    assert not trains_in_bfloat16("cpu", "float32")
