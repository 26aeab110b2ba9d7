"""Chips of five plain kinds of ground, a scene of them, and a small model with random weights."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from PIL import Image

from geopipe.cli.main import main
from geopipe.learn.patches.model import PatchModelSpec, named_scheme

NAMES = ("built-up", "farmland", "forest", "meadow", "water")
COLOURS = np.array([(170, 90, 80), (190, 170, 90), (40, 90, 50), (120, 190, 90), (40, 70, 130)])
QUICK = ["--weights", "random:0", "--sizes", "16,32", "--side", "32", "--gsd", "4"]
SMALL = {"sizes": (16, 32), "cell": 16, "side": 32, "weights": "random:0"}


def ground(kind, shape, rng):
    """(h, w, 3) uint8 of one class, with a texture of its own."""
    h, w = shape
    stripes = 25 * np.sin(np.arange(w) / (1 + kind))[None, :, None]
    noise = rng.normal(0, 4 + 3 * kind, (h, w, 1))
    return np.clip(COLOURS[kind] + stripes + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def chips(tmp_path_factory):
    """A folder per class with ten chips each, of odd sizes too, and one in grey."""
    root, rng = tmp_path_factory.mktemp("chips") / "image", np.random.default_rng(0)
    for kind, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for number in range(10):
            shape = (48, 49) if number == 3 else (48, 48)
            Image.fromarray(ground(kind, shape, rng)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def mosaic(tmp_path_factory):
    """A georeferenced scene (path) of the five kinds in vertical strips, and their ids (h, w)."""
    rng = np.random.default_rng(1)
    ids = np.repeat(np.repeat(np.arange(5), 64)[None], 300, 0).astype(np.uint8)
    pixels = np.concatenate([ground(k, (300, 64), rng) for k in range(5)], 1)
    path = tmp_path_factory.mktemp("mosaic") / "scene.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=300,
        width=320,
        count=3,
        dtype="uint8",
        crs="EPSG:32631",
        transform=Affine(4, 0, 500_032, 0, -4, 4_700_032),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        photometric="rgb",
    ) as out:
        out.write(pixels.transpose(2, 0, 1))
    return path, ids


@pytest.fixture(scope="session")
def scheme():
    return named_scheme(NAMES)


@pytest.fixture(scope="session")
def design():
    return PatchModelSpec(gsd=4, segments=False, **SMALL)


@pytest.fixture(scope="session")
def model(design, scheme):
    return untrained(design, scheme)


def untrained(design, scheme):
    """A model with a last layer that tells the classes apart somehow."""
    import torch

    made = design.model(scheme)
    generator = torch.Generator().manual_seed(0)
    head = made.net.base.head
    head.weight.data = torch.randn(head.weight.shape, generator=generator) * 0.2
    made.net.requires_grad_(False)
    return made


def run(*words, ok=True):
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert (done.exit_code == 0) == ok, done.stderr
    return done


@pytest.fixture(scope="session")
def trained(chips, tmp_path_factory):
    """A model, and what its training said."""
    out = tmp_path_factory.mktemp("model") / "land.model"
    done = run(
        "patches",
        "train",
        chips,
        "-o",
        out,
        *QUICK,
        "--steps",
        25,
        "--no-segments",
        "--json",
        "--backbone-lr",
        "1e-3",
    )
    return out, json.loads(done.stdout)
