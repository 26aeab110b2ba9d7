"""How each format is read, and how its files are changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from odc.geo.geobox import GeoBox

from benchmarks.fuzz.corpus import INPUTS, PLACE, SCHEME, TILES, Regression
from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import load_backbone
from geopipe.classes import load_scheme
from geopipe.errors import ConfigError, SceneError
from geopipe.evaluation.assess.interpretation import assess_map
from geopipe.evaluation.iterations import IterationMetrics
from geopipe.evaluation.line_files import read_lines
from geopipe.evaluation.polygon_files import read_polygons
from geopipe.grid import Window
from geopipe.labels import Area, RasterLabels, open_labels
from geopipe.labels.drawn import drawn_windows, is_drawing_file
from geopipe.learn.ask import read_answers
from geopipe.learn.chips import attention_maps
from geopipe.learn.loop import TrainingHistory
from geopipe.mapping.journal import Journal
from geopipe.mapping.map_item import read_map_item
from geopipe.mapping.preview import read_preview
from geopipe.metrics import Metrics
from geopipe.nets import Kernels
from geopipe.raster import Scene
from geopipe.raster.chips import Chip
from geopipe.raster.inputs import scene_paths
from geopipe.raster.mosaic import mosaic_files
from geopipe.retrieve import ChipIndex
from geopipe.retrieve.embedding import EmbeddingModel
from geopipe.tensors import read_npy
from geopipe.validation import read_json
from geopipe.workflow.schema import load_workflow
from geopipe.workflow.steps import Step, run_step

BOX = GeoBox((40, 40), PLACE, "EPSG:2154")


@dataclass(frozen=True)
class Format:
    """A file of the corpus, what reads it, and of what it is made."""

    file: str
    read: Callable[[Path], object]
    kind: str = "bytes"
    writes: bool = False
    """Whether reading may write beside the file, as a journal that goes on does."""


def _model(path: Path) -> object:
    model = Checkpoint.load(path)
    side = 2 * model.net.halo + model.net.stride * 2
    if side > 600 or model.bands > 8:
        return None
    with torch.inference_mode():
        return model.net(torch.zeros(1, model.bands, side, side))


def _index(path: Path) -> object:
    index = ChipIndex.open(path.parent)
    EmbeddingModel.from_identity(index.header.model)
    _ = [entry.scene for entry in index.header.scenes if entry.crs.startswith("EPSG:2154")]
    return list(index.all_rows()), list(index.columns(("digest", "row"))), index.vectors.sum()


def _parquet(path: Path) -> object:
    """As `_index`, of a part whose size is what the header says."""
    header = path.parent / "index.json"
    text = re.sub(r'"size": \d+', f'"size": {path.stat().st_size}', header.read_text())
    header.write_text(text)
    return _index(header)


def _journal(path: Path) -> object:
    with closing(Journal(path.parent, INPUTS, TILES, classes=3)) as journal:
        return [journal.is_complete(index) for index, _ in journal.recorded()]


def _step(path: Path) -> object:
    folder = path.parent.parent
    step = Step("make", [folder / "scene.tif"], {"a": 1}, [folder / "chip.png"], lambda _: None)
    return run_step(step, path.parent)


def _labels(path: Path) -> object:
    return open_labels(path, SCHEME, BOX).read(BOX)


def _vectors(path: Path) -> object:
    _labels(path)
    return read_polygons(path, None, "building"), Area.open(path, BOX)


def _drawn(path: Path) -> object:
    return drawn_windows(path) if is_drawing_file(path) else None


def _scene(path: Path) -> object:
    scene = Scene.open(path)
    mosaic_files(path)
    if max(scene.shape) > 4000:
        return None
    return scene.read(Window.of_shape((min(scene.shape[0], 64), min(scene.shape[1], 64))))


def _preview(path: Path) -> object:
    return read_preview([path], "uint8", (32, 32))


FORMATS: dict[str, Format] = {
    "model": Format("model.safetensors", _model, "safetensors"),
    "training checkpoint": Format(
        "a.resume", lambda p: Regression(stops=False).run(p), "safetensors", writes=True
    ),
    "training history": Format("history.json", TrainingHistory.load, "json"),
    "chip index": Format("index/index.json", _index, "json"),
    "chip table": Format("index/chips-00000.parquet", _parquet, writes=True),
    "embeddings": Format(
        "index/vectors.npy", lambda p: np.array(read_npy(p, "float32", (5, None), SceneError))
    ),
    "journal": Format("journal/journal.jsonl", _journal, "lines", writes=True),
    "step record": Format("steps/make.json", _step, "json", writes=True),
    "sample points": Format(
        "points.gpkg", lambda p: assess_map(p.parent / "classes.tif", p), "sqlite"
    ),
    "questions": Format("questions.gpkg", read_answers, "sqlite"),
    "windows to draw in": Format("draw.gpkg", _drawn, "sqlite"),
    "metrics": Format("metrics.json", Metrics.read, "json"),
    "evaluation": Format(
        "evaluation/evaluation.json", lambda p: IterationMetrics.load(p.parent), "json"
    ),
    "workflow": Format("workflow.toml", lambda p: load_workflow(p), "toml"),
    "class scheme": Format("classes.toml", lambda p: load_scheme(p), "toml"),
    "map bundle": Format("item.json", lambda p: read_map_item(p.parent), "json"),
    "kernels": Format(
        "kernels.json", lambda p: read_json(p, Kernels, ConfigError, "remove it"), "json"
    ),
    "attention table": Format(
        "attention.csv", lambda p: attention_maps._written_files(p.parent), "bytes"
    ),
    "preview": Format("preview.safetensors", _preview, "safetensors"),
    "STAC item": Format("stac.json", lambda p: scene_paths([str(p)]), "json"),
    "list of scenes": Format("scenes.txt", lambda p: scene_paths([str(p)]), "bytes"),
    "weights (torch)": Format("weights.pth", lambda p: load_backbone("efficientnet_lite0", p)),
    "weights (pickle)": Format("weights.ckpt", lambda p: load_backbone("efficientnet_lite0", p)),
    "weights (safetensors)": Format(
        "weights.safetensors", lambda p: load_backbone("efficientnet_lite0", p), "safetensors"
    ),
    "weights (ONNX)": Format("weights.onnx", lambda p: load_backbone("efficientnet_lite0", p)),
    "OSM XML": Format("osm.osm", _labels, "xml"),
    "OSM PBF": Format("osm.osm.pbf", _labels),
    "GeoJSON": Format("osm.geojson", _vectors, "json"),
    "GeoPackage": Format("osm.gpkg", _vectors, "sqlite"),
    "FlatGeobuf": Format("osm.fgb", _labels),
    "Shapefile": Format("osm.shp", _labels),
    "attributes of a Shapefile": Format("osm.dbf", lambda p: _labels(p.with_suffix(".shp"))),
    "GeoParquet": Format("osm.parquet", _labels),
    "lines": Format("osm.geojson", read_lines, "json"),
    "label raster": Format("labels.tif", lambda p: RasterLabels.open(p, SCHEME).read(BOX)),
    "scene": Format("scene.tif", _scene),
    "VRT": Format("scene.vrt", _scene, "xml"),
    "PNG chip": Format("chip.png", lambda p: Chip(str(p)).read()),
    "JPEG chip": Format("chip.jpg", lambda p: Chip(str(p)).read()),
    "BMP chip": Format("chip.bmp", lambda p: Chip(str(p)).read()),
    "WebP chip": Format("chip.webp", lambda p: Chip(str(p)).read()),
}
