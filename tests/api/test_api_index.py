"""`ChipIndex`: the hits of ``geopipe index query`` as a GeoDataFrame."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_place import write_scene

import geopipe as gp
from geopipe.cli import main
from geopipe.errors import ChipIndexError, ConfigError


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Chips of two classes without a place, and a scene cut into chips."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    for level, name in ((60, "dark"), (200, "light")):
        (folder / "chips" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.clip(rng.normal(level, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "chips" / name / f"{i}.png")
    scene = write_scene(folder / "scene.tif", rng.integers(0, 255, (3, 128, 128)).astype(np.uint8))
    words = [
        "index",
        "build",
        folder / "chips",
        scene,
        "-o",
        folder / "index",
        "--size",
        32,
        "--weights",
        "random:0",
        "--side",
        32,
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    return folder


def test_hits_are_the_command_lines(archive):
    image = archive / "chips" / "dark" / "0.png"
    index = gp.ChipIndex.open(archive / "index", device="cpu")
    frame = index.query(image, k=5)
    words = ["index", "query", archive / "index", image, "-k", "5", "--device", "cpu", "--json"]
    done = CliRunner().invoke(main, [str(w) for w in words])
    hits = json.loads(done.stdout)["hits"]
    assert frame.chip.tolist() == [h["chip"] for h in hits]
    assert frame["distance"].tolist() == [h["distance"] for h in hits]
    assert frame["class"].tolist() == [h["class"] or None for h in hits]
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5]


def test_hits_have_a_place_where_their_source_has(archive):
    index = gp.ChipIndex.open(archive / "index", device="cpu")
    frame = index.query(0, k=len(index), overlap=1)
    placed = frame.source.str.endswith("scene.tif")
    assert frame.crs.to_epsg() == 2154
    assert frame.geometry.notna().tolist() == placed.tolist()
    assert 0 < placed.sum() < len(frame)
    np.testing.assert_allclose(frame.geometry[placed].area, 32**2, rtol=1e-3)
    liked = index.query(like=[0, 1], unlike=[archive / "chips" / "light" / "0.png"], k=3)
    assert len(liked) == 3


def test_what_cannot_be_asked(archive, tmp_path):
    with pytest.raises(ChipIndexError):
        gp.ChipIndex.open(tmp_path)
    index = gp.ChipIndex.open(archive / "index", device="cpu")
    with pytest.raises(ConfigError) as caught:
        index.query()
    assert "--" not in str(caught.value)
    with pytest.raises(ConfigError, match="k=0"):
        index.query(0, k=0)


def test_it_says_what_it_holds(archive):
    index = gp.ChipIndex.open(archive / "index")
    for part in (f"{len(index)} of ", "dark, light", "exact", str(archive / "index")):
        assert part in repr(index)
        assert part in index._repr_html_()
