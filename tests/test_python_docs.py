"""Every example of docs/python.md runs, in the order of the page, on parts of the sample tiles.

Trainings take one step here, whatever the page says.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.windows import Window

import geopipe as gp

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SAMPLE = ROOT / "sample_tiles"
SIDE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the page speaks of."""
    folder = tmp_path_factory.mktemp("docs")
    parts = {
        "scene": ("train", 3072, 3072),
        "tile": ("enhance", 768, 1024),
        "other": ("test", 1024, 768),
    }
    for name, (tile, row, col) in parts.items():
        with rasterio.open(SAMPLE / f"{tile}.tif") as src:
            window = Window(col, row, SIDE, SIDE)
            profile = {**src.profile, "width": SIDE, "height": SIDE, "tiled": False}
            profile["transform"] = src.window_transform(window)
            data = src.read(window=window)
        profile = {k: v for k, v in profile.items() if k not in ("blockxsize", "blockysize")}
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as out:
            out.write(data)
    for name in ("osm", "truth"):
        (folder / f"{name}.gpkg").write_bytes((SAMPLE / f"{name}.gpkg").read_bytes())
    (folder / "chips").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "chips" / f"{i}.png")
    (folder / "chip.png").write_bytes((folder / "chips" / "2.png").read_bytes())
    build_archive(folder)
    return folder


def build_archive(folder):
    from geopipe.retrieve import EmbeddingConfig, EmbeddingModel
    from geopipe.retrieve.build import BuildPlan, ChipGrid, build_index

    model = EmbeddingModel(EmbeddingConfig(side=32), "random:0").loaded()
    build_index([str(folder / "chips")], folder / "archive", model, BuildPlan(ChipGrid(64, 32)))


def test_the_examples_run(folder, monkeypatch, one_thread, capsys):
    monkeypatch.chdir(folder)
    few = partial(gp.train, steps=1, refinement_steps=1, batch=1, device="cpu")
    monkeypatch.setattr(gp, "train", few)
    names = {}
    for number, example in enumerate(EXAMPLES, 1):
        try:
            exec(compile(example, f"docs/python.md, example {number}", "exec"), names)
        except Exception as e:
            raise AssertionError(f"example {number} of docs/python.md:\n{example}") from e
    said = capsys.readouterr().out
    for text in (
        "geopipe.Scene",
        "geopipe.Model",
        "geopipe.MapResult",
        "geopipe.MapAccuracy",
        "the array has no CRS - set it",
    ):
        assert text in said
    assert (folder / "out" / "classes.tif").is_file()
    assert names["part"].shape == (120, 160)
    assert len(names["hits"]) == 3


def test_every_public_name_has_an_example():
    code = "".join(EXAMPLES)
    assert not [name for name in gp.__all__ if f"gp.{name}" not in code]
