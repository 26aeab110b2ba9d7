"""What experiments wrote and read back when they go on: one schema per kind of file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from geopipe.config import Section
from geopipe.validation import STORED, Schema

_Open = ConfigDict(**{**STORED, "extra": "allow"})
"""Figures that are only shown may be of any name."""
Share = Annotated[float, Field(ge=0, le=1)]
_Box = tuple[
    Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=1)],
    Annotated[int, Field(ge=1)],
]


class MeanAccuracy(Schema):
    """Over the splits of a cross-validation."""

    model_config = _Open
    mean: Share


class ChipEvaluationResult(Schema):
    """Of ``evaluation.json`` of `geopipe chips evaluate`, what a comparison of rows needs."""

    model_config = _Open
    frozen: bool
    plan: dict[str, JsonValue]
    overall_accuracy: MeanAccuracy
    kappa: dict[str, float]


class PlaceResult(Schema):
    """A run of `reproduce.real.run`."""

    model_config = _Open
    site: str
    title: str
    method: str
    seed: Annotated[int, Field(ge=0)]
    minutes: Annotated[float, Field(ge=0)]
    peak_mb: Annotated[float, Field(ge=0)]
    processor: str
    precision: str
    software: str
    figures: dict[Literal["alone", "with_tile"], dict[str, dict[str, Any]]]


class PlaceSpec(Section):
    """``reproduce/real/NAME.toml``."""

    title: str
    scene: str
    labels: str
    classes: str
    class_: str | None = Field(default=None, alias="class")
    column: str | None = None
    values: dict[str, str] = Field(default={})
    noise: tuple[float, float] | None = None
    nodata: float | None = None
    bands: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    boxes: dict[Literal["train", "enhance", "select", "test"], list[_Box]]
