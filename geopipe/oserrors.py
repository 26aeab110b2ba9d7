"""What the system says when it refuses to read or write, in words for people."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geopipe.errors import GeopipeError, OutputError

_ROOM = "make room, or write to another disk"
_FULL = 1 << 20
"""Bytes left of a disk that is as good as full: less than a library writes at once."""
_PERMISSION = "give a folder that you may write to"
_REASONS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("the file is larger than the disk or `ulimit -f` allows", _ROOM),
    errno.EACCES: ("permission denied", _PERMISSION),
    errno.EPERM: ("permission denied", _PERMISSION),
    errno.EROFS: ("the file system is read-only", _PERMISSION),
    errno.EIO: ("input/output error", "the disk or the network it is on has a fault: check it"),
    errno.ENOENT: ("there is no such file or folder", "make its folder first"),
    errno.EEXIST: ("a file of that name is in the way", "give another name"),
    errno.ENOTDIR: ("its folder is a file", "give another name"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter name"),
    errno.EMFILE: ("too many files are open", "raise `ulimit -n`"),
}
_TEXTS = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EACCES,
    **{os.strerror(code): code for code in _REASONS},
}
"""How libraries say it that give no errno: SQLite, and GDAL with the words of the system."""
_INTERNALS = re.compile(r"\b_?TIFF\w*:|\.part\b", re.IGNORECASE)
"""Functions of libtiff and files on the way: words of a library that help nobody."""


def failure(error: BaseException, path: Path | None = None) -> tuple[str, str]:
    """Why the system refused to read or write a file: a reason and a hint.

    Args:
        error: An OSError, or what a library raises, whose text names an errno or its words.
        path: What was to be written, if it was; its disk is looked at where `error` tells nothing.
    """
    code = error.errno if isinstance(error, OSError) else None
    text = " ".join(str(error).split())
    if code is None and (match := re.search(r"\bos error (\d+)\b", text)):  # Rust's
        code = int(match[1])
    if code is None:
        code = next((c for words, c in _TEXTS.items() if words in text), None)
    if code is None and path is not None:
        code = _state_of_disk(path.parent)
    if code in _REASONS:
        return _REASONS[code]
    words = os.strerror(code) if code else text or type(error).__name__
    if path and not code and _INTERNALS.search(text):
        words = "it could not be written completely"
    return words, "look whether the disk is full or has a fault" if path else ""


def _state_of_disk(folder: Path) -> int | None:
    """ENOSPC or EACCES where nothing can be written in `folder`."""
    with suppress(OSError):
        if shutil.disk_usage(folder).free < _FULL:
            return errno.ENOSPC
        if not os.access(folder, os.W_OK):
            return errno.EACCES
    return None


def write_error(target: Path, error: BaseException) -> OutputError:
    """The error of an output that cannot be written: its name, the reason, what to do."""
    reason, hint = failure(error, target)
    other = getattr(error, "filename", None)
    if other and not _is_within(Path(os.fsdecode(other)), target):  # read, or written on the way
        reason = f"{os.fsdecode(other)}: {reason}"
    return OutputError(f"cannot write {target}: {reason}", hint)


def _is_within(path: Path, target: Path) -> bool:
    return path in (target, target.parent) or bool(_on_the_way(target).fullmatch(str(path)))


def _on_the_way(target: Path) -> re.Pattern[str]:
    """Paths of the folders in which geopipe makes `target`, and of the files in them."""
    names = {re.escape(str(path)) for path in (target, target.resolve())}
    # A file in them may be called like the target, whose name may have spaces.
    inside = rf"[/\\](?:{re.escape(target.name)})?[^\s:]*"
    folder = r"(?:\.[\w.]+)?\.(?:part(?:-\w+)?|work)"
    return re.compile(rf"(?<!\S)(?:{'|'.join(sorted(names))}){folder}(?:{inside})?(?=[\s:]|$)")


def _name_target(error: OutputError, target: Path) -> None:
    """Where `error` names a file on the way to `target`, let it name `target`."""
    message = _on_the_way(target).sub(lambda _: str(target), error.message)
    error.message, error.args = message, (message,)


@contextmanager
def writing(target: Path, *also: type[Exception]) -> Iterator[None]:
    """Turn OSError, and what libraries raise for it (`also`), into the `write_error` of `target`.

    For what is written in a folder that is being filled; geopipe's own errors pass, but where one
    says that a file on the way to `target` cannot be written, it names `target`.
    """
    errors: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except OutputError as e:
        _name_target(e, target)
        raise
    except GeopipeError:  # some are OSErrors, too
        raise
    except errors as e:
        raise write_error(target, e) from e
