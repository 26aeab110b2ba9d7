"""The notebooks of docs/notebooks run from the first cell to the last.

Trainings take few steps, and of the sample tiles there is a small part.
"""

import re
from pathlib import Path

import nbformat
import pytest
import rasterio
from nbclient import NotebookClient
from rasterio.windows import Window

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "notebooks"
SIDE = 768


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """A folder with the upper left of each sample tile that notebooks use, and their vectors."""
    folder = tmp_path_factory.mktemp("tiles")
    for name in ("enhance.tif", "test.tif"):
        with rasterio.open(ROOT / "sample_tiles" / name) as src:
            part = src.read(window=Window(0, 0, SIDE, SIDE))
            profile = src.profile | {"width": SIDE, "height": SIDE}
        with rasterio.open(folder / name, "w", **profile) as out:
            out.write(part)
    for path in (ROOT / "sample_tiles").glob("*.gpkg"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("name", sorted(p.name for p in FOLDER.glob("*.ipynb")))
def test_a_notebook_runs(name, tiles):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    for cell in notebook.cells:
        source = cell.source.replace("../../sample_tiles", str(tiles))
        cell.source = re.sub(r"\bsteps=\d+", "steps=3, batch=1", source)
    client = NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    shown = [o["data"] for o in outputs if "data" in o]
    tables = "".join(data.get("text/html", "") for data in shown)
    for title in ("geopipe.Scene", "geopipe.Labels", "geopipe.Model", "geopipe.MapResult"):
        assert title in tables
    assert sum("image/png" in data for data in shown) == 2
