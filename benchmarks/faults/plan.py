"""Which calls fail, and how."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Mapping

from benchmarks.faults.child import Fault
from benchmarks.faults.shim import KINDS

ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EINTR)
_SHARES = {"open": 0.24, "read": 0.2, "write": 0.3, "fsync": 0.08, "rename": 0.1, "mkdir": 0.08}
_ELSEWHERE = 4
"""Of the calls that open and read, every so many fails anywhere on the machine."""
_STICKY = 3
"""Of the calls that write, every so many fails with all that follow, as on a full disk."""


def plan_faults(
    number: int,
    counts: Mapping[str, int],
    everywhere: Mapping[str, int] | None,
    prefix: str,
    rng: random.Random,
) -> Iterator[Fault]:
    """About `number` faults, those of a kind spread over all its calls.

    `counts`: calls of each kind on files below `prefix`, `everywhere`: on all files;
    None: no other files.
    """
    for kind in KINDS:
        total = counts[kind]
        wanted = round(number * _SHARES[kind])
        if not total:
            continue
        for i in range(wanted):
            error = ERRORS[(i + i // len(ERRORS)) % len(ERRORS)]
            anywhere = kind in ("open", "read") and i % _ELSEWHERE == _ELSEWHERE - 1
            anywhere = anywhere and everywhere is not None
            of = everywhere[kind] if anywhere and everywhere else total
            nth = 1 + min(of - 1, int((i + rng.random()) * of / wanted))
            sticky = kind == "write" and i % _STICKY == 0 and error != errno.EINTR
            yield Fault(kind, nth, error, "/" if anywhere else prefix, sticky)
