"""Provenance as rows that people read."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Facts = tuple[tuple[str, str], ...]
_NAMES = {
    "model_sha256": "model, SHA-256",
    "model_gsd": "model, pixel size",
    "model_iterations": "model, iterations",
    "scene_bands": "bands of the scene",
    "scene_files": "files of the scene",
    "min_area": "smallest areas",
    "bad_tiles": "tiles without data",
    "gsd": "pixel size",
    "lr": "learning rate",
    "sha256": "SHA-256",
}


def provenance_facts(tags: Mapping[str, Any]) -> Facts:
    """Rows of a report; JSON in a value becomes a row for each of its values."""
    return tuple(row for key, value in tags.items() for row in _rows(_name(key), _parsed(value)))


def training_facts(provenance: Mapping[str, Any]) -> Facts:
    """How a model was trained, as rows."""
    return tuple(_rows("training", dict(provenance)))


def _rows(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key in value:
            inner = _name(str(key))
            yield from _rows(
                f"{name}: {inner}" if name != "model provenance" else inner, value[key]
            )
    elif value is not None and value != "":
        yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(v) for v in value)
    return str(value)


def _name(key: str) -> str:
    return _NAMES.get(key, key.replace("_", " "))


def _parsed(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
