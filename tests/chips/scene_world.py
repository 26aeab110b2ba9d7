"""Chips of four plain kinds of ground, one class with a blob to look at, and a scene of them."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from PIL import Image

from geopipe.cli.main import main

NAMES = ("field", "forest", "tank", "water")
COLOURS = np.array([(190, 170, 90), (40, 90, 50), (150, 150, 150), (40, 70, 130)])
PX = 40
TINY = ["--weights", "random:0", "--side", "64", "--device", "cpu"]
FROZEN = ["--model", "finetune:alexnet", "--frozen", *TINY]


def run(*words, ok=True):
    """`geopipe chips` with these words, which must end as `ok` says."""
    done = CliRunner().invoke(main, ["chips", *map(str, words)])
    assert (done.exit_code == 0) == ok, done.output
    return done


def ground(kind, rng, shape=(PX, PX)):
    """(h, w, 3) uint8 of one class; a tank is a white disc somewhere on grey."""
    h, w = shape
    image = COLOURS[kind] + rng.normal(0, 6, (h, w, 1))
    if NAMES[kind] == "tank":
        row, col = rng.integers(8, h - 8), rng.integers(8, w - 8)
        away = np.hypot(*np.meshgrid(np.arange(h) - row, np.arange(w) - col, indexing="ij"))
        image[away < 7] = 245
    return np.clip(image, 0, 255).astype(np.uint8)


def write_chips(root, each=8, seed=0, names=NAMES):
    """A folder per class with `each` chips: of odd sizes, grey, RGBA and JPEG ones too."""
    rng = np.random.default_rng(seed)
    for kind, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(each):
            shape = (PX, PX + 1) if number == 3 else (PX, PX)
            image = Image.fromarray(ground(kind, rng, shape))
            if number == 4:
                image.putalpha(255)
            suffix = {5: "tif", 6: "jpg"}.get(number, "png")
            options = {"quality": 95} if suffix == "jpg" else {}
            image.save(root / name / f"{name}{number}.{suffix}", **options)
    (root / names[0] / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="session")
def chips(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("chips") / "image")


@pytest.fixture(scope="session")
def mosaic(tmp_path_factory):
    """A georeferenced scene (path) of 5 x 6 chips at 2 m, the last cut short, and their ids."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, len(NAMES), (5, 6))
    rows = [np.concatenate([ground(k, rng) for k in row], 1) for row in ids]
    pixels = np.concatenate(rows)[:-12, :-10]
    path = tmp_path_factory.mktemp("mosaic") / "scene.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=3,
        dtype="uint8",
        crs="EPSG:32631",
        transform=Affine(2, 0, 500_000, 0, -2, 4_700_000),
        photometric="rgb",
    ) as out:
        out.write(pixels.transpose(2, 0, 1))
    return path, ids


@pytest.fixture(scope="session")
def model(chips, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "land.model"
    run("train", chips, "-o", out, *FROZEN, "--gsd", 2)
    assert {p.name for p in out.parent.iterdir()} == {"land.model", "land.stac.json"}
    return out
