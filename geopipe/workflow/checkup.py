"""Check and align labels: a scene, its vectors and, if there is one, a model, brought together."""

import logging
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
import torch

from geopipe.checkpoint import Checkpoint, averaged
from geopipe.classes import ClassScheme
from geopipe.errors import CheckpointError, LabelError
from geopipe.grid import Window, ground_gsd
from geopipe.labels import LabelSource, LimitedLabels, fetch_osm
from geopipe.labels.place import Place, reproject
from geopipe.labels.tables import Table, open_tables
from geopipe.raster import Raster, Scene
from geopipe.raster.scene import window_geobox
from geopipe.register import Belief, Plane, QuickLook, ShiftField, estimate_field
from geopipe.register.check import Block, check_blocks
from geopipe.score.tile import score_window

log = logging.getLogger(__name__)

MOST_M = 8.0
"""Metres: how far labels are looked for from where they are."""
BLOCK_M = 200.0


@dataclass(frozen=True)
class ModelBelief:
    """The probabilities of a model, on a plane."""

    model: Checkpoint
    plane: Plane
    device: str = "cpu"

    def read(self, window: Window) -> np.ndarray:
        """(classes, h, w) float32 of `window`; 0 where the image is not valid."""
        scene, grid = self.plane.scene, self.plane.grid
        source = grid.averaged_from(window)
        (scores,) = score_window(self.model, scene, source, device=self.device)
        likely = torch.softmax(scores.float(), 0).cpu().numpy()
        box = window_geobox(scene.geobox, source)
        raster = Raster(likely, scene.read(source).valid, box)
        pixels, _ = averaged(raster, grid, window)
        return pixels.numpy()


@dataclass(frozen=True)
class Checkup:
    """A scene and its labels under examination."""

    scene: Scene
    source: LabelSource
    model: Path | None = None
    most: float = MOST_M
    seed: int = 0

    @property
    def scheme(self) -> ClassScheme:
        """The classes of the labels."""
        return self.source.scheme

    @cached_property
    def plane(self) -> Plane:
        """Where labels and image are held against each other; LabelError for a label raster."""
        return Plane.of(self.scene, self.source)

    @cached_property
    def belief(self) -> Belief:
        """The model's, or that of classifiers fitted on the labels."""
        if self.model is None:
            return QuickLook.fit(self.plane, self.source, self.seed)
        model = Checkpoint.load(self.model)
        for warning in model.check_fits(self.scene):
            log.warning(warning)
        if model.scheme.names != self.scheme.names:
            raise CheckpointError(
                f"the model knows {', '.join(model.scheme.names)}, the labels "
                f"{', '.join(self.scheme.names)}",
                "give the model's class scheme with --classes",
            )
        return ModelBelief(model, self.plane)

    @cached_property
    def field(self) -> ShiftField:
        """Where the labels have to go."""
        return estimate_field(self.plane, self.belief, self.most)

    def blocks(self, side: float = BLOCK_M) -> tuple[Block, ...]:
        """What is known, block by block of `side` metres, inside the area of the labels."""
        blocks = check_blocks(self.plane, self.belief, self.field, side)
        if isinstance(self.source, LimitedLabels):
            area = self.source.area
            blocks = tuple(
                b for b in blocks if area.inside(window_geobox(self.plane.geobox, b.window)).any()
            )
        return blocks


def dated(blocks: tuple[Block, ...], plane: Plane, tables: list[Table]) -> tuple[Block, ...]:
    """`blocks` with the dates of the features of `tables` that lie in them."""
    found: dict[tuple[int, int, int], list[str]] = {}
    side = max((b.window.height for b in blocks), default=1)
    for table in tables:
        dates = table.dates
        if dates is None:
            continue
        centres = shapely.point_on_surface(np.asarray(table.frame.geometry.array, object))
        places = reproject(centres, table.crs, Place(plane.scene.geobox).crs)
        for place, class_id, when in zip(places, table.class_ids, dates, strict=True):
            if class_id is not None and when is not None and not place.is_empty:
                ((row, col),) = plane.to_px(shapely.get_coordinates(place))
                found.setdefault((class_id, int(row) // side, int(col) // side), []).append(when)
    return tuple(
        replace(
            b,
            dates=tuple(
                sorted(found.get((b.class_id, b.window.row // side, b.window.col // side), []))
            ),
        )
        for b in blocks
    )


def suggestions(blocks: tuple[Block, ...], scene: Scene, taken: date | None) -> list[str]:
    """What to do about the labels, in words."""
    said = []
    shifts = [b for b in blocks if b.features and not b.refused]
    if shifts:
        weights = np.array([b.features for b in shifts])
        lengths = np.repeat([b.length for b in shifts], weights)
        errors = np.repeat([b.error for b in shifts], weights)
        typical, wide = float(np.median(lengths)), float(np.percentile(lengths, 75))
        said.append(
            f"labels are off by {typical:.1f} m in the median, a quarter by over {wide:.1f} m"
        )
        least = max(0.5, *ground_gsd(scene.geobox))
        if typical > max(least, 2 * float(np.median(errors))):
            said.append("align them: geopipe labels align")
        band = band_width(blocks, scene)
        said.append(f"or ignore outlines: --ignore-band {band:g} ({least:g} once aligned)")
    else:
        said.append("no shift is known: the evidence is too weak everywhere")
    late = [d for b in blocks for d in b.dates if taken and d[:10] > taken.isoformat()]
    if late:
        said.append(f"{len(late)} features were last edited after the image was taken ({taken})")
    return said


def band_width(blocks: tuple[Block, ...], scene: Scene) -> float:
    """Metres to ignore along outlines: what three quarters of the labels are off by at most."""
    lengths = [b.length for b in blocks if b.features and not b.refused for _ in range(b.features)]
    least = max(0.5, *ground_gsd(scene.geobox))
    wide = float(np.percentile(lengths, 75)) if lengths else 0.0
    return round(max(least, wide) * 2) / 2


def image_date(scene: Scene) -> date | None:
    """When the image was taken, if its tags say."""
    import rasterio

    with rasterio.open(scene.path) as src:
        tags = {k.casefold(): v for k, v in {**src.tags(), **src.tags(ns="IMAGERY")}.items()}
    for name in ("acquisitiondatetime", "acquisition_date", "acquisitiondate", "datetime"):
        for key in (name, f"tifftag_{name}"):
            text = tags.get(key, "").replace(":", "-", 2)[:10]
            try:
                return date.fromisoformat(text)
            except ValueError:
                continue
    return None


def tables_of(path: Path, scheme: ClassScheme, scene: Scene, layer: str | None) -> list[Table]:
    """The features of a vector file with all they say; ``fetch``: asked from OpenStreetMap."""
    from geopipe.labels import default_cache
    from geopipe.workflow.schema import FETCH

    if str(path) == FETCH:
        path = fetch_osm(scene.geobox, scheme, default_cache())
    tables = open_tables(path, scheme, Place(scene.geobox), layer)
    if not any(len(t.frame) for t in tables):
        raise LabelError(f"{path} has no feature near {scene.path}", "check the place of both")
    return tables
