"""Windows of a mapped scene in which accurate outlines would help the model most."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from shapely import STRtree
from shapely.geometry.base import BaseGeometry

from geopipe.checkpoint import Checkpoint
from geopipe.errors import ConfigError, OutputError, SceneError
from geopipe.labels.drawn import DrawingWindow, drawn_windows, is_drawing_file, write_drawing_file
from geopipe.labels.openvector import read_dataframe
from geopipe.mapping import choose_device
from geopipe.mapping.map_item import map_model, mapped_scene, read_map_item
from geopipe.mapping.out_of_domain import LAYER
from geopipe.mapping.uncertainty import WindowUncertainty, window_uncertainties
from geopipe.raster.geopackage import check_target
from geopipe.raster.scene import window_polygon

_MAX_NOVELTY = 3.0
"""Beyond this distance from the training images a window gains no more weight."""


@dataclass(frozen=True)
class DrawingPlan:
    """Which windows to ask for."""

    count: int = 20
    metres: float = 100.0
    """A side of a window."""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.metres < 1e5:
            raise ConfigError(
                f"{self.count} windows of {self.metres:g} m", "ask for at least one of some metres"
            )


@dataclass(frozen=True)
class DrawingWindows:
    """What was asked for."""

    path: Path
    windows: tuple[DrawingWindow, ...]
    total: int
    """Windows of the scene."""


def ask_where_to_draw(
    folder: Path,
    out: Path,
    plan: DrawingPlan | None = None,
    *,
    model: Path | None = None,
    scene: Sequence[str] = (),
    drawn: Sequence[Path] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> DrawingWindows:
    """Write the windows in which accurate outlines would help most to the GeoPackage `out`.

    A window's gain is the area that the model is expected to have wrong there (see
    `window_uncertainties`), times how far it is from the training images where it is beyond their
    limit (``out_of_domain.gpkg`` of the map). The best windows that do not touch each other come
    first.

    Args:
        folder: The folder of a map, or its ``classes.tif``.
        out: The file to draw in.
        plan: How many windows, and how large.
        model: Where the map's model is, if it was moved.
        scene: Where its scene is, if it was moved.
        drawn: Earlier files; their windows that are marked as drawn are not asked for again.
        device: Where the network runs.
        overwrite: Replace `out`, unless something was drawn in it.

    Raises:
        SceneError: It is no map, or its scene was moved or changed, or no window of it is valid.
        CheckpointError: Its model was moved or changed.
    """
    plan = plan or DrawingPlan()
    check_target(out, overwrite=overwrite, sources=drawn)
    _keep_outlines(out)
    folder = folder.parent if folder.name == "classes.tif" else folder
    item, tags = read_map_item(folder)
    model_path, _ = map_model(model, item, tags, folder)
    with tempfile.TemporaryDirectory(prefix="geopipe-ask-") as work:
        source, _ = mapped_scene(scene, item, tags, folder, Path(work))
        checkpoint = Checkpoint.load(model_path)
        finished = _shapes_of(drawn)
        foreign = _ForeignCells.read(folder / "out_of_domain.gpkg")
        uncertainties = window_uncertainties(source, checkpoint, plan.metres, choose_device(device))
        windows = list(_drawing_windows(uncertainties, source.geobox, foreign, finished))
    if not windows:
        raise SceneError(
            f"{source.path} has no valid window of {plan.metres:g} m left",
            "ask for smaller ones with `metres`" if not drawn else "all of it was drawn",
        )
    best = _spread(windows, plan.count)
    write_drawing_file(out, best, source.geobox, checkpoint.scheme)
    return DrawingWindows(out, tuple(best), len(windows))


def _keep_outlines(out: Path) -> None:
    """Raise OutputError rather than overwrite what somebody drew."""
    if not is_drawing_file(out):
        return
    count = len(read_dataframe(out, layer="outlines", columns=[]))
    if count:
        raise OutputError(
            f"{out} exists already, with {count} outlines", "give another name, or move it away"
        )


def _shapes_of(files: Iterable[Path]) -> list[shapely.Geometry]:
    """The windows that were drawn before."""
    shapes: list[shapely.Geometry] = []
    for path in files:
        if not is_drawing_file(path):
            raise ConfigError(
                f"{path} is no file of windows to draw in", "give one that geopipe ask wrote"
            )
        shapes += list(drawn_windows(path))
    return shapes


@dataclass(frozen=True, eq=False)
class _ForeignCells:
    """The cells of a map that are unlike the training images."""

    shapes: np.ndarray
    scores: np.ndarray
    tree: STRtree

    @classmethod
    def read(cls, path: Path) -> "_ForeignCells":
        """Those of a map; none where the map has no such file."""
        shapes, scores = np.empty(0, object), np.empty(0)
        if path.is_file():
            frame = read_dataframe(path, layer=LAYER, columns=["score"])
            shapes, scores = np.asarray(frame.geometry.array, object), frame["score"].to_numpy()
        return cls(shapes, scores, STRtree(shapes))

    def of(self, shape: BaseGeometry) -> tuple[float, float]:
        """Share of the shape that is foreign, and its mean distance, 1 where it is not."""
        near = self.tree.query(shape, predicate="intersects")
        areas = shapely.area(shapely.intersection(self.shapes[near], shape)) / shape.area
        share = min(float(areas.sum()), 1.0)
        excess = float((areas * (np.minimum(self.scores[near], _MAX_NOVELTY) - 1)).sum())
        return share, 1 + max(excess, 0.0)


def _drawing_windows(
    uncertainties: Iterable[WindowUncertainty],
    geobox: GeoBox,
    foreign: _ForeignCells,
    finished: Sequence[shapely.Geometry],
) -> Iterator[DrawingWindow]:
    tree = STRtree(list(finished))
    for uncertainty in uncertainties:
        shape = window_polygon(geobox, uncertainty.window)
        if len(tree.query(shape.centroid, predicate="intersects")):
            continue
        share, novelty = foreign.of(shape)
        yield DrawingWindow(shape, uncertainty.area_m2 * novelty, uncertainty.share, share)


def _spread(windows: Sequence[DrawingWindow], count: int) -> list[DrawingWindow]:
    """The best windows, first those that do not touch a better one, then the others."""
    order = sorted(windows, key=lambda w: -w.gain_m2)
    shapes = np.array([w.shape for w in order], object)
    tree = STRtree(shapes)
    is_free = np.ones(len(order), bool)
    first: list[int] = []
    for i, shape in enumerate(shapes):
        if len(first) == count:
            break
        if is_free[i]:
            first.append(i)
            is_free[tree.query(shape, predicate="intersects")] = False
    chosen = set(first)
    rest = [i for i in range(len(order)) if i not in chosen]
    return [order[i] for i in [*first, *rest][:count]]
