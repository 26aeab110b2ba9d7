"""Whom a scene says to name is named in everything made from it."""

import numpy as np
import pytest
import rasterio

from geopipe.raster import Scene
from geopipe.raster.credit import joined_credits, scene_credit
from geopipe.raster.mosaic import open_mosaic


def test_each_part_is_said_once():
    assert joined_credits(["a; b", "", "b; c", "a"]) == "a; b; c"


@pytest.mark.parametrize(
    ("tags", "credit"),
    [
        ({}, ""),
        ({"credit": "The Agency"}, "The Agency"),
        ({"TIFFTAG_COPYRIGHT": "© Sat"}, "© Sat"),
        ({"credit": "The Agency", "TIFFTAG_COPYRIGHT": "other"}, "The Agency"),
    ],
)
def test_of_a_file(make_raster, tags, credit):
    path = make_raster(np.ones((3, 8, 8), np.uint8))
    with rasterio.open(path, "r+") as src:
        src.update_tags(**tags)
    assert scene_credit(Scene.open(path)) == credit


def test_of_the_files_of_a_mosaic(make_raster, tmp_path):
    paths = []
    for i, credit in enumerate(("a", "b", "a")):
        path = make_raster(np.ones((3, 8, 8), np.uint8), name=f"{i}.tif")
        with rasterio.open(path, "r+") as src:
            src.update_tags(credit=credit)
        paths.append(str(path))
    assert scene_credit(open_mosaic(paths, tmp_path / "m.vrt")) == "a; b"
