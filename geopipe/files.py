"""Files and folders of results: what may be written where, and outputs that appear complete.

Whatever geopipe writes under a name of the user's goes through `atomic_file`, `atomic_files` or
`atomic_folder`. They write to ``NAME.part``, rename it when it is complete, and turn what the disk
says into an `OutputError` that names the output.
"""

import errno
import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from geopipe.errors import ConfigError, OutputError, UnsafeFileError
from geopipe.locks import lock_folder
from geopipe.oserrors import writing

log = logging.getLogger(__name__)

OTHER_NAME = "give another name, or set `overwrite`"
"""The hint where an output exists already."""
MARK = ".geopipe"
"""A file in a folder that geopipe is filling, or was when it was killed."""
_KEPT_SUFFIXES = {".safetensors", ".resume"}
"""Features, folds and trainings, done or not; what else there is takes seconds to make again."""
_SIDECARS = (".aux.xml", "-wal", "-shm", "-journal")
"""Endings of files that GDAL and SQLite put beside a file: not of the one that takes its place.
SQLite would write the pages of an old ``-wal`` into the new file."""
_OLD = "map"
"""Name of a folder while another one takes its place."""
_ASIDE = ".old"
"""Ending of a file while another one takes its place."""


@contextmanager
def atomic_file(
    target: Path, *also: type[Exception], parents: bool = False, shared: bool = False
) -> Iterator[Path]:
    """A path to write to, which becomes `target` when all went well and is gone when not.

    It has the name of `target`, in a folder ``TARGET.part`` that the run holds locked; a run that
    was killed leaves the folder, and the next one empties it. What a library puts beside the file
    (``.aux.xml``) moves with it, and what lies beside an older `target` goes.

    Args:
        target: The output; a link of this name is replaced, not followed.
        also: What a library raises when it cannot write, besides OSError.
        parents: Make the folder of `target` if there is none.
        shared: Others may write the same bytes to `target` at the same time: workers that were
            given one tile. Their parts have different names, and nothing waits for the disk.

    Raises:
        OutputError: It cannot be written.
        JobError: Another run is writing it.
        UnsafeFileError: ``TARGET.part`` is not geopipe's.
    """
    with atomic_files([target], *also, parents=parents, shared=shared) as (part,):
        yield part


@contextmanager
def atomic_files(
    targets: Sequence[Path],
    *also: type[Exception],
    parents: bool = False,
    shared: bool = False,
) -> Iterator[list[Path]]:
    """As `atomic_file`, for several files that appear together or not at all."""
    with ExitStack() as stack:
        folders = []
        for target in targets:
            with writing(target):
                if parents:
                    target.parent.mkdir(parents=True, exist_ok=True)
                folders.append(stack.enter_context(scratch_folder(target, shared=shared)))
        parts = [f / t.name for f, t in zip(folders, targets, strict=True)]
        # The body's errors are those of the first file unless it says otherwise (`writing`).
        with writing(targets[0], *also):
            yield parts
        for part, target in zip(parts, targets, strict=True):
            with writing(target):
                if not shared:
                    _sync(part)
        _publish(parts, targets)


