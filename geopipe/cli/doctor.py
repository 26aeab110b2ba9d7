"""``geopipe doctor``: what the installation and the machine lack, and what to do about it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, PATH

if TYPE_CHECKING:
    from geopipe.doctor import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command(cls=Command)
@click.argument("folder", metavar="[PATH]", type=PATH, default=".")
@click.option("--quick", is_flag=True, help="Do not measure the speed, which takes 5 seconds.")
@AS_JSON
@click.pass_context
def doctor(ctx: click.Context, folder: Path, quick: bool, as_json: bool) -> None:
    """Check the installation and the machine, and say what to do.

    Libraries, devices, speed, memory and disks are looked at. PATH is the folder that maps will be
    written to, by default the working folder. The exit code is 1 where geopipe cannot work before
    a problem is solved.

    Example: geopipe doctor --quick
    """
    from geopipe.doctor import examine

    findings = examine(folder, measure=not quick)
    ok = all(f.status != "problem" for f in findings)
    if as_json:
        click.echo(json.dumps({"ok": ok, "findings": [asdict(f) for f in findings]}))
    else:
        for line in _lines(findings):
            click.echo(line)
    ctx.exit(0 if ok else 1)


def _lines(findings: Sequence["Finding"]) -> Iterator[str]:
    width = max(len(f.name) for f in findings)
    for group, members in groupby(findings, lambda f: f.group):
        yield group
        for f in members:
            status = click.style(f"{f.status:8s}", fg=_COLOURS[f.status])
            yield f"  {status} {f.name:{width}s}  {f.value}"
            if f.advice:
                yield f"  {'':8s} {'':{width}s}  -> {f.advice}"
        yield ""
    counts = {kind: sum(f.status == kind for f in findings) for kind in ("problem", "warning")}
    yield ", ".join(f"{n or 'no'} {kind}{'s' * (n != 1)}" for kind, n in counts.items())
