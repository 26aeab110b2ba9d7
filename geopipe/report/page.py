"""Self-contained HTML pages: one style, templates beside this file."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

from geopipe.files import atomic_file


def render(
    template: str,
    filters: Mapping[str, Callable[..., str | object]] = MappingProxyType({}),
    **context: Any,
) -> str:
    """The text of `template`, a file in this folder, which finds `context` by name."""
    page = _environment(frozenset(filters.items())).get_template(template)
    return page.render(csp=_policy(_read(template)), **context)


@cache
def _environment(
    filters: frozenset[tuple[str, Callable[..., str | object]]],
) -> jinja2.Environment:
    """It keeps the templates that it has compiled, which takes longer than to fill them."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment


def _policy(template: str) -> str:
    """A Content-Security-Policy under which a page loads nothing and runs no script but its own.

    The scripts are those of the template, by their digests: whatever a text from a file says, it
    is no script. Styles are free: they load nothing, as pictures come from the page alone.
    """
    scripts = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{d}'" for d in digests) or "'none'"
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


def write_page(path: Path, text: str) -> None:
    """Write `path`, its folder too, whole or not at all; OutputError where that cannot be."""
    with atomic_file(path, parents=True) as part:
        part.write_text(text, encoding="utf-8")


def _read(name: str) -> str:
    return (files("geopipe.report") / name).read_text(encoding="utf-8")
