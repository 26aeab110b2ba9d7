"""LabelQC: check and align the vector labels of a scene."""

import logging
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
import torch

from geopipe.checkpoint import Checkpoint, downsampled
from geopipe.classes import ClassScheme
from geopipe.errors import CheckpointError, LabelError
from geopipe.grid import Tiling, Window, ground_gsd
from geopipe.labels import ClippedLabels, LabelSource, fetch_labels, is_fetched
from geopipe.labels.extent import Extent, reproject
from geopipe.labels.tables import Table, open_tables
from geopipe.mapping.tile import score_window
from geopipe.raster import Raster, Scene
from geopipe.raster.scene import opened, window_geobox
from geopipe.register import (
    ClassLikelihood,
    DisplacementField,
    RegistrationGrid,
    estimate_field,
    fit_labels,
)
from geopipe.register.qc_tiles import QCResult, QCTile, examine, qc_tile_px

log = logging.getLogger(__name__)

CONFIDENT = "accepted"
MAX_SHIFT_M = 8.0
"""Metres: how far labels are looked for from where they are."""
QC_TILE_M = 200.0
_TILE_PX = 512
"""Side of what a model sees at a time, so that memory does not depend on who asks."""


@dataclass(frozen=True)
class ModelLikelihood:
    """The probabilities of a model, on a plane."""

    model: Checkpoint
    grid: RegistrationGrid
    device: str = "cpu"

    def read(self, window: Window, needed: np.ndarray | None = None) -> np.ndarray:
        """(classes, h, w) float32 of `window`; 0 where the image is not valid.

        Tiles in which nothing is `needed` (h, w) are 0 too.
        """
        out = np.zeros((len(self.model.scheme), *window.shape), np.float32)
        inside = window.clip(self.grid.shape)
        for tile in Tiling(inside.shape, _TILE_PX) if inside.height and inside.width else ():
            core = tile.core
            part = Window(inside.row + core.row, inside.col + core.col, *core.shape)
            inside_window = part.within(window)
            if needed is None or needed[inside_window].any():
                out[(slice(None), *inside_window)] = self._part_likelihood(part)
        return out

    def _part_likelihood(self, part: Window) -> np.ndarray:
        """As `read`, of a part of the plane."""
        scene, grid = self.grid.scene, self.grid.network_grid
        source = grid.averaged_from(part)
        inner = source.clip(scene.shape)  # the plane's last pixels stick out of the scene
        probabilities = np.zeros((len(self.model.scheme), *source.shape), np.float32)
        (scores,) = score_window(self.model, scene, inner, device=self.device)
        probabilities[(slice(None), *inner.within(source))] = (
            torch.softmax(scores.float(), 0).cpu().numpy()
        )
        raster = Raster(
            probabilities, scene.read(source).valid, window_geobox(scene.geobox, source)
        )
        pixels, _ = downsampled(raster, grid, part)
        return pixels.numpy()


@dataclass(frozen=True)
class LabelQC:
    """A scene and its labels under examination."""

    scene: Scene
    source: LabelSource
    model: Path | None = None
    max_shift: float = MAX_SHIFT_M
    seed: int = 0

    @property
    def scheme(self) -> ClassScheme:
        """The classes of the labels."""
        return self.source.scheme

    @cached_property
    def grid(self) -> RegistrationGrid:
        """Where labels and image are held against each other; LabelError for a label raster."""
        return RegistrationGrid.of(self.scene, self.source)

    @property
    def likelihood(self) -> ClassLikelihood:
        """The model's, or that of classifiers fitted on the labels."""
        return self._field_and_likelihood[1]

    @property
    def field(self) -> DisplacementField:
        """Where the labels have to go."""
        return self._field_and_likelihood[0]

    @cached_property
    def _field_and_likelihood(self) -> tuple[DisplacementField, ClassLikelihood]:
        if self.model is None:
            return fit_labels(self.grid, self.source, self.max_shift, self.seed)
        likelihood = ModelLikelihood(self._checked_model(self.model), self.grid)
        return estimate_field(self.grid, likelihood, self.max_shift), likelihood

    def _checked_model(self, path: Path) -> Checkpoint:
        """The model; CheckpointError when it is not for this scene and these labels."""
        model = Checkpoint.load(path)
        for warning in model.check_fits(self.scene):
            log.warning(warning)
        if model.scheme.names != self.scheme.names:
            raise CheckpointError(
                f"the model knows {', '.join(model.scheme.names)}, the labels "
                f"{', '.join(self.scheme.names)}",
                "give the model's class scheme as `classes`",
            )
        return model

    def tiles(self, side: float = QC_TILE_M) -> tuple[QCTile, ...]:
        """What is known, tile by tile of `side` metres, inside the area of the labels."""
        return self.examine(side).tiles

    def examine(self, side: float = QC_TILE_M) -> QCResult:
        """As `tiles`, and what is known of single objects."""
        area = self.source.area if isinstance(self.source, ClippedLabels) else None
        return examine(self.grid, self.likelihood, self.field, side, area)

    def estimates(self) -> dict[str, dict[str, int]]:
        """By class: how many estimates of a shift are accepted, and how many refused and why."""
        counts: dict[str, Counter[str]] = {name: Counter() for name in self.scheme.names[1:]}
        for tie_point in self.field.tie_points:
            counts[self.scheme.names[tie_point.class_id]][tie_point.rejected or CONFIDENT] += 1
        return {name: dict(counted.most_common()) for name, counted in counts.items()}

    def left_out(self) -> dict[str, int]:
        """Features that are not used, and those that were repaired, by reason."""
        labels = self.grid.labels
        repaired = {"invalid polygon, repaired": labels.repaired} if labels.repaired else {}
        return dict(labels.skipped) | repaired


