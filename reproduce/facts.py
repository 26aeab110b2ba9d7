"""What every page of results says of how it was made."""

from __future__ import annotations

import os
import platform
import statistics

import torch

import geopipe


def facts(command: str) -> dict[str, str]:
    """Command, machine and software."""
    return {
        "command": command,
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, "
        + ("a GPU" if torch.cuda.is_available() else "no GPU"),
        "software": f"geopipe {geopipe.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    }


def mean_std_text(values: list[float]) -> str:
    """Mean and, of several values, their standard deviation, percent."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean
