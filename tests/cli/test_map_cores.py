"""Cores that a network scores: in the footprints, whatever the tiles, and in no other raster."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.errors import CheckpointError
from geopipe.mapping import Budget, Engine, map_scene
from geopipe.nets import SegmentationModel
from geopipe.nets.liteunet import LiteUNet
from geopipe.raster import Scene
from geopipe.raster.scene import opened

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_model):
    """A model with cores, and the same one without."""
    torch.manual_seed(3)
    net = LiteUNet(3, 3, cores=True)
    with torch.no_grad():
        for _ in range(5):  # stored statistics of something
            net.train()(torch.randn(1, 3, 256, 256))
        net.head.weight *= 3
    plain = LiteUNet(3, 3)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("core_")})
    folder = tmp_path_factory.mktemp("cores")
    paths = {}
    for name, base in (("with", net), ("without", plain)):
        made = SegmentationModel(base.eval().requires_grad_(False))
        paths[name] = folder / f"{name}.safetensors"
        replace(make_model(gsd=0.5), net=made).save(paths[name])
    return paths


def mapped(drawn, model, folder, core=None, **options):
    folder.mkdir()
    engine = Engine("cpu", budget=Budget(core))
    scene = Scene.open(str(drawn.scene))
    return map_scene(scene, ModelFile.open(model), folder, engine, **options)


def read(path):
    with opened(path) as src:
        return src.read()


def test_the_file_says_that_the_model_scores_cores(models, tmp_path):
    assert Checkpoint.load(models["with"]).net.base.cores
    assert not Checkpoint.load(models["without"]).net.base.cores
    data, true = models["with"].read_bytes(), b'\\"cores\\": true'
    assert true in data
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(data.replace(true, b'\\"cores\\": 1234'))
    with pytest.raises(CheckpointError, match="cores"):
        Checkpoint.load(damaged)
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(data.replace(true, b'\\"cores\\":false'))
    with pytest.raises(CheckpointError, match=r"core_.* is unexpected"):
        Checkpoint.load(foreign)


def test_cores_are_the_same_whatever_the_tiles_and_only_where_asked_for(drawn, models, tmp_path):
    small = mapped(drawn, models["with"], tmp_path / "small", 256, with_cores=True)
    large = mapped(drawn, models["with"], tmp_path / "large", 512, with_cores=True)
    cores = read(small.cores)
    np.testing.assert_array_equal(cores, read(large.cores))
    valid = Scene.open(str(drawn.scene)).read().valid
    assert (cores[0][~valid] == 255).all()
    assert cores[0][valid].max() <= 250
    assert len(np.unique(cores[0][valid])) > 20
    without = mapped(drawn, models["without"], tmp_path / "without", 256, with_cores=True)
    assert without.cores is None
    np.testing.assert_array_equal(read(small.classes[-1]), read(without.classes[-1]))
    assert mapped(drawn, models["with"], tmp_path / "plain", 256).cores is None


def test_vectors_are_the_same_whatever_the_tiles(geopipe, drawn, models, tmp_path):
    made = {}
    for size in ("256", "512"):
        out = tmp_path / size
        said = geopipe(
            *("map", drawn.scene, models["with"], "-o", out, "--device", "cpu"),
            *("--vectors", "--tile-size", size),
        )
        assert said.code == 0, said.err
        made[size] = (out / "features.parquet").read_bytes()
        assert "cores" not in json.loads((out / "item.json").read_text())["assets"]
    assert made["256"] == made["512"]
    out = tmp_path / "without"
    said = geopipe("map", drawn.scene, models["without"], "-o", out, "--device", "cpu", "--vectors")
    assert said.code == 0, said.err
