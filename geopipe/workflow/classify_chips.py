"""Run a scene classifier over chips, or over a whole scene."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from geopipe.checkpoint import Checkpoint, ModelFile, file_hash
from geopipe.errors import ConfigError
from geopipe.files import atomic_folder, work_folder
from geopipe.learn.chips import DecodedChips, chip_net, predict
from geopipe.learn.chips.model import load_chip_model, path_of
from geopipe.mapping.chip_cells import LAYER, cells_of, write_footprints
from geopipe.nets import SegmentationModel
from geopipe.nets.chips import ChipNet
from geopipe.raster import Scene
from geopipe.raster.chip_location import footprints
from geopipe.raster.chips import ChipFolder
from geopipe.workflow.bundle import Bundle, MapOptions, write_bundle

CSV, PARQUET, FOOTPRINTS = "chips.csv", "chips.parquet", "chips.gpkg"


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
