"""Groups of commands in sections, and errors that name the options of the command."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from geopipe.errors import GeopipeError

_PARAMETER = re.compile(r"`(\w+)`")


class Command(click.Command):
    """A command whose errors name its options.

    The library names parameters, as in "give its `gsd`"; where a command has the option, its user
    reads "give its --gsd".
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except GeopipeError as e:
            e.message, e.hint = self._with_flags(e.message), self._with_flags(e.hint)
            raise

    def _with_flags(self, text: str) -> str:
        flags = {p.name: max(p.opts, key=len) for p in self.params if isinstance(p, click.Option)}
        return _PARAMETER.sub(lambda match: flags.get(match[1], match[0]), text)


class Group(click.Group):
    """A group that may list its commands, and those of groups in it, in sections."""

    command_class = Command
    sections: Mapping[str, Sequence[str]] = {}
    """Title -> commands as they are typed, such as "chips train"."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they were added."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands to the help text, section by section."""
        if not self.sections:
            super().format_commands(ctx, formatter)
            return
        width = max(len(words) for section in self.sections.values() for words in section)
        available = formatter.width - 6 - width
        for title, section in self.sections.items():
            rows = [(f"{words:{width}s}", self._find(words)) for words in section]
            with formatter.section(title):
                formatter.write_dl([(words, c.get_short_help_str(available)) for words, c in rows])

    def _find(self, words: str) -> click.Command:
        command: click.Command = self
        for word in words.split():
            assert isinstance(command, click.Group)
            command = command.commands[word]
        return command
