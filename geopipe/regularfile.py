"""Refuse what is no regular file before it is opened: opening a FIFO waits for ever."""

import os
import stat
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
    class_map = Path(path) / "classes.tif"
    raise error(
        f"{path} is {kind}, not a file",
        f"give {class_map}" if class_map.is_file() else "give a file on disk",
    )
