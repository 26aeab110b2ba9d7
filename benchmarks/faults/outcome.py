"""What a run should have done, and what it did."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.child import Run, snapshot, unfinished

_OWN = re.compile(r"^(WARNING|INFO): |^(note|left out): |^[a-z ]+: \d+/\d+, ")


_CRASHES = (-11, -6)
"""SIGSEGV and SIGABRT: a C library."""
_OLD = hashlib.sha256(b"old").hexdigest()
"""Of a file that was there before: it stays, or is replaced."""


@dataclass
class Outcome:
    """One run, and the one after it."""

    case: str
    event: str
    kind: str
    """The system call, or the kind of event."""
    ended: str
    message: str
    """Its error."""
    fired: bool
    path: str
    """Of the call that failed, below the folder of all."""
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def judge(
    case: str,
    event: str,
    done: Run,
    reference: Mapping[str, str],
    out: Path,
    *,
    signals: tuple[int, ...] = (),
    old: Sequence[str] = (),
) -> Outcome:
    """Compare a run with what it may do.

    `signals`: exit codes of a run that was stopped, which need not say why. `old`: files that were
    there before.
    """
    lines = [line for line in done.err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    message = errors[-1].removeprefix("error: ") if errors else ""
    ended = {0: "success", 1: "error"}.get(done.code, f"exit {done.code}")
    outcome = Outcome(
        case,
        event,
        event.split()[0],
        ended,
        message,
        bool(done.fired),
        done.fired.partition("faults-")[2],
    )
    foreign = [x for x in lines if not (_OWN.match(x) or x.startswith("error: ") or x == "stopped")]
    problems = outcome.problems
    own = not done.fired or "faults-" in done.fired
    if done.hung:
        problems.append("hangs")
    elif done.code in _CRASHES and not own:  # a library died of its own files
        outcome.ended, outcome.path = "crash", done.fired
    elif done.code not in (0, 1, *signals):
        problems.append(f"exit code {done.code}")
    if done.code == 1 and len(errors) != 1:
        problems.append(f"{len(errors)} errors")
    if foreign and done.code in (0, 1):
        problems.append(f"stderr: {foreign[0][:160]}")
    if message.startswith("unexpected"):
        problems.append("an unexpected error")
    left = snapshot(out)
    if done.code == 0 and left != reference:
        problems.append(f"other bytes: {_differing(left, reference)}")
    elif done.code and case != "index build":  # an index says itself that it is not whole
        half = {n: d for n, d in left.items() if d and not unfinished(n)}
        wrong = sorted(n for n, d in half.items() if d not in (reference.get(n), _OLD))
        if wrong:
            problems.append(f"half-written: {wrong[:3]}")
        if lost := [n for n in old if n not in left]:
            problems.append(f"lost: {lost}")
    return outcome


def rerun(outcome: Outcome, again: Run, reference: Mapping[str, str], out: Path) -> None:
    """Judge the same command after a fault."""
    left = snapshot(out)
    complete = "exists already" in again.err and left == reference
    if again.code and not complete:
        outcome.problems.append(f"again: {' '.join(again.err.split())[:160]}")
    elif left != reference:
        outcome.problems.append(f"again other bytes: {_differing(left, reference)}")


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    return sorted(n for n in {*a, *b} if a.get(n) != b.get(n))[:4]
