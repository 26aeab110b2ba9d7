"""Files and folders of results: what may be written where, and folders that appear complete."""

import logging
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geopipe.errors import ConfigError, GeopipeError, OutputError, SceneError
from geopipe.regularfile import MARK, part_of, require_own

log = logging.getLogger(__name__)

OTHER_NAME = "give another name, or set `overwrite`"
"""The hint where an output exists already."""
_KEPT_SUFFIXES = {".safetensors", ".resume"}
"""Features, folds and trainings, done or not; what else there is takes seconds to make again."""


def check_new_file(out: Path, *, overwrite: bool = False, sources: Iterable[Path] = ()) -> None:
    """Raise OutputError unless `out` may be written.

    It may not be a folder, lie in a folder that does not exist, or be one of the `sources` that it
    is made from; it may only exist with `overwrite`.
    """
    if out.is_dir():
        raise OutputError(f"{out} is a folder", "give the name of a file")
    if out.exists() and any(s.exists() and out.samefile(s) for s in sources):
        raise OutputError(f"{out} is what it would be made from", "give another name")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists already", OTHER_NAME)
    if not out.parent.is_dir():
        raise OutputError(f"there is no folder {out.parent}", "make it first")


def refuse_existing(out: Path, own: Collection[str], *, overwrite: bool) -> None:
    """ConfigError where `out` is there already (an empty folder is not).

    With `overwrite` it may be, but only with files of the names `own` and what viewers wrote
    beside these: nobody's images are replaced because their folder was given by mistake.
    """
    if out.is_dir():
        existing = {p.name for p in out.iterdir()}
        others = sorted(n for n in existing if n.removesuffix(".aux.xml") not in own)
        if others:
            raise ConfigError(
                f"{out} holds files that this command did not make, such as {others[0]}",
                "give another folder",
            )
    else:
        existing = {out.name} if out.exists() else set()
    if existing and not overwrite:
        raise ConfigError(f"{out} exists already", OTHER_NAME)
    if out.is_file():
        raise ConfigError(f"{out} is a file", "give a folder to write into")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to `target`, which appears complete or not at all; raises OSError."""
    part = part_of(target)
    try:
        shutil.copyfile(source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(out: Path, own: Collection[str], *, overwrite: bool) -> Iterator[Path]:
    """A folder to write into that becomes `out` when all went well, and is gone when not.

    With `overwrite` it takes the place of one that holds nothing but files of the names `own`.
    """
    refuse_existing(out, own, overwrite=overwrite)
    part = out.with_name(out.name + ".part")
    require_own(part)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / MARK).touch()
        yield part
        (part / MARK).unlink()
        if not out.exists():
            part.rename(out)
            return
        written = {p.name for p in part.iterdir()}
        for name in sorted(written):
            (part / name).replace(out / name)
        for old in out.iterdir():
            if old.name not in written:  # it tells of what was there before
                old.unlink()
    except OSError as e:
        if isinstance(e, GeopipeError):
            raise
        raise SceneError(f"cannot write {out}: {e}", "is the folder writable?") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def work_folder(out: Path, cache: Path | None) -> Iterator[Path]:
    """Where what is made on the way to `out` is kept: `cache`, or else ``OUT.work``.

    Without a cache it goes when `out` is made. A run that was killed, or failed after a training
    had begun, finds it again.
    """
    if cache:
        yield cache
        return
    work = out.with_name(out.name + ".work")
    try:
        yield work
    except GeopipeError:
        if any(p.suffix in _KEPT_SUFFIXES for p in work.glob("*")):
            log.warning("%s keeps what is done: the same command goes on", work)
        else:
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
