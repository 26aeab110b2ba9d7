"""Maps of a drawn place, judged: areas of the raster, and footprints against single buildings."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize

from geopipe.classes import load_scheme
from geopipe.raster.cog import write_class_cog
from reproduce.real.judge import judge
from reproduce.real.place import Place

GSD, SIDE = 0.5, 160
PLANE = Affine(GSD, 0, 550_000, 0, -GSD, 9_000_000)
TERRACE = [shapely.box(20 + 24 * k, 20, 44 + 24 * k, 50) for k in range(3)]
DETACHED, SHED = shapely.box(30, 90, 70, 120), shapely.box(100, 100, 104, 104)
"""In pixels; the shed has 4 m2."""


@pytest.fixture
def place(tmp_path, make_raster):
    def on_ground(shape):
        return shapely.transform(shape, lambda p: np.column_stack(PLANE * p.T))

    pixels = np.full((3, SIDE, SIDE), 90, np.uint8)
    scene = make_raster(pixels, "scene.tif", crs="EPSG:32736", transform=PLANE)
    truth = gpd.GeoDataFrame(
        {"building": ["yes"] * 5},
        geometry=[on_ground(s) for s in (*TERRACE, DETACHED, SHED)],
        crs="EPSG:32736",
    )
    truth.to_file(tmp_path / "truth.gpkg")
    spec = {
        "title": "drawn",
        "scene": str(scene),
        "labels": str(tmp_path / "truth.gpkg"),
        "classes": "buildings",
        "class": "building",
        "boxes": {"test": [[0, 0, SIDE, SIDE]]},
    }
    return Place("drawn", spec, tmp_path, tmp_path / "out")


def figures_of(place, shapes, folder, make_raster):
    scheme = load_scheme("buildings")
    ids = rasterize([(s, 1) for s in shapes], (SIDE, SIDE), dtype="uint8")
    raw = make_raster(ids[None], "raw.tif", crs="EPSG:32736", transform=PLANE, nodata=255)
    write_class_cog(raw, folder / "classes.tif", scheme, {})
    return judge(folder / "classes.tif", place, "test", scheme)["building"]


def test_a_perfect_raster_of_terraced_houses_has_all_areas_and_few_footprints(
    place, tmp_path, make_raster
):
    found = figures_of(place, (*TERRACE, DETACHED, SHED), tmp_path, make_raster)
    assert found["objects"]["f1"] == 1
    footprints = found["footprints"]
    assert (footprints["mapped"], footprints["truth"]) == (2, 4), "the shed is left out"
    assert (footprints["precision"], footprints["recall"]) == (0.5, 0.25)
    assert footprints["merged"] == 0.5
    assert found["footprints_of_truth"] == footprints


def test_houses_that_the_map_keeps_apart_count_each(place, tmp_path, make_raster):
    apart = [s.buffer(-2, join_style="mitre") for s in TERRACE]
    found = figures_of(place, (*apart, DETACHED), tmp_path, make_raster)
    assert found["footprints"]["f1"] == 1
    assert found["footprints_of_truth"]["f1"] == pytest.approx(1 / 3)
