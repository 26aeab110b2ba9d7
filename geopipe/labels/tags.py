"""OSM tags: parsing, matching against the rules of a scheme, widths of lines."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from geopipe.classes import ClassScheme, TagRule

Tags = Mapping[str, str]

_NO_VALUE = {"", "none", "nan", "null", "<na>", "nat"}
"""What converters write where a feature does not have the tag."""

_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBER = r"(\d+(?:[.,]\d+)?|[.,]\d+)"
_METRES = re.compile(rf"^~?\s*{_NUMBER}\s*(?:m|meters?|metres?)?\.?$", re.IGNORECASE)
_FEET = re.compile(
    rf"^~?\s*{_NUMBER}\s*(?:ft|feet|foot|'|′|’)\.?\s*(?:{_NUMBER}\s*(?:in|inch|inches|\"|″|''))?\.?$",
    re.IGNORECASE,
)
_FOOT = 0.3048
_WIDTHS = (0.5, 200.0)
"""Believable widths of a line in metres; anything else is a slip of the mapper."""
_LANES = (1, 24)


def cleaned_text(value: Any) -> str | None:
    """A cell of a table as the text of a tag; None where there is no tag."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != value:
            return None
        value = f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
    text = str(value).strip()
    return None if text.casefold() in _NO_VALUE else text


def values(text: str) -> list[str]:
    """The single values of a semicolon list, lower case."""
    return [part for part in (p.strip().casefold() for p in text.split(";")) if part]


def parse_tags(value: Any) -> dict[str, str]:
    """Tags of an ``other_tags``/``tags`` cell: hstore, JSON, a mapping or pairs; {} if nonsense."""
    if isinstance(value, str):
        if not value.lstrip().startswith("{"):
            return {_plain(k): _plain(v) for k, v in _PAIR.findall(value)}
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {}
    try:
        pairs = dict(value).items()
    except (TypeError, ValueError):
        return {}
    return {str(k): text for k, v in pairs if (text := cleaned_text(v)) is not None}


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def parse_width(text: str) -> float | None:
    r"""Metres of a ``width`` tag: "5.5", "5,5", "6 m", "20 ft", "20'", "20'6\""; None if nonsense.

    Of a semicolon list the first value counts. Widths below 0.5 m or above 200 m are nonsense.
    Source of the notations: https://wiki.openstreetmap.org/wiki/Map_features/Units
    """
    first = text.split(";")[0].strip()
    if match := _METRES.match(first):
        metres = _number(match[1])
    elif match := _FEET.match(first):
        metres = _FOOT * (_number(match[1]) + (_number(match[2]) / 12 if match[2] else 0.0))
    else:
        return None
    return metres if _WIDTHS[0] <= metres <= _WIDTHS[1] else None


def parse_lanes(text: str) -> int | None:
    """The number of a ``lanes`` tag; None if nonsense."""
    try:
        lanes = float(text.split(";")[0])
    except ValueError:
        return None
    return int(lanes) if _LANES[0] <= lanes <= _LANES[1] and lanes == int(lanes) else None


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def width_of(rule: TagRule, tags: Tags) -> float:
    """Metres on the ground: from the ``width`` tag, the lanes, the kind of road, or the rule."""
    if rule.use_width_tag and (metres := parse_width(tags.get("width", ""))) is not None:
        return metres
    if rule.lane_width and (lanes := parse_lanes(tags.get("lanes", ""))) is not None:
        return min(lanes * rule.lane_width, _WIDTHS[1])
    for key, by_value in rule.widths.items():
        for value in values(tags.get(key, "")):
            if value in by_value:
                return by_value[value]
    return rule.width


def matching(scheme: ClassScheme, tags: Tags) -> Iterator[tuple[int, TagRule]]:
    """Class ids and rules that a feature with `tags` meets, whatever its geometry."""
    for class_id, map_class in enumerate(scheme.classes):
        for rule in map_class.rules:
            if all(_accepts(tags, k, v) for k, v in rule.tags.items()) and not any(
                _accepts(tags, k, v) for k, v in rule.exclude.items()
            ):
                yield class_id, rule


def _accepts(tags: Tags, key: str, accepted: tuple[str, ...]) -> bool:
    tag_values = values(tags.get(key, ""))
    return bool(tag_values) and (
        "*" in accepted or any(a.casefold() in tag_values for a in accepted)
    )


def naming_keys(scheme: ClassScheme) -> tuple[str, ...]:
    """Keys that make a feature a class (the `tags` of all rules)."""
    return tuple(dict.fromkeys(k for c in scheme.classes for r in c.rules for k in r.tags))


def all_keys(scheme: ClassScheme) -> tuple[str, ...]:
    """Every key that some rule looks at, ``width`` and ``lanes`` included."""
    rules = [r for c in scheme.classes for r in c.rules]
    keys = [k for r in rules for k in (*r.tags, *r.exclude, *r.widths)]
    return tuple(dict.fromkeys([*keys, "width", "lanes"]))
