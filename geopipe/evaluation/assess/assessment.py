"""Assessment: the report of an accuracy assessment, as JSON and as Markdown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.evaluation.assess.design import SampleDesign
from geopipe.evaluation.assess.olofsson import Estimate, Estimates
from geopipe.files import atomic_file, check_new_file

_METHOD = (
    "Stratified estimators of Olofsson et al. 2014 (Remote Sensing of Environment 148:42-57),"
    " strata: the mapped classes, weights: their areas on the ground; +- is half of a 95 %"
    " interval (1.96 standard errors)."
)
_MAX_LISTED = 20
"""So many points of a kind are listed by name in Markdown; JSON has all."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """What the points say of the map."""

    design: SampleDesign
    estimates: Estimates
    """Areas in square metres."""
    map_name: str
    left_out: Mapping[str, tuple[str, ...]]
    """Reason -> points not used, by their ids."""
    kept_moved: int = 0
    """Points used although they were moved."""

    @property
    def used_per_class(self) -> tuple[int, ...]:
        """Points used of each mapped class."""
        return tuple(self.estimates.counts.sum(1).tolist())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures has to know."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        design, counts = self.design, self.estimates.counts
        for i, (name, used_count) in enumerate(zip(design.names, self.used_per_class, strict=True)):
            is_census = used_count == design.pixels[i]
            if used_count and is_census:
                yield f"{name}: every pixel of the class was looked at, so it adds no uncertainty"
            elif used_count == 1:
                yield (
                    f"{name}: 1 usable point, so the variance in this stratum is unknown, and each"
                    " interval that depends on it is n/a"
                )
            elif used_count and counts[i].max() == used_count:
                bound = 1 - 0.05 ** (1 / used_count)
                yield (
                    f"{name}: all {used_count} points have one truth, so the formulas find no "
                    "variance in"
                    f" this stratum; a share of up to {100 * bound:.2g} % of another class cannot"
                    " be excluded (95 %)"
                )
        unused = sum(design.points) - sum(self.used_per_class)
        if unused:
            yield (
                f"{unused} of the {sum(design.points)} planned points were not used; the figures"
                " hold if these are no other kind of place than the rest"
            )
        if self.kept_moved:
            yield f"points used although they were moved to another pixel: {self.kept_moved}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is unknown is None."""
        estimates, design = self.estimates, self.design
        classes = {
            name: {
                "pixels": design.pixels[i],
                "mapped_ha": design.area_m2[i] / 1e4,
                "planned_points": design.points[i],
                "used_points": self.used_per_class[i],
                "users_accuracy": _plain(estimates.users[i]),
                "producers_accuracy": _plain(estimates.producers[i]),
                "area_ha": _plain(estimates.areas[i].times(1e-4)),
            }
            for i, name in enumerate(design.names)
        }
        return {
            "map": self.map_name,
            "map_sha256": design.sha256,
            "seed": design.seed,
            "area": design.area,
            "overall_accuracy": _plain(estimates.overall),
            "kappa": None if math.isnan(estimates.kappa) else estimates.kappa,
            "classes": classes,
            "counts": estimates.counts.tolist(),
            "proportions": estimates.proportions.tolist(),
            "left_out": {reason: list(ids) for reason, ids in self.left_out.items()},
            "moved_but_used": self.kept_moved,
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """A report of its own."""
        estimates, design, names = self.estimates, self.design, self.design.names
        kappa = "n/a" if math.isnan(estimates.kappa) else f"{round(estimates.kappa, 4) + 0.0:.4f}"
        where = f", inside {design.area}" if design.area else ""
        lines = [
            f"# Accuracy of {self.map_name}{where}",
            "",
            f"Overall accuracy **{_percent(estimates.overall)}**; kappa {kappa}; "
            f"{sum(self.used_per_class)} of"
            f" {sum(design.points)} planned points used.",
            "",
            *_table(
                [
                    "class",
                    "points",
                    "user's accuracy",
                    "producer's accuracy",
                    "mapped ha",
                    "estimated ha",
                ],
                (
                    [
                        _cell(name),
                        str(self.used_per_class[i]),
                        _percent(estimates.users[i]),
                        _percent(estimates.producers[i]),
                        f"{design.area_m2[i] / 1e4:,.2f}",
                        _hectares(estimates.areas[i].times(1e-4)),
                    ]
                    for i, name in enumerate(names)
                ),
            ),
            "",
            *_matrix("points", names, estimates.counts, "{:d}"),
            "",
            *_matrix("share of the area", names, estimates.proportions, "{:.4f}"),
            "",
        ]
        if self.left_out:
            rows = ([reason, str(len(ids)), _listed(ids)] for reason, ids in self.left_out.items())
            lines += [*_table(["not used", "points", "id"], rows), ""]
        lines += [f"- {note}" for note in self.notes] + [""] * bool(self.notes)
        lines += [_METHOD, "", f"Seed {design.seed}; map SHA-256 (pixels) {design.sha256}"]
        return "\n".join(lines) + "\n"


def check_report(path: Path, overwrite: bool, sources: Sequence[Path]) -> None:
    """Raise OutputError where `write_report` would fail, or replace one of `sources`."""
    check_new_file(path, overwrite=overwrite, sources=sources)


def write_report(path: Path, assessment: Assessment) -> None:
    """Write the report as Markdown, whole or not at all."""
    with atomic_file(path) as part:
        part.write_text(assessment.to_markdown(), encoding="utf-8")


def _table(head: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    rule = "|---|" + "---:|" * (len(head) - 1)
    return ["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(r) + " |" for r in rows)]


def _matrix(title: str, names: Sequence[str], matrix: np.ndarray, form: str) -> list[str]:
    """Rows are the map, columns the truth, with sums."""

    def rows() -> Iterator[list[str]]:
        for name, row in zip((*names, "sum"), np.vstack([matrix, matrix.sum(0)]), strict=True):
            yield [_cell(name), *(form.format(x) for x in row), form.format(row.sum())]

    return _table([f"{title}: map \\ truth", *map(_cell, names), "sum"], rows())


def _cell(name: str) -> str:
    return name.replace("|", "/")


def _listed(ids: Sequence[str]) -> str:
    suffix = f" and {len(ids) - _MAX_LISTED} more" if len(ids) > _MAX_LISTED else ""
    return ", ".join(ids[:_MAX_LISTED]) + suffix


def _plain(e: Estimate) -> dict[str, float | None]:
    figures = {"value": e.value, "se": e.se, "half_width": e.half_width}
    return {k: None if math.isnan(x) else float(x) for k, x in figures.items()}


def _percent(e: Estimate) -> str:
    if math.isnan(e.value):
        return "n/a"
    half_width_text = "n/a" if math.isnan(e.se) else f"{100 * e.half_width:.2f}"
    return f"{100 * e.value:.2f} % +- {half_width_text}"


def _hectares(e: Estimate) -> str:
    half_width_text = "n/a" if math.isnan(e.se) else f"{e.half_width:,.2f}"
    return f"{e.value:,.2f} +- {half_width_text}"
