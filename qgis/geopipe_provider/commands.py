"""Commands of geopipe as tables, and the command lines that they make; knows nothing of QGIS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LAYER_KINDS = ("raster", "vector", "layer")
OUTPUT_KINDS = ("output file", "output folder")
KINDS = (
    *LAYER_KINDS, *OUTPUT_KINDS, "file", "folder", "text", "texts", "integer", "number", "choice",
    "flag", "extent", "bounds", "point",
)  # fmt: skip
POSITIONAL = ""
"""The `flag` of an argument that is given by its place."""


@dataclass(frozen=True)
class Source:
    """What a layer reads: a file, and the table of it where it has several."""

    path: str
    table: str = ""


@dataclass(frozen=True)
class Parameter:
    """One field of a dialog, and where its value goes on the command line.

    Attributes:
        name: What QGIS calls it, in capitals.
        kind: One of `KINDS`. A "point" becomes a box of `side_of` metres around it; "texts" are
            separated by commas; "bounds" are an extent that the command takes as four words.
        label: What the dialog says.
        flag: Its option; `POSITIONAL`; or None when it isn't on the command line.
        default: Value that the dialog starts with; None: empty.
        choices: Of a "choice".
        minimum: The least number that is allowed.
        maximum: The largest one.
        required: Whether it must be given.
        advanced: Whether the dialog hides it at first.
        off_flag: Of a "flag": the option for no.
        layer_flag: Of a layer: the option that names its table.
        if_empty: What stands on the command line in place of a value.
        companions: Options that are given along with a value.
        side_of: Of a "point": the parameter with the side of its box in metres.
        pattern: Which files a file dialog offers, such as "Models (*.safetensors)".
    """

    name: str
    kind: str
    label: str
    flag: str | None = POSITIONAL
    default: Any = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False
    advanced: bool = False
    off_flag: str = ""
    layer_flag: str = ""
    if_empty: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    side_of: str = ""
    pattern: str = ""


@dataclass(frozen=True)
class Command:
    """A command of geopipe as an algorithm of QGIS.

    Attributes:
        words: As they are typed, such as "labels check".
        title: The name of the algorithm.
        group: Where the toolbox lists it.
        description: What the dialog says beside the parameters.
        parameters: Positional ones in their order on the command line.
        loads: Files to load afterwards, relative to the folder OUTPUT; "": OUTPUT itself.
        page: An HTML page in the folder OUTPUT for the results viewer.
        keeps_json: Whether OUTPUT is the JSON that the command prints.
    """

    words: str
    title: str
    group: str
    description: str
    parameters: tuple[Parameter, ...]
    loads: tuple[str, ...] = ()
    page: str = ""
    keeps_json: bool = False

    @property
    def name(self) -> str:
        """The id of the algorithm in its provider."""
        return self.words.replace(" ", "_")

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """The command line without the executable; None and "" are values that are not given.

        Args:
            values: Name of a parameter -> text, number, bool, `Source`, or four numbers of a box.
        """
        options: list[str] = []
        positional: list[str] = []
        for parameter in self.parameters:
            for word in _words(parameter, values.get(parameter.name)):
                is_option = parameter.flag != POSITIONAL or word.startswith("--")
                (options if is_option else positional).append(word)
        return [*self.words.split(), "--json", *options, "--", *positional]


def _words(parameter: Parameter, value: Any) -> list[str]:
    """What `parameter` adds to the command line."""
    flag = parameter.flag
    if flag is None:
        return []
    if parameter.kind == "flag":
        word = flag if value else parameter.off_flag
        return [word] if word else []
    if value is None or value == "":
        return list(parameter.if_empty)
    if parameter.kind == "texts":
        return [f"{flag}={text.strip()}" for text in str(value).split(",") if text.strip()]
    if isinstance(value, Source):
        words = _option(flag, value.path)
        if value.table and parameter.layer_flag:
            words += _option(parameter.layer_flag, value.table)
        return words
    if isinstance(value, tuple):
        numbers = [f"{number:.9f}" for number in value]
        if parameter.kind == "bounds":
            return [flag, *numbers]
        value = ",".join(numbers)
    if isinstance(value, float):
        value = f"{value:.12g}"
    return [*_option(flag, str(value)), *parameter.companions]


def _option(flag: str, text: str) -> list[str]:
    """Long options with "=", so that a value may begin with a dash."""
    if flag == POSITIONAL:
        return [text]
    return [f"{flag}={text}"] if flag.startswith("--") else [flag, text]
