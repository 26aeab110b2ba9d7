"""One grammar: inputs by place, outputs by -o, one word for one thing, help in sentences."""

import re

import click
import pytest
from click.testing import CliRunner

from geopipe.cli.main import SECTIONS, main


def commands(group=main, words=()):
    """The words of each command that does something, and the command."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


ALL = dict(commands())
HELPS = [*ALL, "scene", "labels", "patches", "chips", "assess", "index"]


def options(command):
    return {max(p.opts, key=len): p for p in command.params if isinstance(p, click.Option)}


def test_every_command_is_in_a_section_of_the_help():
    listed = [words for section in SECTIONS.values() for words in section]
    assert sorted({*listed, "labels rasterize"} - {"labels"}) == sorted(ALL)
    said = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    titles = ("Scene:", "Labels:", "Train:", "Map:", "Judge:", "Search:", "Other:")
    assert [line for line in said.splitlines() if line in titles] == list(titles)
    assert "..." not in said[said.index("Labels:") :]
    for words in listed:
        assert re.search(rf"^  {words} +[A-Z].*\.$", said, re.M), words


@pytest.mark.parametrize("words", ALL)
def test_outputs_are_options_and_never_arguments(words):
    names = {p.name for p in ALL[words].params if isinstance(p, click.Argument)}
    assert not names & {"out", "output", "out_dir", "target"}
    out = options(ALL[words]).get("--out")
    writes = words not in ("evaluate", "index evaluate", "verify", "verify-seams", "doctor", "run")
    assert (out is not None) == writes
    if out is not None:
        assert out.opts == ["-o", "--out"]


def test_an_option_is_the_same_thing_everywhere():
    kinds = {}
    for command in ALL.values():
        for flag, option in options(command).items():
            kinds.setdefault(flag, set()).add((type(option.type).__name__, option.is_flag))
    several = {
        "--model",  # a kind of model to train, or the file of one
        "--step",  # pixels between chips, or metres in an index
        "--gsd",  # metres; of geopipe train also auto
    }
    assert {flag for flag, kind in kinds.items() if len(kind) > 1} <= several
    assert not {"--core", "--most", "--right-angles", "--output", "--out-dir"} & set(kinds)


@pytest.mark.parametrize("words", HELPS)
def test_help_is_in_sentences_with_an_example(words):
    said = CliRunner().invoke(main, [*words.split(), "--help"], terminal_width=100).stdout
    example = re.search(r"^  Example: (geopipe .*)$", said, re.M)
    assert example, said
    line = example[1].split()
    start = " ".join(line[1 : 1 + len(words.split())])
    assert start == words or words in ("labels", "labels rasterize", *SECTIONS)
    group = main
    for word in words.split():
        group = group.commands[word]
    assert re.fullmatch(r"[A-Z].*\.", group.help.split("\n\n")[0].replace("\n", " "), re.S)
    for option in group.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help[0].isupper(), option.help


@pytest.mark.parametrize("words", ALL)
def test_the_example_is_a_valid_line(words, monkeypatch):
    """It has what the command requires, and options that exist."""
    text = ALL[words].help.split("Example: geopipe ")[1].strip()
    line = " ".join(text.split()).split()
    if line[0] == "labels" and line[1] not in ("check", "align", "wfs"):
        line.insert(1, "rasterize")
    depth = len(words.split())
    assert " ".join(line[:depth]) == words
    ALL[words].make_context(words, line[depth:])  # raises UsageError


def test_errors_name_the_options_of_the_command():
    from geopipe.cli.commands import Command
    from geopipe.errors import SceneError

    def fails(**_):
        raise SceneError("4 bands, give 3 by `bands`", "set `skip_bad` or its `gsd`")

    options = [click.Option(["--bands"]), click.Option(["-s", "--skip-bad"])]
    with pytest.raises(SceneError) as caught:
        Command("map", params=options, callback=fails).main([], standalone_mode=False)
    assert caught.value.message == "4 bands, give 3 by --bands"
    assert caught.value.hint == "set --skip-bad or its `gsd`"
