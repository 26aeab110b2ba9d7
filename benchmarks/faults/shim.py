"""The shim that makes system calls fail, built with the C compiler of the machine."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

KINDS = ("open", "read", "write", "fsync", "rename", "mkdir")
_SOURCE = Path(__file__).with_name("shim.c")


def load(folder: Path) -> None:
    """Build the shim in `folder` and start this program again with it; never returns."""
    library = folder / "shim.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    environment["XDG_CACHE_HOME"] = str(folder / "w" / "cache")
    os.execve(sys.executable, sys.orig_argv, environment)


class Shim:
    """The shim in this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.fault_path.restype = ctypes.c_char_p
        self._library.fault_count.restype = ctypes.c_long

    def arm(self, kind: str, nth: int, error: int, prefix: str, *, sticky: bool = False) -> None:
        """Fail the `nth` call of `kind` on a path with `prefix`, or (`sticky`) all from there on.

        With 0 calls are only counted.
        """
        number = KINDS.index(kind)
        self._library.fault_arm(number, ctypes.c_long(nth), error, sticky, prefix.encode())

    def tell(self, fd: int) -> None:
        """Write the path of the first call that fails to `fd`: the process may die of it."""
        self._library.fault_tell(fd)

    def disarm(self) -> None:
        """Let all calls be what they are."""
        self._library.fault_disarm()

    def clock(self, jump_s: int) -> None:
        """Let the clock of the machine jump so far back and forth whenever it is asked."""
        self._library.fault_clock(ctypes.c_long(jump_s))

    def fired(self) -> str:
        """The path of the first call that failed; "" where none did."""
        return os.fsdecode(self._library.fault_path()) if self._library.fault_fired() else ""

    def counts(self) -> dict[str, int]:
        """Calls of each kind since `arm`."""
        return {kind: self._library.fault_count(i) for i, kind in enumerate(KINDS)}
