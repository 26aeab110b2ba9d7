"""The commands and options that the documentation names exist."""

import re
import shlex
from pathlib import Path

import click
import pytest

from geopipe.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "workflows").glob("*.md")]
)
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it also tells former names
OTHERS = (
    {"--frozen-side", "--epochs", "--side", "--help"}  # of python -m reproduce.chips.run
    | {"--install", "--index-url", "--force-exclude", "--pdb"}
    | {"--nthreads", "--memory-limit", "--host", "--port", "--protocol"}  # of dask
    | {"--repo", "--create-namespace", "--generate-name", "--gres"}  # of helm and Slurm
)
"""Options of other programs."""


def commands(group=main, words=()):
    """The words of each command, groups too, and the command."""
    for name, command in group.commands.items():
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


ALL = dict(commands())


def flags(command):
    return {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}


EVERY_FLAG = set().union(*(flags(c) for c in ALL.values()), flags(main), OTHERS)


def examples(text):
    """Command lines in blocks of code (True) and in running text (False), without comments."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    blocks = "\n".join([*fenced, *re.findall(r"^ {4}(geopipe .*)$", text, re.M)])
    lines = [(line, True) for line in re.findall(r"^(geopipe .*)$", blocks, re.M)]
    inline = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).replace("\n", " ")
    lines += [(line, False) for line in re.findall(r"`(geopipe [^`]+)`", inline)]
    return [(re.sub(r"\s#.*", "", line).strip(), whole) for line, whole in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_exist(page):
    for line, whole in examples(page.read_text(encoding="utf-8")):
        words = shlex.split(line)[1:]
        if words[0].startswith("-"):
            continue
        n = 2 if tuple(words[:2]) in ALL else 1
        command = ALL.get(tuple(words[:n]))
        where = f"{page.name}: {line}"
        assert command, where
        if isinstance(command, click.Group) and words[0] == "labels":
            command = command.commands["rasterize"]
        given = {w for w in words[n:] if re.fullmatch(r"--?[a-z][a-z0-9-]*", w)}
        assert given <= flags(command), where
        for option in command.params if whole else ():
            needed = isinstance(option, click.Option) and option.required
            assert not needed or given & set(option.opts), f"{where}: no {option.opts[-1]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_options_exist(page):
    text = page.read_text(encoding="utf-8")
    code = " ".join(re.findall(r"`([^`\n]+)`", text))
    unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code)) - EVERY_FLAG
    assert not unknown, f"{page.name}: {sorted(unknown)}"
