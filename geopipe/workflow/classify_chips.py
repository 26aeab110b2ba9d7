"""Run a scene classifier over chips, or over a whole scene."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import rasterio

from geopipe.checkpoint import Checkpoint, ModelFile, file_hash
from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import ConfigError, SceneError
from geopipe.files import atomic_folder, work_folder
from geopipe.grid import NetworkGrid, Window
from geopipe.learn.chips import DecodedChips, chip_net, predict
from geopipe.learn.chips.model import load_chip_model, path_of
from geopipe.nets import SegmentationModel
from geopipe.nets.chips import ChipNet
from geopipe.raster import Scene
from geopipe.raster.chip_location import footprints, rectangle
from geopipe.raster.chips import ChipFolder
from geopipe.raster.cog import SCORE_STEPS
from geopipe.raster.geopackage import atomic_geopackage
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.scene import opened, window_geobox
from geopipe.raster.style import category_qml
from geopipe.workflow.bundle import Bundle, MapOptions, write_bundle

CSV, PARQUET, FOOTPRINTS = "chips.csv", "chips.parquet", "chips.gpkg"
LAYER = "chips"


def classify_chips(
    model_path: Path,
    root: Path,
    out: Path,
    *,
    skip_bad: bool = False,
    device: str = "cpu",
    overwrite: bool = False,
) -> gpd.GeoDataFrame:
    """Classify the chips below `root`; writes the table ``chips.csv`` and ``chips.parquet``.

    Columns: ``chip`` (path below `root`), ``folder`` (the one it lies in), ``class``,
    ``probability`` and one of each class (``p:NAME``). The Parquet has the chips' outlines, empty
    where they have no place. Raises SceneError for chips that cannot be read.
    """
    model = load_chip_model(model_path)
    own = (CSV, PARQUET)
    with atomic_folder(out, own, overwrite=overwrite) as part, work_folder(out, None) as work:
        chip_folder = ChipFolder.open(root)
        decoded = DecodedChips.of(chip_folder.chips, chip_net(model).side, work, skip_bad=skip_bad)
        predictions = predict(model, decoded, np.arange(len(decoded)), device=device)
        names = np.array(model.scheme.names, dtype=object)
        columns: dict[str, object] = {
            "chip": [path_of(c, root) for c in decoded.chips],
            "folder": [c.class_name for c in decoded.chips],
            "class": names[predictions.best],
            "probability": predictions.probabilities.max(1),
        }
        columns |= {
            f"p:{n}": predictions.probabilities[:, i] for i, n in enumerate(model.scheme.names)
        }
        table = gpd.GeoDataFrame(pd.DataFrame(columns), geometry=footprints(decoded.chips))
        pd.DataFrame(columns).to_csv(part / CSV, index=False, float_format="%.4f")
        table.to_parquet(part / PARQUET)
    return table


def classify_scene(
    model_path: Path,
    scene: Scene,
    out: Path,
    options: MapOptions,
    *,
    gsd: float | None = None,
    step: int | None = None,
) -> tuple[Bundle, gpd.GeoDataFrame]:
    """Classify the chips of a grid over `scene` into the bundle `out`, with ``chips.gpkg`` in it.

    `gsd`, `step`: other metres per pixel, or pixels between chips, than the model was made with.
    """
    model = load_chip_model(model_path)
    frames: list[gpd.GeoDataFrame] = []
    with _adapted_to_gsd(model, model_path, gsd, step) as path:
        fitted = ModelFile.open(path)

        def chips(folder: Path) -> dict[str, Path]:
            frames.append(cells_of(scene, fitted.checkpoint, folder))
            write_footprints(frames[0], fitted.checkpoint.scheme, folder / FOOTPRINTS)
            return {LAYER: folder / FOOTPRINTS}

        bundle = write_bundle(scene, fitted, out, replace(options, confidence=True), chips)
    return bundle, frames[0]


@contextmanager
def _adapted_to_gsd(
    model: Checkpoint, path: Path, gsd: float | None, step: int | None
) -> Iterator[Path]:
    """The model's file, or a temporary one of the same weights on another grid."""
    if not gsd:
        model.require_gsd("give its `gsd`, e.g. 0.3")
    net, gsd_known = chip_net(model), model.provenance.get("gsd_known", True)
    if (not gsd or (gsd_known and gsd == model.gsd)) and (not step or step == net.stride):
        yield path
        return
    architecture = {**net.architecture, "step": step or net.stride}
    del architecture["net"]
    try:
        other = ChipNet(net.bands, net.classes, **architecture)
    except ValueError as e:
        raise ConfigError(str(e)) from e
    other.load_state_dict(net.state_dict())
    note = {"adapted_from": file_hash(path), "gsd_known": True}
    adapted = replace(model.with_net(SegmentationModel(other.eval()), note), gsd=gsd or model.gsd)
    with tempfile.TemporaryDirectory() as folder:
        adapted.save(Path(folder) / path.name)
        yield Path(folder) / path.name


