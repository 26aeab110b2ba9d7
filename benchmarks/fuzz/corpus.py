"""A valid small file of each format, made by geopipe or by the libraries that analysts use."""

from __future__ import annotations

import json
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import geopandas as gpd
import numpy as np
import onnx
import onnx.numpy_helper
import osmium
import rasterio
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from geopipe.checkpoint import Checkpoint
from geopipe.classes import load_scheme
from geopipe.evaluation.assess.points import plan_points
from geopipe.evaluation.assess.sampling import SampleSize
from geopipe.grid import Window
from geopipe.labels.drawn import DrawingWindow, write_drawing_file
from geopipe.learn import loop
from geopipe.learn.ask import Questions, write_questions
from geopipe.mapping.journal import Journal
from geopipe.mapping.preview import write_part
from geopipe.mapping.tile import TileResult
from geopipe.mapping.tile_store import tile_path
from geopipe.metrics import Metrics
from geopipe.nets import RefinementRNN, SegmentationModel, UNet
from geopipe.retrieve.header import Header
from geopipe.retrieve.rows import ChipRow
from geopipe.retrieve.store import Writer
from geopipe.workflow.steps import Step, run_step

SCHEME = load_scheme("buildings-roads")
PLACE = Affine(1, 0, 789_000, 0, -1, 6_501_000)
"""Pixels of 1 m in Lambert-93."""
INPUTS = {"scene": "s.tif", "core": 256, "nodata": [None], "place": [0.1, 1 / 3]}
"""Of the journal."""
TILES = 4
_FOREIGN = Path(__file__).parents[2] / "tests" / "fuzz"
"""Files of other programs' formats, as small as can be."""


def make_corpus(folder: Path) -> None:
    """Write every file that is mutated, and those beside them, into `folder`."""
    shutil.copytree(_FOREIGN, folder, dirs_exist_ok=True)
    _rasters(folder)
    _vectors(folder)
    _models(folder)
    _maps(folder)
    _index(folder / "index")


class Regression:
    """A training of a few steps that can be stopped at one of them."""

    def __init__(self, stops: bool) -> None:
        self.net = nn.Linear(4, 2)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-3)
        self.stops = stops

    def run(self, resume: Path) -> loop.TrainingHistory:
        """Train 6 steps, or 4 that are kept in `resume`."""

        def loss(step: int) -> torch.Tensor:
            if self.stops and step == 4:
                raise KeyboardInterrupt
            value: torch.Tensor = self.net(torch.ones(3, 4)).square().mean()
            return value

        with patch.object(loop, "SAVE_EVERY_S", 0), patch.object(loop, "RECORD_EVERY", 2):
            return loop.fit(
                self.net, loop.backward(loss), self.optimizer, 6, label="t", resume=resume, key="k"
            )


