"""The file of questions: cells of a target whose class an analyst fills in."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import shapely
from pydantic import ConfigDict, Field

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError, OutputError
from geopipe.labels.openvector import read_dataframe, read_info
from geopipe.raster.geopackage import atomic_geopackage, write_layer
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.style import cells_qml
from geopipe.validation import STORED, Count, Digest, Name, Text, parse_json

LAYER = "questions"
_KEY = "GEOPIPE_QUESTIONS"
_FORMAT = 1
_MAKER = "'geopipe transfer --ask'"
_MAX_LISTED = 8

Role = Literal["decide", "learn"]


@dataclass(frozen=True)
class Questions:
    """What was asked, of which target and which models; the question with ``id`` i is at i - 1.

    What the models say of a cell is not in the file: cells are looked at blind.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    role: Role
    """``decide``: drawn at random where two models disagree; ``learn``: ranked by gain."""
    old: Digest
    """sha256 of the model that is transferred."""
    adapted: Digest | None
    """sha256 of the adapted model; None where there is none."""
    adapted_path: Text | None
    """Where it is, seen from the file of questions."""
    target: Digest
    """Of the target's names and cells."""
    classes: Annotated[tuple[tuple[Name, str], ...], Field(min_length=2, max_length=255)]
    """(name, colour)"""
    cells: Count
    """Target cells that were looked at."""
    disagreements: Count
    """Those on which the models disagree."""
    before: Count
    """Questions asked before, in other files."""
    seed: Annotated[int, Field(ge=0)]
    software: Text
    positions: tuple[tuple[Count, Count, Count], ...] = ()
    """Image, row and column of each cell."""
    digests: tuple[int, ...] = ()
    """Of the cells' pixels."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(name for name, _ in self.classes)

    def to_json(self) -> str:
        """For the file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, source: Path) -> Self:
        """Inverse of `to_json`; LabelError when it is damaged, or another version wrote it."""
        where, hint = f"what {source} says of its questions", f"give the file that {_MAKER} wrote"
        stored = parse_json(text, _Stored, where, LabelError, hint)
        questions = cls(**{f.name: getattr(stored, f.name) for f in fields(cls)})
        if len(questions.positions) != len(questions.digests):
            raise LabelError(f"{where} is damaged: as many positions as digests are needed", hint)
        return questions


@dataclass(frozen=True, kw_only=True)
class _Stored(Questions):
    """`Questions` as the file has it."""

    format: Literal[1]


def write_questions(
    out: Path,
    questions: Questions,
    shapes: Sequence[shapely.Polygon],
    crs: object,
    scheme: ClassScheme,
) -> None:
    """Write the layer ``questions``: a polygon, an ``id`` and an empty ``truth`` for each cell.

    `crs` is that of the shapes, None for those on a sheet of image chips. Raises OutputError when
    the file cannot be written; then nothing is left behind.
    """
    n = len(questions.positions)
    columns = {"id": np.arange(1, n + 1, dtype=np.int32), "truth": np.full(n, None, object)}
    table = geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs)
    with atomic_geopackage(out) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # a sheet has none
        about = {_KEY: questions.to_json()}
        write_layer(table, part, LAYER, geometry_type="Polygon", dataset_metadata=about)
        add_layer_style(part, LAYER, scheme.name, cells_qml(scheme), "truth to fill in, and filled")


@dataclass(frozen=True, eq=False)
class AnsweredQuestions:
    """A file of questions, and what was filled in."""

    path: Path
    questions: Questions
    answers: Mapping[int, int]
    """Index of a question -> class id."""


def read_answers(path: Path) -> AnsweredQuestions:
    """The questions of `path` and the answers so far; empty ones are not answered.

    Raises LabelError when `write_questions` did not write the file, and for an answer that is no
    class, of a question that does not exist, or that contradicts another one.
    """
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    hint = f"give the file that {_MAKER} wrote and was filled in, not a copy of the layer"
    try:
        stored = (read_info(path, layer=LAYER)["dataset_metadata"] or {}).get(_KEY)
        table = read_dataframe(path, layer=LAYER, fid_as_index=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, KeyError) as e:
        raise LabelError(f"cannot read the layer '{LAYER}' of {path}: {e}", hint) from e
    if stored is None:
        raise LabelError(f"{path} does not hold what was asked", hint)
    if missing := [c for c in ("id", "truth") if c not in table.columns]:
        raise LabelError(f"the questions of {path} have no field '{missing[0]}'", hint)
    questions = Questions.from_json(stored, path)
    return AnsweredQuestions(path, questions, _class_ids(path, questions, table))


def keep_answers(path: Path) -> None:
    """Raise OutputError where `path` holds answers, valid or not: they are hours of work."""
    try:
        truth = read_dataframe(path, layer=LAYER, columns=["truth"], read_geometry=False)["truth"]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, KeyError):
        return
    count = (truth.astype(object).where(truth.notna(), "").astype(str).str.strip() != "").sum()
    if count:
        raise OutputError(
            f"{path} exists already, with {count} answers", "give another name, or move it away"
        )


def _class_ids(path: Path, questions: Questions, table: pd.DataFrame) -> dict[int, int]:
    texts = table["truth"].astype(object).where(table["truth"].notna(), "").astype(str).str.strip()
    filled = texts != ""
    ids = pd.to_numeric(table["id"], errors="coerce")[filled]
    known = {name.strip().casefold(): i for i, name in enumerate(questions.names)}
    wrong = [
        f"{number:g}: '{text[:40]}'"
        for number, text in zip(ids, texts[filled], strict=True)
        if text.casefold() not in known
    ]
    if wrong:
        raise LabelError(
            f"answers of {path} are no class of the model: {listed(wrong)}",
            "classes: " + ", ".join(questions.names),
        )
    foreign = [f"{n:g}" for n in ids if not (1 <= n <= len(questions.positions) and n == int(n))]
    if foreign:
        raise LabelError(
            f"{path} answers questions that were not asked, with the id {listed(foreign)}",
            f"ids are 1 to {len(questions.positions)}: delete the others",
        )
    answers: dict[int, int] = {}
    contradicted = []
    for number, text in zip(ids.astype(int), texts[filled], strict=True):
        class_id = known[text.casefold()]
        if answers.setdefault(number - 1, class_id) != class_id:
            contradicted.append(f"{number}")
    if contradicted:
        raise LabelError(
            f"{path} has two different answers to question {listed(contradicted)}",
            "delete one of each",
        )
    return answers


def listed(texts: Sequence[str]) -> str:
    """The first few of `texts`, and how many more there are."""
    more = f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return ", ".join(texts[:_MAX_LISTED]) + more
