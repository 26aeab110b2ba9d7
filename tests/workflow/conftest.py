"""Tiny places, models to map them with, and a workflow that trains for a few steps."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from run_world import finished, kept, made, run, tiles
from tiny_place import ROLES, draw_place, lively

__all__ = ["drawn", "finished", "kept", "made", "place", "run", "tiles"]


@dataclass(frozen=True)
class Place:
    """A scene, its OSM, and two models: coarse alone, and refined."""

    scene: Path
    osm: Path
    base: Path
    refined: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory, make_model):
    folder = tmp_path_factory.mktemp("place")
    scene, osm = draw_place(folder, "scene")
    for name, iterations in (("base", 0), ("refined", 2)):
        model = lively(make_model(seed=3, iterations=iterations))
        model.save(folder / f"{name}.safetensors")
    return Place(scene, osm, folder / "base.safetensors", folder / "refined.safetensors")


WORKFLOW = (
    ROLES
    + """
[map]
scenes = ["test.tif"]
[base]
steps = 4
batch = 3
precision = "float32"
[refinement]
steps = 4
batch = 3
iterations = 2
precision = "float32"
[report]
closeups = 1
closeup_px = 64
"""
)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A folder with three tiles apart from each other, their OSM, and ``tiny.toml``."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_place(folder, "train", (180, 200))
    draw_place(folder, "enhance", (160, 160), east=1000, seed=1)
    draw_place(folder, "test", (170, 150), east=2000, seed=2)
    (folder / "tiny.toml").write_text(WORKFLOW)
    return folder
