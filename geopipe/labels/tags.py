"""OSM tags: parsing, matching against the rules of a scheme, widths of lines."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from geopipe.classes import ClassScheme, TagRule
from geopipe.labels.cells import clean, meanings, pairs, says_something, values

__all__ = ["Tags", "all_keys", "clean", "matching", "naming_keys", "parse_tags", "width_of"]

Tags = Mapping[str, str]

_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBER = r"(\d+(?:[.,]\d+)?|[.,]\d+)"
_METRES = re.compile(rf"^~?\s*{_NUMBER}\s*(?:m|meters?|metres?)?\.?$", re.IGNORECASE)
_FEET = re.compile(
    rf"^~?\s*{_NUMBER}\s*(?:ft|feet|foot|'|′|’)\.?\s*(?:{_NUMBER}\s*(?:in|inch|inches|\"|″|''))?\.?$",
    re.IGNORECASE,
)
_MOST_CELL = 1 << 15
"""Characters of a cell; OSM's largest feature has less, and what finds pairs takes their square."""
_FOOT = 0.3048
_WIDTHS = (0.5, 200.0)
"""Believable widths of a line in metres; anything else is a slip of the mapper."""
_LANES = (1, 24)


def parse_tags(value: Any) -> dict[str, str]:
    """Tags of an ``other_tags``/``tags`` cell: hstore, JSON, a mapping or pairs; {} if nonsense."""
    if isinstance(value, str):
        if len(value) > _MOST_CELL:
            return {}
        if not value.lstrip().startswith("{"):
            return {_plain(k): _plain(v) for k, v in _PAIR.findall(value)}
        try:
            value = from_json(value)
        except ValueError:  # also of lists in lists without end
            return {}
    return dict(pairs(value))


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
    """Whether one of the values is accepted; ``*`` accepts any but ``no``, in all its spellings."""
    text = tags.get(key, "")
    if "*" in accepted and says_something(text):
        return True
    tag_values = meanings(text)
    return any(a.casefold() in tag_values for a in accepted)


def unwanted(scheme: ClassScheme, tags: Tags) -> Iterator[tuple[str, str]]:
    """Keys that name a class, with values that no rule names: ("highway", "footway")."""
    for key in naming_keys(scheme):
        rules = [r for c in scheme.classes for r in c.rules if key in r.tags]
        if says_something(tags.get(key, "")) and not any(
            _accepts(tags, key, r.tags[key] + r.exclude.get(key, ())) for r in rules
        ):
            yield key, tags[key]


def naming_keys(scheme: ClassScheme) -> tuple[str, ...]:
    """Keys that make a feature a class (the `tags` of all rules)."""
    return tuple(dict.fromkeys(k for c in scheme.classes for r in c.rules for k in r.tags))


def all_keys(scheme: ClassScheme) -> tuple[str, ...]:
    """Every key that some rule looks at, ``width`` and ``lanes`` included."""
    rules = [r for c in scheme.classes for r in c.rules]
    keys = [k for r in rules for k in (*r.tags, *r.exclude, *r.widths)]
    return tuple(dict.fromkeys([*keys, "width", "lanes"]))
