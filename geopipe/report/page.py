"""Self-contained HTML pages: one style, templates beside this file."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

from geopipe.errors import SceneError


def render(
    template: str,
    filters: Mapping[str, Callable[..., str | object]] = MappingProxyType({}),
    **context: Any,
) -> str:
    """The text of `template`, a file in this folder, which finds `context` by name."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**context)


def write_page(path: Path, text: str, kind: str) -> None:
    """Write `path`, its folder too, whole or not at all; SceneError says `kind` could not be."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as e:
        raise SceneError(f"cannot write the {kind} {path}: {e.strerror}") from e
    finally:
        with suppress(OSError):
            part.unlink()


def _read(name: str) -> str:
    return (files("geopipe.report") / name).read_text(encoding="utf-8")
