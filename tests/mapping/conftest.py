"""A place, a model, and a dask cluster that outlives a test."""

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_place import draw_place, lively

from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.raster import Scene


@dataclass(frozen=True)
class Place:
    """What `map_scene` asks for."""

    scene: Scene
    model: Checkpoint
    model_path: Path

    @property
    def model_file(self) -> ModelFile:
        return ModelFile.open(self.model_path)


@pytest.fixture(scope="session")
def place(tmp_path_factory, make_model):
    """A scene of 6 tiles of 256 px and a refined model."""
    folder = tmp_path_factory.mktemp("place")
    scene, _ = draw_place(folder, "scene", (300, 560))
    model = lively(make_model(seed=3))
    model.save(folder / "model.safetensors")
    return Place(Scene.open(scene), model, folder / "model.safetensors")


@pytest.fixture(scope="session")
def cluster():
    """The tcp:// address of a scheduler with two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        protocol="tcp://",
        silence_logs="CRITICAL",
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def free_port():
    """A port of this machine at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
