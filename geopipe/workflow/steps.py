"""A step runs once: it is skipped while its inputs, parameters and outputs are unchanged."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from geopipe import __version__
from geopipe.checkpoint import file_hash
from geopipe.errors import JobError
from geopipe.files import atomic_file, remove_folder
from geopipe.regularfile import require_regular
from geopipe.validation import Digest, Schema, Text, read_json

log = logging.getLogger(__name__)

_HASHED_BYTES = 256_000_000
"""Larger files are known by size and time of change: reading them would cost more than the step."""


@dataclass(frozen=True)
class Step:
    """`action` makes `outputs` from `inputs` and `parameters`.

    Outputs are files, of which it may leave some out, or folders that hold nothing else.
    """

    name: str
    inputs: Sequence[Path]
    parameters: Mapping[str, Any]
    outputs: Sequence[Path]
    action: Callable[[str], None]
    """Called with the step's key: a digest of inputs and parameters."""


class _Record(Schema):
    """What is kept of a step that ran."""

    key: Digest
    outputs: dict[Text, str | None]
    seconds: float = Field(ge=0)


def run_step(step: Step, records: Path) -> tuple[bool, float]:
    """Run `step` unless it is current; returns whether it ran and the seconds it took (or had)."""
    record, key = _record(step, records), _key(step)
    if (recorded_s := _current(step, record, key)) is not None:
        log.info("%s: unchanged, skipped", step.name)
        return False, recorded_s
    log.info("%s", step.name)
    record.unlink(missing_ok=True)
    start = time.monotonic()
    step.action(key)
    seconds = time.monotonic() - start
    made = {
        k: v for k, v in _fingerprints(step.outputs).items() if v is not None or Path(k).is_dir()
    }
    entry = {"key": key, "outputs": made, "seconds": seconds}
    with atomic_file(record, parents=True) as part:
        part.write_text(json.dumps(entry, indent=1))
    return True, seconds


def is_current(step: Step, records: Path) -> bool:
    """Whether `run_step` would skip it."""
    return _current(step, _record(step, records), _key(step)) is not None


def _record(step: Step, records: Path) -> Path:
    return records / f"{step.name}.json"


def _current(step: Step, record: Path, key: str) -> float | None:
    """The seconds that a step took whose outputs are still right; else None."""
    entry = _read(record)
    if entry and entry.key == key and _unchanged(entry.outputs):
        return entry.seconds
    return None


def _key(step: Step) -> str:
    """Digest of what decides the outputs; the version is part, since code makes them too."""
    parts = [__version__, step.name, dict(step.parameters), _fingerprints(step.inputs)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _fingerprints(paths: Sequence[Path]) -> dict[str, str | None]:
    """Fingerprint of each file, and of each file of each folder; None where there is none."""
    fingerprints: dict[str, str | None] = {}
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        fingerprints[str(path)] = None if path.is_dir() or path.exists() is False else ""
        for file in files:
            fingerprints[str(file)] = _fingerprint(file)
    return fingerprints


def _unchanged(fingerprints: Mapping[str, str | None]) -> bool:
    """Whether what a step made is there as it was; files that others put beside it do not count.

    Nor do ``.aux.xml`` files: whoever opens a raster may write its statistics there.
    """
    return all(
        _fingerprint(Path(path)) == fingerprint
        for path, fingerprint in fingerprints.items()
        if fingerprint and not path.endswith(".aux.xml")
    ) and all(Path(path).exists() for path in fingerprints)


def _fingerprint(path: Path) -> str | None:
    try:
        stat = path.stat()
    except OSError:  # missing, or an address that only GDAL reads
        return None
    if stat.st_size > _HASHED_BYTES:
        return f"{stat.st_size}@{stat.st_mtime_ns}"
    return file_hash(path)


def _read(record: Path) -> _Record | None:
    """A record that is missing or damaged: the step runs again."""
    if not require_regular(record, JobError):
        return None
    try:
        return read_json(record, _Record, JobError, "")
    except JobError:
        return None


def fresh_folder(path: Path) -> Path:
    """`path`, empty."""
    remove_folder(path)
    path.mkdir(parents=True)
    return path
