"""Agreement of a map with ground truth: all figures of a confusion matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.validation import Count, Name, Schema, read_json, validated


class MetricsTable(Schema):
    """What `Metrics.to_dict` tells; all but these follow from them."""

    model_config = ConfigDict(extra="ignore")
    classes: dict[Name, Any] = Field(min_length=1, max_length=IGNORE)
    matrix: list[list[Count]]
    ignored: Count

    @model_validator(mode="after")
    def _square(self) -> "MetricsTable":
        n = len(self.classes)
        if [len(row) for row in self.matrix] != [n] * n:
            raise ValueError(f"matrix: its rows are not {n} of {n} numbers")
        return self


@dataclass(frozen=True, eq=False)
class Metrics:
    """Counts of pixels by true and mapped class, and the figures that follow from them.

    A figure without a denominator is nan: the IoU of a class in neither truth nor map, and such a
    class has no part in `mean_iou` or `mean_f1`. Merge parts of a map with ``+``.
    """

    names: tuple[str, ...]
    """Class names in the order of their ids."""
    matrix: np.ndarray
    """(classes, classes) int64 pixels; rows are the truth, columns the map"""
    ignored: int = 0
    """Pixels left out because truth or map say nothing there."""

    def __post_init__(self) -> None:
        n = len(self.names)
        if self.matrix.shape != (n, n):
            raise ValueError(f"a matrix of {self.matrix.shape} for {n} classes")

    @classmethod
    def empty(cls, names: Sequence[str]) -> "Metrics":
        """No pixel seen."""
        return cls(tuple(names), np.zeros((len(names), len(names)), np.int64))

    @classmethod
    def of(cls, names: Sequence[str], truth: np.ndarray, mapped: np.ndarray) -> "Metrics":
        """Compare two arrays of class ids of one shape; IGNORE in either leaves the pixel out.

        Raises LabelError when one holds an id without a name.
        """
        n = len(names)
        valid = (truth != IGNORE) & (mapped != IGNORE)
        t, m = truth[valid].astype(np.int64), mapped[valid].astype(np.int64)
        for ids, where in ((t, "the truth"), (m, "the map")):
            if ids.size and not 0 <= ids.min() <= ids.max() < n:
                invalid = ids.max() if ids.max() >= n else ids.min()
                raise LabelError(
                    f"{where} holds the class id {invalid}, not of {', '.join(names)}",
                    "evaluate with the scheme both were made with",
                )
        matrix = np.bincount(t * n + m, minlength=n * n).reshape(n, n)
        return cls(tuple(names), matrix.astype(np.int64), int(valid.size - t.size))

    def __add__(self, other: "Metrics") -> "Metrics":
        if self.names != other.names:
            raise ValueError(f"metrics of other classes: {self.names} and {other.names}")
        return Metrics(self.names, self.matrix + other.matrix, self.ignored + other.ignored)

    @property
    def pixels(self) -> int:
        """Pixels compared."""
        return int(self.matrix.sum())

    @property
    def overall_accuracy(self) -> float:
        """Share of the pixels whose class is right."""
        return _ratio(self._hits.sum(), self.matrix.sum())

    @property
    def kappa(self) -> float:
        """Cohen's kappa (1960): agreement beyond that of the class shares alone."""
        share = self.matrix / max(self.pixels, 1)
        chance = float(share.sum(0) @ share.sum(1))
        return _ratio(self.overall_accuracy - chance, 1 - chance)

    @property
    def iou(self) -> tuple[float, ...]:
        """Intersection over union of each class."""
        return _ratios(self._hits, self._truth + self._mapped - self._hits)

    @property
    def mean_iou(self) -> float:
        """Mean of the `iou` that there are."""
        return _mean(self.iou)

    @property
    def f1(self) -> tuple[float, ...]:
        """Harmonic mean of user's and producer's accuracy of each class (Dice)."""
        return _ratios(2 * self._hits, self._truth + self._mapped)

    @property
    def mean_f1(self) -> float:
        """Mean of the `f1` that there are."""
        return _mean(self.f1)

    @property
    def users_accuracy(self) -> tuple[float, ...]:
        """Precision of each class: the share of its mapped pixels that are true."""
        return _ratios(self._hits, self._mapped)

    @property
    def producers_accuracy(self) -> tuple[float, ...]:
        """Recall of each class: the share of its true pixels that are mapped."""
        return _ratios(self._hits, self._truth)

    @property
    def _hits(self) -> np.ndarray:
        return np.diagonal(self.matrix)

    @property
    def _truth(self) -> np.ndarray:
        return np.asarray(self.matrix.sum(1))

    @property
    def _mapped(self) -> np.ndarray:
        return np.asarray(self.matrix.sum(0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None."""
        classes = {
            name: {
                "iou": _plain(iou),
                "f1": _plain(f1),
                "users_accuracy": _plain(users),
                "producers_accuracy": _plain(producers),
                "truth_pixels": int(true),
            }
            for name, iou, f1, users, producers, true in zip(
                self.names,
                self.iou,
                self.f1,
                self.users_accuracy,
                self.producers_accuracy,
                self._truth,
                strict=True,
            )
        }
        return {
            "overall_accuracy": _plain(self.overall_accuracy),
            "mean_iou": _plain(self.mean_iou),
            "mean_f1": _plain(self.mean_f1),
            "kappa": _plain(self.kappa),
            "pixels": self.pixels,
            "ignored": self.ignored,
            "classes": classes,
            "matrix": self.matrix.tolist(),
        }

    @classmethod
    def from_dict(cls, tables: dict[str, Any]) -> "Metrics":
        """Inverse of `to_dict`; LabelError where it is something else."""
        return cls.from_table(
            validated(tables, MetricsTable, "a table of metrics", LabelError, "make it again")
        )

    @classmethod
    def from_table(cls, table: "MetricsTable") -> "Metrics":
        """Inverse of `to_dict`: the figures follow from the matrix."""
        return cls(tuple(table.classes), np.array(table.matrix, np.int64), table.ignored)

    @classmethod
    def read(cls, path: Path) -> "Metrics":
        """From a file that holds `to_dict` as JSON; LabelError where it is damaged."""
        return cls.from_table(read_json(path, MetricsTable, LabelError, "make it again"))

    def to_markdown(self) -> str:
        """Two tables: the whole map, and each class; percent."""
        lines = [
            "| pixels | left out | overall accuracy | mean IoU | mean F1 | kappa |",
            "|---:|---:|---:|---:|---:|---:|",
            f"| {self.pixels} | {self.ignored} | {_percent(self.overall_accuracy)} |"
            f" {_percent(self.mean_iou)} | {_percent(self.mean_f1)} | {_number(self.kappa)} |",
            "",
            "| class | IoU | F1 | user's accuracy | producer's accuracy | true pixels |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        columns = (self.iou, self.f1, self.users_accuracy, self.producers_accuracy)
        for name, true, *figures in zip(self.names, self._truth, *columns, strict=True):
            row_text = " | ".join(_percent(x) for x in figures)
            lines.append(f"| {name.replace('|', '/')} | {row_text} | {true} |")
        return "\n".join(lines) + "\n"


def _ratio(a: float, b: float) -> float:
    return float(a) / float(b) if b else math.nan


def _ratios(a: np.ndarray, b: np.ndarray) -> tuple[float, ...]:
    return tuple(_ratio(x, y) for x, y in zip(a, b, strict=True))


def _mean(figures: Sequence[float]) -> float:
    finite = [x for x in figures if not math.isnan(x)]
    return sum(finite) / len(finite) if finite else math.nan


def _plain(x: float) -> float | None:
    return None if math.isnan(x) else x


def _percent(x: float) -> str:
    return "n/a" if math.isnan(x) else f"{100 * x:.2f} %"


def _number(x: float) -> str:
    return "n/a" if math.isnan(x) else f"{x:.4f}"
