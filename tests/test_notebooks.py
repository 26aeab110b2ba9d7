"""The notebooks of docs/notebooks run from the first cell to the last; trainings take few steps."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


@pytest.mark.parametrize("name", sorted(p.name for p in FOLDER.glob("*.ipynb")))
def test_a_notebook_runs(name):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"\bsteps=\d+", "steps=3, batch=1", cell.source)
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
