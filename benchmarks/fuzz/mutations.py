"""Small files, changed: bytes, values of JSON and TOML, attributes of XML, cells of SQLite."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Change = Callable[[bytes, random.Random], bytes]

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    255,
    256,
    2**31,
    2**63,
    10**400,
    -0.5,
    1e308,
    -1e308,
    1e-300,
    float("nan"),
    float("inf"),
    "",
    "0",
    "x" * 5000,
    "\0",
    "\x1b[2J\r\n",
    "../../../etc/passwd",
    "/dev/zero",
    "http://127.0.0.1:9/x",
    "<script>alert(1)</script>",
    "é\u202e",
    [],
    [[]],
    {},
    {"a": 1},
    [1] * 3000,
)
_TOML = (
    *("1", "-1", "0", "inf", "-inf", "nan", "1e400", "9" * 400, "9" * 5000, "true", '""', "[]"),
    *("{}", '"\\u0000"', '"../../x"', "[[[[1]]]]", "2024-05-31", "0x7fffffffffffffff", "'x'"),
    *("[" * 10_000 + "]" * 10_000, "{a = " * 2000 + "1" + "}" * 2000, '"' + "x" * 9000 + '"'),
)
_ATTRIBUTES = (
    *(
        "",
        "0",
        "-1",
        "1e400",
        "nan",
        "9" * 400,
        "x" * 5000,
        "&#1;",
        "/dev/zero",
        "../x",
        "2147483648",
    ),
)


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _drop(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randrange(1, 64) :]


def _double(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at : at + rng.randrange(1, 256)] * rng.choice((2, 50)) + data[at:]


def _number(data: bytes, rng: random.Random) -> bytes:
    """An integer of 2, 4 or 8 bytes that is written over what is there, near the start mostly."""
    width, code = rng.choice(((2, "H"), (4, "I"), (8, "Q")))
    at = rng.randrange(min(len(data), rng.choice((64, 512, 1 << 30))) + 1)
    value = rng.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1))
    return data[:at] + struct.pack(rng.choice("<>") + code, value) + data[at + width :]


BYTES: tuple[Change, ...] = (_flip, _cut, _drop, _double, _number)


def change_value(values: Any, rng: random.Random) -> Any:
    """One value of JSON changed: replaced, left out, added, or put around itself."""
    places = list(_places(values))
    if not places:
        return rng.choice(VALUES)
    parent, key = rng.choice(places)
    action = rng.randrange(8)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, dict):
        parent[rng.choice(("extra", "", "x" * 300, "\0"))] = rng.choice(VALUES)
    elif action == 1:
        parent.append(parent[key])
    elif action == 2:
        for _ in range(rng.choice((2, 3000))):
            parent[key] = [parent[key]]
    elif action == 3 and type(parent[key]) in (int, float):
        parent[key] = rng.choice((-1, 2, 1000)) * parent[key] + rng.choice((0, 1))
    else:
        parent[key] = rng.choice(VALUES)
    return values


def _places(values: Any) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    waiting = [values] if isinstance(values, dict | list) else []
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(min(len(one), 40))
        for key in keys:
            places.append((one, key))
            if isinstance(one[key], dict | list):
                waiting.append(one[key])
    return places


def _dumped(values: Any) -> bytes:
    try:
        return json.dumps(values).encode()
    except RecursionError:
        return b"[" * 100_000 + b"]" * 100_000


def _json(data: bytes, rng: random.Random) -> bytes:
    try:
        return _dumped(change_value(json.loads(data), rng))
    except (ValueError, RecursionError):
        return _flip(data, rng)


def _lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines()
    if not lines:
        return data
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((_json, _flip, _cut))(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def _toml(data: bytes, rng: random.Random) -> bytes:
    lines = data.decode(errors="replace").splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"\s*[\w.\"]+\s*=", line)]
    if not keys:
        return data
    at = rng.choice(keys)
    name = lines[at].partition("=")[0]
    name = rng.choice((name, name, name, name + "x", "a." * rng.choice((3, 5000)) + "b"))
    lines[at] = f"{name} = {rng.choice(_TOML)}"
    if rng.random() < 0.2:
        lines.insert(
            rng.randrange(len(lines)), rng.choice(("[[classes]]", "[train]", "[a.b]", "]"))
        )
    return "\n".join(lines).encode()


def _xml(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("latin-1")
    matches = list(re.finditer(r'"[^"]*"|>[^<>]+<', text))
    if not matches:
        return data
    at = rng.choice(matches)
    edge = (text[at.start()], text[at.end() - 1])
    value = f"{edge[0]}{rng.choice(_ATTRIBUTES)}{edge[1]}"
    return (text[: at.start()] + value + text[at.end() :]).encode("latin-1")


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    try:
        header = json.loads(data[8 : 8 + length])
        about = header.get("__metadata__", {})
        inner = [k for k, v in about.items() if v.startswith("{")]
        if inner and rng.random() < 0.7:
            about[inner[0]] = _json(about[inner[0]].encode(), rng).decode()
        else:
            header = change_value(header, rng)
    except (ValueError, AttributeError, RecursionError):
        return _flip(data, rng)
    text = _dumped(header)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _sqlite(data: bytes, rng: random.Random) -> bytes:
    with (
        tempfile.TemporaryDirectory() as folder,
        suppress(sqlite3.Error, OverflowError, ValueError, IndexError),
    ):
        path = Path(folder) / "a.gpkg"
        path.write_bytes(data)
        with closing(sqlite3.connect(path)) as db, db:
            listed = db.execute("select name from sqlite_master where type = 'table'").fetchall()
            table = rng.choice(sorted(listed))[0]
            columns = [row[1] for row in db.execute(f'pragma table_info("{table}")')]
            column = rng.choice(columns)
            cells = [row[0] for row in db.execute(f'select "{column}" from "{table}" limit 9')]
            old = rng.choice(cells)
            value: Any = rng.choice(VALUES)
            if isinstance(old, str) and old.startswith("{"):
                value = _json(old.encode(), rng).decode()
            elif isinstance(old, bytes):
                value = rng.choice(BYTES)(old, rng)
            elif isinstance(value, list | dict):
                value = str(value)
            db.execute(f'update or ignore "{table}" set "{column}" = ?', (value,))
        return path.read_bytes()
    return _flip(data, rng)


STRUCTURED: dict[str, Change] = {
    "json": _json,
    "lines": _lines,
    "toml": _toml,
    "xml": _xml,
    "safetensors": _safetensors,
    "sqlite": _sqlite,
}


def plans(kind: str) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Which changes in which order, and the seed of each."""
    choices = len(BYTES) + (3 if kind in STRUCTURED else 0)  # structured ones come more often
    return st.lists(
        st.tuples(st.integers(0, choices - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=3
    )


def apply(data: bytes, kind: str, plan: list[tuple[int, int]]) -> bytes:
    """`data` after all changes of a plan, each of which follows from its seed alone."""
    for choice, seed in plan:
        change = BYTES[choice] if choice < len(BYTES) else STRUCTURED[kind]
        with suppress(struct.error):
            data = change(data, random.Random(seed))
    return data
