"""Read a TOML file into a frozen pydantic model, with errors a person can act on."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from geopipe.errors import ConfigError
from geopipe.validation import read_bytes, reason, require_plain

_MOST_BYTES = 1 << 20
"""A workflow or a class scheme is text of a few kB."""
_DEEP_KEY = re.compile(r"(?<![\w\"'-])(?:[\w\"'-]++\s*+\.\s*+){64}")
"""A key of so many parts: what tomllib takes for it grows with their square."""

_LONGEST_KEY = 100


class Section(BaseModel):
    """One table of a TOML file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=Section)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of `path`; raises ConfigError when it is missing, empty or not TOML."""
    content = read_bytes(path, ConfigError, most=_MOST_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ConfigError(
            f"{path} is not a text file: {e.reason} at byte {e.start}", "give a TOML file"
        ) from e
    if _DEEP_KEY.search(text):
        raise ConfigError(f"{path} has a key of more than 64 parts", "give a TOML file")
    try:
        tables = tomllib.loads(text)
    except RecursionError as e:
        raise ConfigError(f"{path} is nested too deep", "give a TOML file") from e
    except ValueError as e:  # also of integers of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {e}") from e
    if not tables:
        raise ConfigError(f"{path} is empty", "start from workflows/new-scene.toml")
    require_plain(tables, str(path), ConfigError)
    return tables


def load(path: Path, model: type[T]) -> T:
    """`path` as a `model`; raises ConfigError naming wrong keys and the nearest right ones."""
    return parse(read_toml(path), model, str(path))


def parse(tables: dict[str, Any], model: type[T], source: str) -> T:
    """`tables` as a `model`; `source` opens the error message."""
    require_plain(tables, source, ConfigError)
    try:
        return model.model_validate(tables)
    except ValidationError as e:
        raise ConfigError(
            f"{source}: " + "; ".join(_explain(model, x) for x in e.errors()[:3])
        ) from e


def _explain(model: type[BaseModel], error: Any) -> str:
    *parents, key = error["loc"] or ("",)
    if error["type"] == "extra_forbidden":
        field_names = _fields(model, parents)
        name = str(key)[:_LONGEST_KEY]  # looking for what is like it takes long otherwise
        close_matches = difflib.get_close_matches(name, field_names, n=1, cutoff=0.5)
        homes = [n for n in model.model_fields if str(key) in _fields(model, [n])]
        if parents and homes:
            advice = f"which [{homes[0]}] has"
        elif close_matches:
            advice = f"did you mean '{close_matches[0]}'?"
        else:
            advice = "known keys: " + ", ".join(field_names)
        return f"{reason(error)}, {advice}"
    return f"key {reason(error)}" if error["type"] == "missing" else reason(error)


def _fields(model: Any, parents: list[Any]) -> list[str]:
    """Field names of the (nested) model that `parents` leads to."""
    for part in parents:
        if not isinstance(part, str) or part not in getattr(model, "model_fields", {}):
            continue
        model = _model_in(model.model_fields[part].annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The first pydantic model inside an annotation such as ``tuple[X, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        nested_model = _model_in(inner)
        if nested_model is not None:
            return nested_model
    return None
