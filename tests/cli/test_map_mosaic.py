"""``geopipe map --mosaic --min-area`` as a user meets it."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as RioWindow

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def halves(drawn, tmp_path):
    files = []
    with rasterio.open(drawn.scene) as src:
        for number, col in enumerate((0, 90)):
            width = (90, src.width - 90)[number]
            window = RioWindow(col, 0, width, src.height)
            place = {"width": width, "transform": src.window_transform(window)}
            files.append(tmp_path / f"half{number}.tif")
            with rasterio.open(files[-1], "w", **(src.profile | place)) as out:
                out.write(src.read(window=window))
    return files


def test_two_halves_make_one_map(geopipe, drawn, halves, tmp_path):
    for name, scenes, more in (("one", [drawn.scene], []), ("two", halves, ["--mosaic"])):
        said = geopipe(
            "map",
            *scenes,
            drawn.model,
            "-o",
            tmp_path / name,
            "--device",
            "cpu",
            "--min-area",
            "building=9",
            *more,
        )
        assert said.code == 0, said.err
    one, two = (rasterio.open(tmp_path / n / "classes.tif") for n in ("one", "two"))
    with one, two:
        np.testing.assert_array_equal(one.read(), two.read())
        assert two.tags()["min_area"] == "building 9 m2"
        assert two.tags()["scene_files"] == "half0.tif; half1.tif"


def test_a_plan_of_a_mosaic_leaves_nothing(geopipe, drawn, halves, tmp_path):
    before = sorted(tmp_path.iterdir())
    said = geopipe(
        "map", *halves, drawn.model, "-o", tmp_path / "out", "--mosaic", "--dry-run", "--json"
    )
    assert said.code == 0, said.err
    assert json.loads(said.out)["scene"].startswith("200 x 180 px")
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_of_another_pixel_size_is_named(geopipe, drawn, halves, tmp_path):
    with rasterio.open(halves[1], "r+") as src:
        src.transform = src.transform * src.transform.scale(1.2)
    said = geopipe("map", *halves, drawn.model, "-o", tmp_path / "out", "--mosaic")
    assert said.code == 2 or said.code == 1
    assert "half1.tif has pixels of 0.6 x 0.6" in said.err
    assert "half0.tif of 0.5 x 0.5" in said.err
    assert not (tmp_path / "out").exists()


def test_a_size_that_is_none_is_told(geopipe, drawn, tmp_path):
    said = geopipe("map", drawn.scene, drawn.model, "-o", tmp_path / "out", "--min-area", "house=3")
    assert said.code != 0
    assert "house" in said.err
