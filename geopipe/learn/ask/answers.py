"""The answers of one or more files of questions, checked against a model and a target."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geopipe.checkpoint import file_hash
from geopipe.errors import CheckpointError, LabelError
from geopipe.learn.ask import AnsweredQuestions, listed, read_answers
from geopipe.learn.patches import PatchGrid

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answers:
    """Answered questions in the order in which they were asked."""

    files: tuple[AnsweredQuestions, ...]
    indices: np.ndarray
    """(n,) int64: cells of the target"""
    ids: np.ndarray
    """(n,) int64: class ids"""
    deciding: np.ndarray
    """(n,) bool: drawn at random where two models disagree"""
    places: np.ndarray
    """(questions,) int64: all cells that were asked about, answered or not"""

    @property
    def question_count(self) -> int:
        """Questions of all files."""
        return sum(len(f.questions.positions) for f in self.files)

    def adapted(self, given: Path | None) -> Path | None:
        """The adapted model of the questions, at `given` or where it was; None without one.

        Raises CheckpointError when it is not there, or another one is.
        """
        stored = next((f for f in self.files if f.questions.adapted), None)
        if stored is None:
            return None
        questions = stored.questions
        path = given or stored.path.resolve().parent / str(questions.adapted_path)
        if not path.is_file():
            raise CheckpointError(
                f"the adapted model of {stored.path} is not at {path}",
                "give where it is now as `adapted`",
            )
        if file_hash(path) != questions.adapted:
            raise CheckpointError(
                f"{path} is not the adapted model that {stored.path} asks about",
                "give that model as `adapted`",
            )
        return path


def gathered(paths: Sequence[Path], model: Path, target: str, cells: PatchGrid) -> Answers:
    """The answers in `paths`, which were asked of `model` and the cells of the target.

    Raises LabelError for files of another target, answers that contradict each other, and where a
    file is missing; CheckpointError for those of another model. Warns of cells that look the same
    and were answered differently.
    """
    files = sorted(map(read_answers, dict.fromkeys(paths)), key=lambda f: f.questions.before)
    before = 0
    for file in files:
        _check_origin(file, model, target)
        if file.questions.before != before:
            raise LabelError(
                f"{file.path} was asked after {file.questions.before} other questions, "
                f"{before} of which are given",
                "give all files of questions, once each, by `answers`",
            )
        before += len(file.questions.positions)
    index = {tuple(p): i for i, p in enumerate(cells.positions.tolist())}
    answers: dict[int, tuple[int, bool]] = {}
    looks: dict[int, tuple[int, str]] = {}
    places = []
    contradicted, alike = [], []
    for file in files:
        questions = file.questions
        if wrong := [p for p in questions.positions if p not in index]:
            raise LabelError(
                f"{file.path} is damaged: the target has no cell {wrong[0]}",
                "give the file that 'geopipe transfer --ask' wrote",
            )
        places += [index[p] for p in questions.positions]
        for number, class_id in sorted(file.answers.items()):
            name = f"{number + 1} of {file.path.name}"
            cell = index[questions.positions[number]]
            if answers.setdefault(cell, (class_id, questions.role == "decide"))[0] != class_id:
                contradicted.append(name)
            seen, other = looks.setdefault(questions.digests[number], (class_id, name))
            if seen != class_id:
                alike.append(f"{other} and {name}")
    if contradicted:
        raise LabelError(
            f"another answer to the same place was given before question {listed(contradicted)}",
            "change one of the two",
        )
    if alike:
        log.warning("equal pixels have different answers: questions %s", listed(alike))
    return Answers(
        tuple(files),
        np.fromiter(answers, np.int64, len(answers)),
        np.array([class_id for class_id, _ in answers.values()], np.int64),
        np.array([decides for _, decides in answers.values()], bool),
        np.array(places, np.int64),
    )


def _check_origin(file: AnsweredQuestions, model: Path, target: str) -> None:
    questions = file.questions
    if questions.old != file_hash(model):
        raise CheckpointError(
            f"{file.path} asks about another model than {model}",
            "give the model that it was made with",
        )
    if questions.target != target:
        raise LabelError(
            f"{file.path} asks about another target",
            "give the `targets`, `max_samples` and `seed` that it was made with",
        )
