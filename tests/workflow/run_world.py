"""A workflow that was run on tiny tiles, and copies of the tiles to run it on."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_place import fingerprints

from geopipe.workflow.run import run_workflow
from geopipe.workflow.schema import load_workflow

STEPS = [
    "labels-train",
    "labels-enhance",
    "labels-test",
    "base",
    "refinement",
    "map-test",
    "evaluation",
]


def run_in(folder, **settings):
    """Run the workflow in `folder` with ``table__key=value``; returns its outcome."""
    overrides = {k.replace("__", "."): str(v) for k, v in settings.items()}
    return run_workflow(load_workflow(folder / "tiny.toml", overrides))


@pytest.fixture
def tiles(drawn, tmp_path):
    """A copy of the drawn tiles."""
    return Path(shutil.copytree(drawn, tmp_path / "tiles"))


@pytest.fixture
def run(tiles):
    return partial(run_in, tiles)


@pytest.fixture(scope="session")
def kept(drawn, tmp_path_factory):
    """Tiles in which the workflow was run, and a copy of them."""
    folder, copy = (tmp_path_factory.mktemp("kept") / n for n in ("tiles", "copy"))
    shutil.copytree(drawn, folder)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_in(folder)
    torch.set_num_threads(before)
    shutil.copytree(folder, copy)
    return folder, copy


@pytest.fixture(scope="session")
def finished(kept):
    """``made/`` of an uninterrupted run, only to look at."""
    return kept[1] / "made"


@pytest.fixture
def made(kept):
    """``made/`` of that run where it ran (records hold whole paths), each test's own."""
    folder, copy = kept
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    return folder / "made"


def step_runs(made):
    """Step -> when its record was written."""
    return {p.stem: p.stat().st_mtime_ns for p in (made / ".steps").glob("*.json")}


def outputs(made):
    """Fingerprints of everything but the report, which is written by every run."""
    return {k: v for k, v in fingerprints(made).items() if "/report/" not in k}
