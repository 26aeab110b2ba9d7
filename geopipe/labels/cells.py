"""Cells of attribute tables as the text of a tag, whatever type the writer of the file chose."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

_MISSING = {"", "none", "nan", "null", "<na>", "nat"}
"""What converters write where a feature does not have the tag."""
_YES = {"yes", "true", "t", "y"}
_NO = {"no", "false", "f", "n"}
_ONE = re.compile(r"^1(\.0*)?$")
_ZERO = re.compile(r"^[+-]?0(\.0*)?$")
_MOST_CHARS = 10_000
"""Longer text is not looked at for a list: no tag is that long."""
_OGR_LIST = re.compile(r"^\(\d+:(.*)\)$", re.DOTALL)
"""GDAL's text for a list in a format that has no lists: ``(2:residential,service)``."""
_SIDE_BY_SIDE = re.compile(r"['\"]\s+['\"]")
"""Quoted items without a comma between them, as numpy prints them."""
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def clean(value: Any) -> str | None:
    """A cell of a table as the text of a tag; None where there is no tag.

    Booleans become ``yes`` and ``no``, whole floats lose their ``.0``. Several values (a list, a
    tuple, a set, an array, or the text of one in JSON, Python, PostgreSQL or GDAL notation) become
    OSM's semicolon list; a quoted JSON text loses its quotes.
    """
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Real) and not isinstance(value, Integral):
        number = float(value)
        if number != number:
            return None
        return f"{number:g}" if abs(number) < 1e6 else f"{number:.0f}"
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return _joined(value)
    text = str(value).strip()
    if text.casefold() in _MISSING:
        return None
    several = _several(text) if text[0] in "[({\"'" and len(text) <= _MOST_CHARS else None
    return text if several is None else _joined(several)


def values(text: str) -> list[str]:
    """The single values of a semicolon list, lower case."""
    return [part for part in (p.strip().casefold() for p in text.split(";")) if part]


def meanings(text: str) -> set[str]:
    """The values of a semicolon list and, for true and false in other words, ``yes`` and ``no``."""
    result = set(values(text))
    if any(v in _YES or _ONE.match(v) for v in result):
        result.add("yes")
    if any(_is_no(v) for v in result):
        result.add("no")
    return result


def says_something(text: str) -> bool:
    """Whether a value is there that is not a spelling of ``no``."""
    return not all(map(_is_no, values(text)))


def _is_no(value: str) -> bool:
    return value in _NO or bool(_ZERO.match(value))


def _joined(cells: Any) -> str | None:
    """The tags of several cells as one."""
    flat = np.ravel(cells).tolist() if isinstance(cells, np.ndarray) else list(cells)
    texts = [text for cell in flat if (text := clean(cell)) is not None]
    return ";".join(dict.fromkeys(texts)) or None


def _several(text: str) -> list[Any] | None:
    """The values of a list that was written as text; None for text that is no list."""
    for read in () if _SIDE_BY_SIDE.search(text) else (json.loads, ast.literal_eval):
        try:
            result = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(result, list | tuple | set):
            return list(result)
        if isinstance(result, str):
            return [result] if result != text else None
    if listed := _OGR_LIST.match(text):
        return listed[1].split(",")
    if (text[0], text[-1]) not in (("[", "]"), ("{", "}")) or ":" in text or "=" in text:
        return None
    inner = text[1:-1]
    quoted = [a or b for a, b in _QUOTED.findall(inner)]
    return quoted or [part.strip() for part in inner.split(",")]


def pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Keys and values of a mapping or a list of pairs; nothing of anything else."""
    try:
        items = value.items() if isinstance(value, Mapping) else dict(value).items()
    except (TypeError, ValueError):
        return
    yield from ((str(k), text) for k, v in items if (text := clean(v)) is not None)