def _sync(part: Path) -> None:
    """Wait until `part` is on the disk: some disks say only now that they cannot take it."""
    fd = os.open(part, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # a disk without it
            raise
    finally:
        os.close(fd)


def _publish(parts: Sequence[Path], targets: Sequence[Path]) -> None:
    """Give the files in the folders of `parts` their names, or leave everything as it was."""
    moves = []
    for part, target in zip(parts, targets, strict=True):
        beside = sorted(p for p in part.parent.iterdir() if p != part)
        moves += [(p, target.with_name(p.name)) for p in beside] + [(part, target)]
    new = {target for _, target in moves}
    undo: list[tuple[Path, Path | None]] = []
    try:
        for part, target in zip(parts, targets, strict=True):
            for sidecar in (target.with_name(target.name + s) for s in _SIDECARS):
                if sidecar not in new and os.path.lexists(sidecar):
                    _set_aside(sidecar, part, undo)
        for part, target in moves:
            with writing(target):
                is_old = len(moves) > 1 and os.path.lexists(target)
                if is_old:
                    _set_aside(target, part, undo)
                part.replace(target)
                if not is_old:
                    undo.append((target, None))
    except BaseException:
        for target, old in reversed(undo):
            with suppress(OSError):
                old.replace(target) if old else target.unlink(missing_ok=True)
        raise


def _set_aside(old: Path, part: Path, undo: list[tuple[Path, Path | None]]) -> None:
    """Move `old` into the folder of `part`, from where it goes back if all cannot be published."""
    aside = part.with_name(old.name + _ASIDE)
    with writing(old):
        if old.is_dir() and not old.is_symlink():  # it would go with the part
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        old.rename(aside)
    undo.append((old, aside))


def belongs_to(name: str, outputs: Collection[str]) -> bool:
    """Whether a file is one of `outputs`, or what a library put beside one."""
    return any(name.removesuffix(s) in outputs for s in ("", *_SIDECARS))


def _part_name(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def part_of(target: Path) -> Path:
    """``TARGET.part``; a symbolic link of that name goes, as writing would follow it."""
    part = _part_name(target)
    if part.is_symlink():
        part.unlink()
    return part


@contextmanager
def scratch_folder(target: Path, *, shared: bool = False) -> Iterator[Path]:
    """An empty folder beside `target`, no other run's, which goes in the end: ``TARGET.part``.

    `shared`: as of `atomic_file`. Raises OSError, JobError, UnsafeFileError.
    """
    if shared:
        made = tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent)
        try:
            yield Path(made)
        finally:
            remove_folder(Path(made))
        return
    part = part_of(target)
    require_own(part, prefix=target.name)
    with lock_folder(part, parents=False):
        try:
            _empty(part, target)  # of what a run left that was killed
            yield part
        finally:
            remove_folder(part)


def _empty(part: Path, target: Path) -> None:
    """Remove the files in `part`; what was set aside goes back where `target` is missing."""
    is_missing = not os.path.lexists(target)
    for left in part.iterdir():
        if is_missing and left.name.endswith(_ASIDE):
            left.replace(target.with_name(left.name.removesuffix(_ASIDE)))
        else:
            left.unlink()


def remove_folder(folder: Path) -> None:
    """Remove a folder with all in it, or as much as can be; one that is empty is not opened."""
    for _ in range(3):  # what fails once on a network often works again
        with suppress(OSError):
            folder.rmdir()
            return
        shutil.rmtree(folder, ignore_errors=True)


def clean_parts(folder: Path) -> None:
    """Remove the parts in `folder` that runs left that were killed.

    The caller holds the lock of `folder`, so that nobody else writes into it.
    """
    for part in folder.glob("*.part*"):
        with suppress(UnsafeFileError):  # it is somebody else's
            require_own(part, prefix=part.name.rpartition(".part")[0])
            remove_folder(part)


def require_own(part: Path, known: Collection[str] = (), *, prefix: str = "") -> None:
    """Check that the folder `part`, which is about to be emptied, was made by geopipe.

    Args:
        part: A folder, or nothing.
        known: Names of files that tell as well as `MARK`.
        prefix: What the names of all its files begin with; "" if that tells nothing.

    Raises:
        UnsafeFileError: It is a link, no folder, or holds files that geopipe did not make.
    """
    if part.is_symlink() or (part.exists() and not part.is_dir()):
        raise UnsafeFileError(f"{part} is in the way", "move it, or give another name")
    names = {p.name for p in part.iterdir()} if part.exists() else set()
    if prefix and all(name.startswith(prefix) for name in names):
        return
    if names and not names & {MARK, *known}:
        raise UnsafeFileError(
            f"{part} holds files that geopipe did not make", "move it, or give another name"
        )


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
        others = sorted(n for n in existing if not belongs_to(n, own))
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
    """Copy a file to `target`, which appears complete or not at all; raises OutputError."""
    with atomic_file(target) as part:
        shutil.copyfile(source, part)


@contextmanager
def atomic_folder(out: Path, own: Collection[str], *, overwrite: bool) -> Iterator[Path]:
    """A folder to write into that becomes `out` when all went well, and is gone when not.

    With `overwrite` it takes the place of one that holds nothing but files of the names `own`.
    Raises OutputError where it cannot be written, JobError while another run writes it.
    """
    target = out.resolve()  # also of a link or of "."
    part = _part_name(target)
    with writing(out), without_empty_parents(target):
        refuse_existing(out, own, overwrite=overwrite)
        require_own(part)
        with lock_folder(part):
            restore_folder(target)
            refuse_existing(out, own, overwrite=overwrite)
            made = part / target.name
            try:
                (part / MARK).touch()
                remove_folder(made)  # of a run that was killed
                made.mkdir()
                yield made
                replace_folder(made, target)
            finally:
                remove_folder(part)


@contextmanager
def without_empty_parents(target: Path) -> Iterator[None]:
    """Remove the folders above `target` again that the block made and left empty."""
    new = [p for p in target.parents if not p.exists()]
    try:
        yield
    finally:
        for parent in new:
            with suppress(OSError):  # it holds the output, or was never made
                parent.rmdir()


def replace_folder(new: Path, target: Path) -> None:
    """The folder `new` becomes `target`; what was there goes when the new one stands."""
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent)) / _OLD
    try:
        target.rename(old)
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
            raise
    finally:
        if target.exists():
            remove_folder(old.parent)


def restore_folder(target: Path) -> None:
    """Put back what a run that was killed in `replace_folder` moved away, if nothing stands there.

    The caller holds a lock that keeps other runs from `target`.
    """
    for old in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        if not target.exists() and (old / _OLD).exists():
            (old / _OLD).rename(target)
        remove_folder(old)


@contextmanager
def work_folder(out: Path, cache: Path | None) -> Iterator[Path]:
    """Where what is made on the way to `out` is kept: `cache`, or else ``OUT.work``.

    Without a cache it goes when `out` is made. A run that was killed, or failed after a training
    had begun, finds it again. Raises JobError while another run works on `out`.
    """
    if cache:
        yield cache
        return
    work = out.with_name(out.name + ".work")
    with writing(out), without_empty_parents(work):
        require_own(work)
        with lock_folder(work):
            (work / MARK).touch()
            try:
                yield work
            except Exception:
                if any(p.suffix in _KEPT_SUFFIXES for p in work.glob("*")):
                    log.warning("%s keeps what is done: the same command goes on", work)
                else:
                    remove_folder(work)
                raise
            remove_folder(work)
