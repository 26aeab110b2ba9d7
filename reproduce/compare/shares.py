"""Shares as JSON values."""

from __future__ import annotations


def share(part: float, whole: float) -> float | None:
    """`part` / `whole`, None of nothing."""
    return round(float(part) / float(whole), 4) if whole else None


def number(value: float) -> float | None:
    """None for NaN."""
    return round(value, 4) if value == value else None
