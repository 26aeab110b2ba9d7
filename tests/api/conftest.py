"""Small scenes on several grids, a model, and the maps that `geopipe map` makes of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from rasterio.windows import Window
from tiny_place import draw_place, lively, write_scene

import geopipe as gp
from geopipe.cli import main

SAMPLE = Path(__file__).parents[2] / "sample_tiles"
GRIDS = {
    "Web Mercator": ("EPSG:3857", Affine(0.2986, 0, 9_520_000.13, 0, -0.2986, 3_203_000.7)),
    "degrees": ("EPSG:4326", Affine(5e-6, 0, 85.5, 0, -4.4e-6, 27.6)),
    "metres": ("EPSG:2154", Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)),
}
"""1 m is 3.8, 2.0 and 2 pixels there."""


@dataclass(frozen=True)
class Mapped:
    """A scene and the files of its map."""

    path: Path
    folder: Path

    def read(self, output):
        with rasterio.open(self.folder / f"{output}.tif") as src:
            data = src.read()
        return data if output == "scores" else data[0]


@pytest.fixture(scope="session")
def model_path(tmp_path_factory, make_model):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    lively(make_model(seed=3)).save(path)
    return path


@pytest.fixture(scope="session")
def model(model_path):
    return gp.load_model(model_path)


def crop(source, target, window):
    """A part of a raster as a file of its own."""
    with rasterio.open(source) as src:
        data, place = src.read(window=window), src.window_transform(window)
        return write_scene(target, data, crs=src.crs, transform=place)


@pytest.fixture(scope="session", params=[*GRIDS, "sample"])
def mapped(request, tmp_path_factory, model_path):
    """A scene of two tiles (1024 px and less) or a part of the sample tiles, mapped by the CLI."""
    folder = tmp_path_factory.mktemp("scene")
    path = folder / "scene.tif"
    if request.param == "sample":
        crop(SAMPLE / "test.tif", path, Window(101, 207, 260, 230))
    else:
        crs, transform = GRIDS[request.param]
        data = np.random.default_rng(0).integers(1, 255, (3, 97, 1101)).astype(np.uint8)
        data[:, 30:60, 40:99] = 0
        write_scene(path, data, crs=crs, transform=transform, nodata=0)
    command = [
        "map",
        str(path),
        str(model_path),
        "-o",
        str(folder / "map"),
        "--scores",
        "--confidence",
    ]
    done = CliRunner().invoke(main, [*command, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    return Mapped(path, folder / "map")


@pytest.fixture(scope="session")
def town(tmp_path_factory):
    """The folder of train.tif, enhance.tif and test.tif, each with its OSM beside it (.gpkg)."""
    folder = tmp_path_factory.mktemp("town")
    for seed, name in enumerate(("train", "enhance", "test")):
        draw_place(folder, name, (160, 170), east=1000.0 * seed, seed=seed)
    return folder