@dataclass(frozen=True)
class _Cell:
    """The pixels of a scene nearest to one chip's middle."""

    row: int
    col: int
    window: Window


def cells_of(scene: Scene, model: Checkpoint, folder: Path) -> gpd.GeoDataFrame:
    """The cells of a map that a scene classifier made, in the scene's CRS.

    ``row`` and ``column`` on the grid of chips, ``class_id``, ``class``, ``probability`` of that
    class and ``valid``, the share of the cell's pixels that are: what ``classes.tif`` and
    ``confidence.tif`` hold in the middle of the cell, or nearest to it. Cells that the scene says
    nothing of are left out. Where the map's pixels are no whole part of the net's, scores are
    blended between cells, so a pixel on a border may differ from its cell.
    """
    rows: list[dict[str, object]] = []
    shapes = []
    with opened(folder / "classes.tif") as ids, opened(folder / "confidence.tif") as confidence_src:
        for cell in _cells(scene, model):
            window = _rio(cell.window)
            class_ids, confidence = (
                ids.read(1, window=window),
                confidence_src.read(1, window=window),
            )
            center = _center_pixel(class_ids != IGNORE)
            if center is None:
                continue
            rows.append(
                {
                    "row": cell.row,
                    "column": cell.col,
                    "class_id": int(class_ids[center]),
                    "class": model.scheme.names[class_ids[center]],
                    "probability": round(float(confidence[center]) / SCORE_STEPS, 3),
                    "valid": round(float((class_ids != IGNORE).mean()), 3),
                }
            )
            shapes.append(rectangle(window_geobox(scene.geobox, cell.window)))
    if not rows:
        raise SceneError(f"{scene.path} has no valid pixel", "is its nodata value right?")
    return gpd.GeoDataFrame(pd.DataFrame(rows), geometry=shapes, crs=scene.geobox.crs)


def _cells(scene: Scene, model: Checkpoint) -> Iterator[_Cell]:
    grid, step = NetworkGrid.of(scene.geobox, model.gsd), model.net.stride
    plane = grid.snap(Window.of_shape(grid.shape), step)
    fy, fx = (axis.factor for axis in grid.axes)
    y, x = (axis.start for axis in grid.axes)
    for row in range(plane.height // step):
        for col in range(plane.width // step):
            down, along = plane.row + row * step, plane.col + col * step
            top, left = round(y + down * fy), round(x + along * fx)
            bottom, right = round(y + (down + step) * fy), round(x + (along + step) * fx)
            window = Window(top, left, bottom - top, right - left).clip(scene.shape)
            if window.height and window.width:
                yield _Cell(row, col, window)


def _center_pixel(valid: np.ndarray) -> tuple[int, int] | None:
    """Where `valid` is true, nearest to its middle."""
    positions = np.argwhere(valid)
    if not len(positions):
        return None
    squared_distance = np.square(positions - (np.array(valid.shape) - 1) / 2).sum(1)
    row, col = positions[squared_distance.argmin()].tolist()
    return row, col


def _rio(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


def write_footprints(cells: gpd.GeoDataFrame, scheme: ClassScheme, out: Path) -> None:
    """Write the GeoPackage `out`, one layer in the colours of the classes that QGIS shows."""
    classes_present = set(cells["class"])
    colours = {c.name: c.color for c in scheme.classes if c.name in classes_present}
    with atomic_geopackage(out) as part:
        pyogrio.write_dataframe(
            cells,
            part,
            layer=LAYER,
            driver="GPKG",
            geometry_type="Polygon",
            dataset_options={"VERSION": "1.2"},
        )
        style = category_qml("class", colours)
        add_layer_style(part, LAYER, scheme.name, style, "chips in the colours of their classes")