def _rasters(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, bands, top, profile in (
        ("scene.tif", 3, 256, {"tiled": True, "blockxsize": 16, "blockysize": 16}),
        ("labels.tif", 1, 3, {"nodata": 255, "compress": "deflate"}),
        ("classes.tif", 1, 3, {"nodata": 255}),
    ):
        with rasterio.open(
            folder / name,
            "w",
            driver="GTiff",
            count=bands,
            width=40,
            height=40,
            dtype="uint8",
            crs="EPSG:2154",
            transform=PLACE,
            **profile,
        ) as out:
            out.write(rng.integers(0, top, (bands, 40, 40)).astype(np.uint8))
    pixels = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    for name in ("chip.png", "chip.jpg", "chip.bmp", "chip.webp"):
        Image.fromarray(pixels).save(folder / name)
    rasterio.shutil.copy(str(folder / "scene.tif"), str(folder / "scene.vrt"), driver="VRT")


def _vectors(folder: Path) -> None:
    x, y = PLACE * (5, 5)
    frame = gpd.GeoDataFrame(
        {"building": ["yes", None], "highway": [None, "residential"], "width": ["3", "6 m"]},
        geometry=[shapely.box(x, y - 9, x + 9, y), shapely.LineString([(x, y - 20), (x + 30, y)])],
        crs="EPSG:2154",
    )
    frame.to_file(folder / "osm.gpkg", layer="osm")
    frame.to_file(folder / "osm.fgb")
    frame.to_crs("OGC:CRS84").to_file(folder / "osm.geojson")
    frame.to_parquet(folder / "osm.parquet")
    frame[["building", "geometry"]].iloc[:1].to_file(folder / "osm.shp")
    corners = [(4.6, 45.6), (4.601, 45.6), (4.601, 45.601), (4.6, 45.601)]
    factory: Any = osmium.osm.mutable
    with osmium.SimpleWriter(str(folder / "osm.osm.pbf"), overwrite=True) as out:
        for i, place in enumerate(corners, 1):
            out.add_node(factory.Node(id=i, location=place, version=1))
        way = [1, 2, 3, 4, 1]
        out.add_way(factory.Way(id=9, nodes=way, tags={"building": "yes"}, version=1))


def _models(folder: Path) -> None:
    torch.manual_seed(0)
    net = SegmentationModel(UNet(3, 3, base=1, depth=1), RefinementRNN(3, 3, iterations=1))
    stats: dict[str, Any] = {"mean": (9.0,) * 3, "std": (2.0,) * 3, "dtype": "uint8"}
    provenance = {"credit": "me", "label_area_q01_m2": {"building": 9.0}, "gsd_known": True}
    model = Checkpoint(net.eval(), SCHEME, **stats, provenance=provenance)
    model.save(folder / "model.safetensors")
    with suppress(KeyboardInterrupt):
        Regression(stops=True).run(folder / "a.resume")
    Regression(stops=False).run(folder / "none.resume").save(folder / "history.json")
    weights = {"_conv_stem.weight": torch.ones(32, 3, 3, 3), "_bn0.weight": torch.ones(32)}
    torch.save(weights, folder / "weights.pth")
    save_file(weights, folder / "weights.safetensors")
    arrays = {k: v.numpy() for k, v in weights.items()}
    (folder / "weights.ckpt").write_bytes(pickle.dumps(arrays, protocol=2))
    initializers = [onnx.numpy_helper.from_array(v, k) for k, v in arrays.items()]
    graph = onnx.helper.make_graph([], "weights", [], [], initializers)
    onnx.save(onnx.helper.make_model(graph), folder / "weights.onnx")


def _maps(folder: Path) -> None:
    size = SampleSize(per_class=4)
    plan_points(folder / "classes.tif", folder / "points.gpkg", size, scheme=SCHEME)
    square = shapely.box(789_000, 6_500_990, 789_010, 6_501_000)
    classes = tuple((c.name, c.color) for c in SCHEME.classes)
    digest = "0" * 64
    questions = Questions(
        "learn", digest, None, None, digest, classes, 9, 0, 0, 0, "x", ((0, 0, 0),), (1,)
    )
    write_questions(folder / "questions.gpkg", questions, [square], "EPSG:2154", SCHEME)
    drawn = DrawingWindow(square, 9.0, 0.1, 0.0)
    box = GeoBox((40, 40), PLACE, "EPSG:2154")
    write_drawing_file(folder / "draw.gpkg", [drawn], box, SCHEME)
    windows = gpd.read_file(folder / "draw.gpkg", layer="windows").assign(drawn=True)
    windows.to_file(folder / "draw.gpkg", layer="windows")
    (folder / "journal").mkdir()
    journal = Journal(folder / "journal", INPUTS, TILES, classes=3)
    for index in range(2):
        tile = tile_path(journal.tiles, index)
        tile.parent.mkdir(parents=True, exist_ok=True)
        tile.write_bytes(b"x" * 9)
        journal.add(index, TileResult((1, 2, 3), 9))
    journal.close()
    pixels, valid = np.ones((3, 256, 256), np.uint8), np.ones((256, 256), bool)
    window = Window(0, 0, 256, 256)
    write_part(folder / "preview.safetensors", pixels, valid, window, (512, 512), (32, 32))
    metrics = Metrics(SCHEME.names, np.arange(9).reshape(3, 3), 4)
    (folder / "metrics.json").write_text(json.dumps(metrics.to_dict()))
    iterations = folder / "evaluation"
    iterations.mkdir()
    table = {"iterations": [metrics.to_dict(), metrics.to_dict()]}
    (iterations / "evaluation.json").write_text(json.dumps(table))
    step = Step("make", [folder / "scene.tif"], {"a": 1}, [folder / "chip.png"], lambda _: None)
    run_step(step, folder / "steps")


def _index(folder: Path) -> None:
    folder.mkdir()
    rows = [
        ChipRow(
            f"/a/{i}.tif",
            "1:2",
            "a" * (i % 2),
            f"{i:032x}",
            0,
            i,
            5,
            6,
            "EPSG:2154",
            tuple(PLACE)[:6],
        )
        for i in range(5)
    ]
    model = {
        **{"backbone": "efficientnet_lite0", "feature": "pooled", "side": 32, "pooling": "flat"},
        **{"norm": "l2", "rotations": 1, "scales": [1.0], "weights": "random:0"},
        "weights_sha256": "0" * 64,
    }
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    Writer(folder, Header(model, "float32")).append(vectors, rows, None)
    np.save(folder / "vectors.npy", vectors)