NO_BUFFER = (
    "an ignore buffer is no substitute: where it was measured, one as wide as the shift made the "
    "base network worse by 2.5 to 10 points of mean IoU"
)
"""docs/results/noisy-labels.md: Forez -9.8, Banepa -2.5 points."""


def with_dates(
    tiles: tuple[QCTile, ...],
    grid: RegistrationGrid,
    tables: list[Table],
    side: float = QC_TILE_M,
) -> tuple[QCTile, ...]:
    """`tiles` of `side` metres with the dates of the features of `tables` that lie in them."""
    dates_by_tile: dict[tuple[int, int, int], list[str]] = {}
    step = qc_tile_px(grid, side)
    for table in tables:
        dates = table.dates
        if dates is None:
            continue
        centres = shapely.point_on_surface(np.asarray(table.frame.geometry.array, object))
        located = np.flatnonzero(~shapely.is_missing(centres) & ~shapely.is_empty(centres))
        points = reproject(centres[located], table.crs, Extent(grid.scene.geobox).crs)
        tile_positions = grid.to_px(shapely.get_coordinates(points)) // step
        for i, position in zip(located, tile_positions, strict=True):
            class_id, edit_date = table.class_ids[i], dates[i]
            if class_id is not None and edit_date is not None and np.isfinite(position).all():
                row, col = position.astype(int).tolist()
                dates_by_tile.setdefault((class_id, row, col), []).append(edit_date)
    return tuple(
        replace(b, dates=tuple(sorted(dates_by_tile.get(_key(b, step), [])))) for b in tiles
    )


def _key(tile: QCTile, step: int) -> tuple[int, int, int]:
    return tile.class_id, tile.window.row // step, tile.window.col // step


def suggestions(tiles: tuple[QCTile, ...], scene: Scene, capture_date: date | None) -> list[str]:
    """What to do about the labels, in words."""
    lines = []
    shifts = [b for b in tiles if b.features and not b.rejected]
    if shifts:
        weights = np.array([b.features for b in shifts])
        lengths = np.repeat([b.length for b in shifts], weights)
        errors = np.repeat([b.error for b in shifts], weights)
        median, upper_quartile = float(np.median(lengths)), float(np.percentile(lengths, 75))
        lines.append(
            f"labels are off by {median:.1f} m in the median, a quarter by over "
            f"{upper_quartile:.1f} m"
        )
        minimum = max(0.5, *ground_gsd(scene.geobox))
        if median > max(minimum, 2 * float(np.median(errors))):
            lines.append("align them: geopipe labels align (geopipe train does it by itself)")
            lines.append(NO_BUFFER)
    else:
        lines.append("no shift is known: the evidence is too weak everywhere")
    edited_later = [
        d for b in tiles for d in b.dates if capture_date and d[:10] > capture_date.isoformat()
    ]
    if edited_later:
        lines.append(
            f"{len(edited_later)} features were last edited after the image was taken "
            f"({capture_date})"
        )
    return lines


def omission_summary(result: QCResult, scheme: ClassScheme, grid: RegistrationGrid) -> list[str]:
    """How many objects of each class are missing in the labels, in words."""
    lines = []
    for class_id, omission in enumerate(result.omissions, 1):
        name = scheme.names[class_id]
        labelled = sum(1 for i in result.likelihoods if grid.labels.ids[i] == class_id)
        if np.isnan(omission.expected):
            lines.append(f"{name}: how many are missing in the labels is not known")
            continue
        missing = round(omission.expected)
        share = missing / max(1, missing + labelled)
        listed = f", {len(omission.spots)} places to look at" if omission.spots else ""
        lines.append(f"{name}: about {missing} are missing ({100 * share:.0f} %){listed}")
    return lines


def date_summary(tiles: tuple[QCTile, ...], capture_date: date | None) -> str:
    """When the labels were last edited, against when the image was taken, in words."""
    dates = sorted(d for b in tiles for d in b.dates)
    image = (
        f"the image was taken on {capture_date}"
        if capture_date
        else "the image does not say when it was taken (give its date)"
    )
    if not dates:
        return f"no feature says when it was last edited; {image}"
    median = dates[(len(dates) - 1) // 2]
    return f"last edited {dates[0]} to {dates[-1]}, {median} in the median; {image}"


def image_date(scene: Scene) -> date | None:
    """When the image was taken, if its tags say."""
    with opened(scene.path) as src:
        tags = {k.casefold(): v for k, v in {**src.tags(), **src.tags(ns="IMAGERY")}.items()}
    for name in ("acquisitiondatetime", "acquisition_date", "acquisitiondate", "datetime"):
        for key in (name, f"tifftag_{name}"):
            text = tags.get(key, "").replace(":", "-", 2)[:10]
            try:
                return date.fromisoformat(text)
            except ValueError:
                continue
    return None


def tables_of(
    path: Path,
    scheme: ClassScheme,
    scene: Scene,
    layer: str | None,
    all_are: str | None = None,
) -> list[Table]:
    """The features of a vector file, or of fetched labels, with all their attributes."""
    if is_fetched(path):
        path = fetch_labels(path, scene.geobox, scheme)
    tables = open_tables(path, scheme, Extent(scene.geobox), layer, all_are)
    if not any(len(t.frame) for t in tables):
        raise LabelError(f"{path} has no feature near {scene.path}", "check the place of both")
    return tables
