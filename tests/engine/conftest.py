"""A place to map, its undisturbed map, and ways to run, stop and kill a mapping."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from stopping import Run, map_bytes
from tiny_place import draw_place, lively

from geopipe.cli import main
from geopipe.mapping import Budget, Engine
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle


@dataclass(frozen=True)
class Place:
    """A scene and a model to map it with, and the bytes of its undisturbed map."""

    scene: Path
    model: Path
    whole: dict

    def words(self, out, *more, scene=None, model=None):
        return [
            "map",
            scene or self.scene,
            model or self.model,
            "-o",
            out,
            "--tile-size",
            "256",
            "--scores",
            *more,
        ]


def draw(folder, make_model, shape):
    scene, _ = draw_place(folder, "scene", shape)
    model = folder / "model.safetensors"
    lively(make_model(seed=3)).save(model)
    options = MapOptions(Engine("cpu", budget=Budget(256)), scores=True)
    return Place(
        scene,
        model,
        map_bytes(write_bundle(Scene.open(scene), model, folder / "map", options).folder),
    )


@pytest.fixture(scope="session")
def place(tmp_path_factory, make_model):
    """6 tiles."""
    return draw(tmp_path_factory.mktemp("place"), make_model, (300, 560))


@pytest.fixture(scope="session")
def large_place(tmp_path_factory, make_model):
    """TILES of them: a second of work."""
    return draw(tmp_path_factory.mktemp("large"), make_model, (900, 1100))


@pytest.fixture
def geopipe():
    """``geopipe(*words)``: the command in this process; its exit_code, stdout and stderr."""
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


@pytest.fixture
def same_map():
    """``same_map(folder, place)``: the undisturbed map lies in `folder` and nothing around it."""

    def check(folder, place):
        found = map_bytes(folder)
        assert [name for name in found if found[name] != place.whole[name]] == []
        around = [p.name for p in folder.parent.iterdir() if p != folder]
        assert [n for n in around if n.startswith((f"{folder.name}.", f".{folder.name}."))] == []

    return check


@pytest.fixture(scope="session")
def children():
    """``children(what, *words)``: a line to the program children.py, and its answer."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("children.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:

        def ask(*words):
            process.stdin.write(json.dumps(words, default=str) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask


@pytest.fixture
def start(children, tmp_path_factory):
    """``start(*words, out)``: run the command; what still runs when the test ends is killed."""
    runs, logs = [], tmp_path_factory.mktemp("logs")

    def run(*words, out):
        runs.append(Run(children, words, out, logs / str(len(runs))))
        return runs[-1]

    yield run
    for one in runs:
        one.kill()
