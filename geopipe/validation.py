"""What is read back from files is validated: one pydantic schema per format, one error.

A schema is a frozen `Schema`, or a dataclass with ``__pydantic_config__ = STORED``. Its errors name
the file, the field and the reason.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
)
from pydantic import ValidationError as PydanticError

from geopipe.errors import GeopipeError
from geopipe.regularfile import require_regular

STORED = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
"""No unknown keys, no conversions between types, finite numbers."""
MOST_BYTES = 64 << 20
"""A larger file of JSON is not read."""
_MOST_DEPTH = 64
"""Tables in tables; more is no setting of anything."""
_SHOWN = 60
"""Characters of a wrong value that an error shows."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""Pixels, bytes, rows: what float64 counts exactly."""
Side = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Rows or columns of a raster, as many as GDAL can have."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""sha256, hexadecimal."""
Nodata = Annotated[float, AllowInfNan(True)]
"""The one number that may be NaN or infinite, as rasters have it."""
Dtype = Annotated[str, StringConstraints(pattern=r"^(?:u?int(?:8|16|32|64)|float(?:16|32|64))$")]
"""dtype of a raster's pixels."""


def _visible(text: str) -> str:
    if any(c < " " or c == "\x7f" for c in text):
        raise ValueError(f"it holds control characters: {text[:60]!r}")
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text


Text = Annotated[str, Field(max_length=8192), AfterValidator(_no_nul)]
"""A path, or a text that nobody shows."""
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_visible)]
"""What rasters, styles and pages show: no control characters, which XML does not take."""


class Schema(BaseModel):
    """A format, or a part of one."""

    model_config = STORED


T = TypeVar("T")


@contextmanager
def open_regular(path: Path, error: type[GeopipeError]) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file opened for reading, and its size; never waits for a pipe.

    Raises:
        GeopipeError: of the type `error`: there is no such file, it is a pipe, a device or a
            folder, or it cannot be read. The cause is the OSError, if there is one.
    """
    require_regular(path, error)
    try:
        # Not blocking: a pipe may have taken the file's place since.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(fd, "rb") as file:  # noqa: PTH123 (an open file)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{path} is not a file", "give a file on disk")
            yield file, status.st_size
    except FileNotFoundError as e:
        raise error(f"there is no file {path}", "check the path") from e
    except OSError as e:
        if isinstance(e, GeopipeError):
            raise
        raise error(f"cannot read {path}: {e.strerror}", "is it readable?") from e


def read_bytes(path: Path, error: type[GeopipeError], *, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes; errors as of `open_regular`."""
    with open_regular(path, error) as (file, _):
        content = file.read(most + 1)
    if len(content) > most:
        raise error(
            f"{path} has more than {_size(most)}, too much for what it should be",
            "is it the right file?",
        )
    return content


def read_json(
    path: Path, kind: type[T], error: type[GeopipeError], hint: str, *, most: int = MOST_BYTES
) -> T:
    """The JSON file `path` as a `kind`; errors as of `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, error, most=most), kind, str(path), error, hint)


def parse_json(
    text: str | bytes, kind: type[T], source: str, error: type[GeopipeError], hint: str
) -> T:
    """JSON as a `kind`.

    Args:
        text: The JSON.
        kind: A schema, or any type that pydantic knows.
        source: Where the text is from; it opens the error's message.
        error: What to raise.
        hint: What to do about it.

    Raises:
        GeopipeError: `text` is not JSON, or not of the schema; the message names the field.
    """
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # types can be hashed
        return adapter.validate_json(text)
    except PydanticError as e:
        raise error(f"{source} is damaged: {reasons(e)}", hint) from e


def validated(value: object, kind: type[T], source: str, error: type[GeopipeError], hint: str) -> T:
    """As `parse_json`, of values that are parsed already (lists pass for tuples)."""
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # types can be hashed
        return adapter.validate_python(value, strict=False)
    except PydanticError as e:
        raise error(f"{source} is damaged: {reasons(e)}", hint) from e


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def reasons(error: PydanticError) -> str:
    """The first three things that are wrong, each with its field."""
    return "; ".join(reason(e) for e in error.errors(include_url=False)[:3])


def reason(error: Mapping[str, Any]) -> str:
    """What is wrong with one field."""
    where = shortened(".".join(str(part) for part in error["loc"]))
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        return f"it is not JSON: {text.removeprefix('Invalid JSON: ')}"
    if error["type"] == "missing":
        return f"'{where}' is missing"
    if error["type"] == "extra_forbidden":
        return f"unknown key '{where}'"
    shown = f" (got {shown_value(error['input'])})" if "input" in error else ""
    return f"{where}: {text}{shown}" if where else text


def shown_value(value: object) -> str:
    """A wrong value, for an error."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits; lists in lists
        return f"a very large {type(value).__name__}"


def shortened(text: str) -> str:
    """`text` with a middle of dots where it is long."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 10]}...{text[-7:]}"


def require_plain(values: Mapping[str, Any], source: str, error: type[GeopipeError]) -> None:
    """Refuse, in tables of settings, what no setting can be.

    Raises:
        GeopipeError: Tables nested more than 64 deep, an integer of more than 64 bits, a NUL in a
            text. The message names the key.
    """
    for where, depth, value in _walked(values):
        if depth > _MOST_DEPTH:
            problem = f"is nested more than {_MOST_DEPTH} deep"
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            problem = "is an integer of more than 64 bits"
        elif isinstance(value, str) and "\0" in value:
            problem = "holds a NUL character"
        else:
            continue
        raise error(f"{source}: '{shortened(where)}' {problem}", "correct that value")


def _walked(values: Mapping[str, Any]) -> Iterator[tuple[str, int, object]]:
    """(dotted key, depth, value) of all values and keys, without recursion; not below the limit."""
    waiting: list[tuple[str, int, object]] = [(str(k), 1, v) for k, v in values.items()]
    yield from ((k, 1, k) for k in values)
    while waiting:
        where, depth, value = waiting.pop()
        yield where, depth, value
        if isinstance(value, Mapping):
            yield from ((f"{where}.{k}", depth, k) for k in value)
            waiting += [(f"{where}.{k}", depth + 1, v) for k, v in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{where}.{i}", depth + 1, v) for i, v in enumerate(value)]


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} kB"
