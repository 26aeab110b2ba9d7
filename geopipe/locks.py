"""Locks of folders: two runs on one would take each other's files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geopipe.errors import JobError


@contextmanager
def lock_folder(folder: Path, *, parents: bool = True) -> Iterator[None]:
    """Keep other runs out of `folder`, which is made where there is none, until the block ends.

    Raises JobError while another run is in it.
    """
    folder.mkdir(parents=parents, exist_ok=True)
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        if os.name == "posix":
            raise
        yield  # folders cannot be opened on Windows, which has no such locks either
        return
    try:
        lock(fd, folder)
        if not folder.exists() or folder.stat().st_ino != os.fstat(fd).st_ino:
            raise JobError(f"another run has just ended in {folder}", "run the same command again")
        yield
    finally:
        os.close(fd)


def lock(fd: int, folder: Path) -> None:
    """Lock an open file or folder for this run; the lock goes with the process.

    Raises JobError while another run has it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise JobError(
            f"another run is at work in {folder}", "wait for it, or give another folder"
        ) from e
    except OSError:  # a file system without locks: nothing can be told
        return
