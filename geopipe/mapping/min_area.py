"""The least size of an area in a map, as it is asked for and as a model learnt it."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from geopipe.checkpoint import LABEL_AREAS
from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError

MinArea = float | Mapping[str, float] | Literal["auto"]
"""Square metres of each class, of some classes by name, or what the model's labels suggest."""


def parse_min_area(text: str) -> MinArea:
    """``auto``, ``10`` or ``building=10,road=40``; raises ConfigError for other text."""
    if text == "auto":
        return "auto"
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as e:
        raise ConfigError(
            f"min-area '{text}' is no size", "give square metres, e.g. 10 or building=10,road=40"
        ) from e


def class_min_areas(
    wanted: MinArea, scheme: ClassScheme, provenance: Mapping[str, Any]
) -> tuple[float, ...]:
    """Square metres for each class of `scheme`, 0 where all areas stay.

    Raises ConfigError for a class that the scheme lacks and for a size that is negative.
    """
    if isinstance(wanted, int | float):
        sizes = dict.fromkeys(scheme.names, float(wanted))
    else:
        sizes = dict(provenance.get(LABEL_AREAS, {}) if wanted == "auto" else wanted)
    for name, size in sizes.items():
        if wanted != "auto":
            scheme.id_of(name)
        if not (math.isfinite(size) and size >= 0):
            raise ConfigError(f"a least area of {size:g} m2 for {name}", "give 0 or more")
    return tuple(float(sizes.get(name, 0.0)) for name in scheme.names)


def min_area_tag(sizes: tuple[float, ...], scheme: ClassScheme) -> dict[str, str]:
    """As a tag of what is made with it; none where all areas stay."""
    if not any(sizes):
        return {}
    notes = (f"{n} {s:g} m2" for n, s in zip(scheme.names, sizes, strict=True) if s)
    return {"min_area": ", ".join(notes)}
