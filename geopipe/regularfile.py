"""Refuse what is no regular file before it is opened: opening a FIFO waits for ever."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from geopipe.errors import GeopipeError, UnsafeFileError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def require_regular(
    path: str | Path, error: type[GeopipeError] = UnsafeFileError, *, folder: bool = False
) -> bool:
    """Check that `path` may be opened without waiting for somebody.

    Args:
        path: A local path; symbolic links are followed.
        error: What to raise.
        folder: Whether a folder will do as well (a file geodatabase).

    Returns:
        Whether there is a regular file; False: there is nothing, or (`folder`) a folder.

    Raises:
        GeopipeError: `path` is a folder, a named pipe, a socket or a device.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (called for each of thousands of chips)
    except (OSError, ValueError):
        return False
    if stat.S_ISREG(mode):
        return True
    if folder and stat.S_ISDIR(mode):
        return False
    kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
    raise error(f"{path} is {kind}, not a file", "give a file on disk")


def part_of(path: Path) -> Path:
    """``PATH.part``, where `path` is written before it gets its name.

    A symbolic link of that name goes: writing would follow it to a file elsewhere.
    """
    part = path.with_name(path.name + ".part")
    if part.is_symlink():
        part.unlink()
    return part


MARK = ".geopipe"
"""A file in a folder that geopipe is filling, or was when it was killed."""


def require_own(part: Path, known: Collection[str] = ()) -> None:
    """Check that the folder `part`, which is about to be emptied, was made by geopipe.

    Args:
        part: A folder, or nothing.
        known: Names of files that tell as well as `MARK`.

    Raises:
        UnsafeFileError: It is a link, no folder, or holds files without any of these names.
    """
    if part.is_symlink() or (part.exists() and not part.is_dir()):
        raise UnsafeFileError(f"{part} is in the way", "move it, or give another name")
    names = {p.name for p in part.iterdir()} if part.exists() else set()
    if names and not names & {MARK, *known}:
        raise UnsafeFileError(
            f"{part} holds files that geopipe did not make", "move it, or give another name"
        )
