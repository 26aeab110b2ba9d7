"""The outcomes as a Markdown page, docs/results/faults.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.faults.shim import KINDS

_INTRO = """\
Small commands (scenes of some 200 px) run while the machine fails them. Every n-th `open`, `read`,
`write`, `fsync`, `rename` or `mkdir` of a command fails with EIO, ENOSPC, EACCES or EINTR, n spread
over the whole run: by a shim that is loaded with `LD_PRELOAD`, for files of the run (inputs,
outputs, cache) and, of `open` and `read`, one in four times for any file of the machine. Of the
writes one in three fails with all that follow, as on a full disk. A run must end with success and
the bytes of an undisturbed run, or with exit code 1 and one line, and nothing half-written; then
the same command must give the right bytes, and no `.part` may be left.

Runs that succeed did without what failed (a cache, a second try), or called again (EINTR)."""


def markdown(figures: Mapping[str, Any]) -> str:
    """Counts by command and kind of fault, then what went wrong."""
    outcomes: Sequence[Mapping[str, Any]] = figures["outcomes"]
    calls = [o for o in outcomes if o["kind"] in KINDS]
    fired = [o for o in calls if o["fired"]]
    events = [o for o in outcomes if o["kind"] not in KINDS]
    wrong = [o for o in outcomes if o["problems"]]
    versions = ", ".join(f"{k} {v}" for k, v in figures["versions"].items())
    lines = [
        "# Faults of the machine",
        "",
        f"`{figures['command']}`, {figures['date']}, {figures['seconds']} s; {versions}",
        "",
        _INTRO,
        "",
        f"{len(fired)} system calls failed, one in each run; {len(events)} runs met other faults.",
        f"{len(wrong)} of {len(outcomes)} runs did what they must not.",
        "",
        "## System calls",
        "",
        *_table(fired, "kind", KINDS),
        "",
        *_table(fired, "error", ("EIO", "ENOSPC", "EACCES", "EINTR")),
        "",
        "## Other faults",
        "",
        *_table(events, "kind", sorted({o["kind"] for o in events})),
        "",
        "## Messages",
        "",
        *_messages(fired + events),
        "",
        *_crashes(fired),
        "## What went wrong",
        "",
        *(
            [f"- {o['case']}: {o['event']}: {'; '.join(o['problems'])}" for o in wrong]
            or ["Nothing."]
        ),
    ]
    return "\n".join(lines) + "\n"


def _crashes(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs that a C library ended because it could not read a file of its own."""
    files = Counter(o["path"].rpartition("/")[2] for o in outcomes if o["ended"] == "crash")
    if not files:
        return []
    names = ", ".join(f"{name} ({n})" for name, n in files.most_common())
    return [
        "## Crashes",
        "",
        f"{files.total()} runs were ended by a C library that could not read a file of its own: "
        f"{names}. They left nothing half-written, and the next run gave the right bytes.",
        "",
    ]


def _table(outcomes: Iterable[Mapping[str, Any]], key: str, columns: Sequence[str]) -> list[str]:
    """Runs of each command and column, and of these those that ended with an error."""
    total: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    for o in outcomes:
        column = o["event"].split()[-1] if key == "error" else o[key]
        for case in (o["case"], "all"):
            for name in (column, "all"):
                total[case, name] += 1
                failed[case, name] += o["ended"] != "success"
    names = [*columns, "all"]
    lines = [
        f"| runs (ended with an error) | {' | '.join(names)} |",
        "|---|" + "---:|" * len(names),
    ]
    for case in [*dict.fromkeys(c for c, _ in total if c != "all"), "all"]:
        cells = [f"{total[case, n]} ({failed[case, n]})" if total[case, n] else "" for n in names]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def _messages(outcomes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The kinds of error lines, the most frequent first."""
    kinds: Counter[str] = Counter()
    for o in outcomes:
        if o["message"]:
            words = [_plain(word) for word in o["message"].split()]
            kinds[" ".join(words)] += 1
    lines = ["| error | runs |", "|---|---:|"]
    top = kinds.most_common(40)
    lines += [f"| {text.replace('|', '/')} | {n} |" for text, n in top]
    return [
        *lines,
        f"| {len(kinds) - len(top)} others | {sum(kinds.values()) - sum(n for _, n in top)} |",
    ]


def _plain(word: str) -> str:
    """Paths and numbers differ between runs."""
    if "/" in word:
        return "FILE" + (":" if word.endswith(":") else "")
    return "N" if word.strip(",:").isdigit() else word
