"""Chips of four plain kinds of ground, a scene of them in strips, and a small random model."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from geopipe.mapping import Workers
from geopipe.retrieve import EmbeddingConfig, EmbeddingModel
from geopipe.retrieve.build import BuildPlan, ChipGrid, build_index

NAMES = ("field", "forest", "roofs", "water")
COLOURS = np.array([(190, 170, 90), (40, 90, 50), (180, 80, 70), (40, 70, 130)])
SMALL = EmbeddingConfig(side=32)
PLAN = BuildPlan(ChipGrid(size=64, step=32), workers=Workers(threads=1))


def ground(kind, shape, seed):
    """(h, w, 3) uint8 of one kind, with a texture of its own."""
    rng = np.random.default_rng([kind, seed])
    stripes = 25 * np.sin(np.arange(shape[1]) / (1 + kind))[None, :, None]
    noise = rng.normal(0, 4 + 3 * kind, (*shape, 1))
    return np.clip(COLOURS[kind] + stripes + noise, 0, 255).astype(np.uint8)


def draw_chips(root, each=5):
    """A folder per kind with `each` chips, of odd sizes and in grey too."""
    for kind, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = ground(kind, (32, 41) if number == 3 else (32, 32), number)
            image = Image.fromarray(pixels if number != 4 else pixels[..., 0])
            image.save(root / name / f"{number}.png")
    return root


def draw_scene(path, crs="EPSG:32631", left=500_000):
    """Four strips of 64 x 160 px, 1 m; the upper left corner has no data."""
    pixels = np.concatenate([ground(k, (160, 64), 99) for k in range(4)], 1).transpose(2, 0, 1)
    pixels[:, :40, :40] = 0
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=160,
        width=256,
        count=3,
        dtype="uint8",
        crs=crs,
        transform=Affine(1, 0, left, 0, -1, 4_700_000),
        tiled=True,
        nodata=0,
        photometric="rgb",
    ) as out:
        out.write(pixels)
    return path


@pytest.fixture(scope="session")
def chips(tmp_path_factory):
    return draw_chips(tmp_path_factory.mktemp("chips") / "all")


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    return draw_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


@pytest.fixture(scope="session")
def model():
    return EmbeddingModel(SMALL, "random:0").loaded()


@pytest.fixture(scope="session")
def built(tmp_path_factory, chips, scene, model):
    """An index of the chips and the scene; not to be added to."""
    folder = tmp_path_factory.mktemp("built") / "index"
    build_index([str(chips), str(scene)], folder, model, PLAN)
    return folder
