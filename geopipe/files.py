"""Folders of results that appear complete or not at all, and the work folders beside them."""

import logging
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from geopipe.errors import ConfigError, GeopipeError, SceneError

log = logging.getLogger(__name__)

_KEPT_SUFFIXES = {".safetensors", ".resume"}
"""Features, folds and trainings, done or not; what else there is takes seconds to make again."""


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
        raise ConfigError(f"{out} exists already", "give another name or --overwrite")
    if out.is_file():
        raise ConfigError(f"{out} is a file", "give a folder to write into")


@contextmanager
def atomic_folder(out: Path, own: Collection[str], *, overwrite: bool) -> Iterator[Path]:
    """A folder to write into that becomes `out` when all went well, and is gone when not.

    With `overwrite` it takes the place of one that holds nothing but files of the names `own`.
    """
    refuse_existing(out, own, overwrite=overwrite)
    part = out.with_name(out.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
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
