"""Points planned on a map."""

import json
import sqlite3
from contextlib import closing

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from town_map import SCHEME, TEN, class_map, fill, pixels_of, planned, town

from geopipe.classes import IGNORE
from geopipe.errors import ConfigError, GeopipeError, LabelError, OutputError
from geopipe.evaluation.assess import pixels as module
from geopipe.evaluation.assess.assessment import check_report
from geopipe.evaluation.assess.design import read_points
from geopipe.evaluation.assess.interpretation import assess_map
from geopipe.evaluation.assess.pixels import ClassPixels, Fingerprint, GroundAreas, census
from geopipe.evaluation.assess.points import draw_pixels, plan_points

__all__ = ["class_map", "planned"]

# -- the plan


def test_points_lie_in_the_middle_of_pixels_of_their_class(planned):
    path, points, design = planned
    table = pyogrio.read_dataframe(points, layer="points")
    assert list(table.columns) == ["id", "truth", "geometry"], "nothing tells the mapped class"
    assert table["id"].tolist() == list(range(1, 31))
    assert table["truth"].isna().all()
    with rasterio.open(path) as src:
        assert table.crs == src.crs
        ids = src.read(1)
        places = [src.index(p.x, p.y) for p in table.geometry]
        assert all(src.xy(*at) == (p.x, p.y) for at, p in zip(places, table.geometry, strict=True))
    assert places == pixels_of(design)
    assert len(set(places)) == 30, "without replacement"
    mapped = [ids[at] for at in places]
    assert np.bincount(mapped).tolist() == [10, 10, 10]
    assert places != sorted(places), "nor does the order, or where the analyst stopped"
    assert mapped != sorted(mapped)
    assert design.pixels == tuple(np.bincount(ids[ids != IGNORE]).tolist())


def test_the_same_seed_gives_the_same_points_however_the_map_is_stored(
    class_map, tmp_path, monkeypatch
):
    first = plan_points(class_map(town()), tmp_path / "a.gpkg", TEN, scheme=SCHEME)
    tiled = class_map(town(), "tiled.tif", tiled=True, blockxsize=16, blockysize=16)
    monkeypatch.setattr(module, "_SIDE", 40)
    again = plan_points(tiled, tmp_path / "b.gpkg", TEN, scheme=SCHEME)
    assert pixels_of(again) == pixels_of(first)
    assert (again.sha256, again.pixels) == (first.sha256, first.pixels)
    assert again.area_m2 == pytest.approx(first.area_m2, rel=1e-9)
    other = plan_points(tiled, tmp_path / "c.gpkg", TEN, scheme=SCHEME, seed=1)
    assert not set(pixels_of(other)) >= set(pixels_of(first))


def test_no_read_is_larger_than_a_window(class_map, monkeypatch):
    monkeypatch.setattr(module, "_SIDE", 40)
    tiled = class_map(town(), tiled=True, blockxsize=16, blockysize=16)
    found = ClassPixels.open(tiled, SCHEME.names)
    assert max(w.height * w.width for w in found.windows) == 1600
    assert sum(w.height * w.width for w in found.windows) == 130 * 170


def test_every_pixel_of_a_class_is_drawn_equally_often(class_map):
    ids = town((36, 39))[:6, :9]
    ids[0, 0] = 1
    pixels = ClassPixels.open(class_map(ids), SCHEME.names)
    found = census(pixels)
    n = int(found.pixels[0])
    hits = np.zeros(ids.shape, int)
    for seed in range(600):
        np.add.at(hits, draw_pixels(pixels, found, (n // 3, 0, 0), seed), 1)
    assert hits[ids != 0].sum() == 0
    expected = 600 * (n // 3) / n
    assert abs(hits[ids == 0] - expected).max() < 5 * np.sqrt(600 * 2 / 9)


def test_a_small_class_is_taken_in_full(class_map, tmp_path):
    ids = np.zeros((40, 50), np.uint8)
    ids[3, 4] = ids[20, 30] = ids[39, 49] = 1
    design = plan_points(class_map(ids), tmp_path / "p.gpkg", TEN, scheme=SCHEME)
    assert design.points == (10, 3, 0)
    assert {(3, 4), (20, 30), (39, 49)} <= set(pixels_of(design))


@pytest.mark.parametrize("crs", ["EPSG:2154", "EPSG:4326"])
def test_an_area_limits_the_points(class_map, tmp_path, crs):
    box = geopandas.GeoSeries(
        [shapely.box(789_020, 6_500_920, 789_060, 6_500_980)], crs="EPSG:2154"
    )
    box.to_crs(crs).to_file(tmp_path / "area.gpkg", engine="pyogrio")
    ids = town()
    design = plan_points(
        class_map(ids), tmp_path / "p.gpkg", TEN, scheme=SCHEME, area=tmp_path / "area.gpkg"
    )
    assert design.pixels == tuple(np.bincount(ids[20:80, 20:60].ravel(), minlength=3).tolist())
    assert all(20 <= r < 80 and 20 <= c < 60 for r, c in pixels_of(design))
    assert design.area == "area.gpkg"


def test_names_and_colours_come_with_the_points(planned):
    points = planned[1]
    with closing(sqlite3.connect(points)) as db:
        layer, qml, default = db.execute(
            "SELECT f_table_name, styleQML, useAsDefault FROM layer_styles"
        ).fetchone()
    assert (layer, default) == ("points", 1)
    for name in SCHEME.names:
        assert f'<Option name="{name}" value="{name}" type="QString" />' in qml
    assert '<editWidget type="ValueMap">' in qml


# -- areas on the ground


@pytest.mark.parametrize(
    ("crs", "plane"),
    [
        ("EPSG:3857", Affine(0.5, 0, 400_000, 0, -0.5, 5_700_000)),
        ("EPSG:4326", Affine(1e-5, 0, 4, 0, -1e-5, 46)),
        ("EPSG:32631", Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000)),
    ],
)
def test_areas_are_those_on_the_ellipsoid(class_map, crs, plane):
    ids = np.zeros((60, 90), np.uint8)
    path = class_map(ids, crs=crs, transform=plane)
    found = census(ClassPixels.open(path, SCHEME.names))
    corners = [plane * at for at in ((0, 0), (90, 0), (90, 60), (0, 60))]
    lonlat = geopandas.GeoSeries([shapely.Polygon(corners)], crs=crs).to_crs(4326)[0]
    from pyproj import Geod

    oracle = abs(Geod(ellps="WGS84").geometry_area_perimeter(lonlat)[0])
    assert found.area_m2[0] == pytest.approx(oracle, rel=1e-6)


def test_a_map_of_a_continent_is_weighed_by_area(class_map):
    """Degrees from the equator to 60 N: the north has half the area of the south."""
    ids = np.zeros((60, 20), np.uint8)
    ids[:30] = 1
    path = class_map(ids, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 60))
    found = census(ClassPixels.open(path, SCHEME.names))
    share = found.area_m2[1] / found.area_m2.sum()
    sines = np.sin(np.radians([0, 30, 60]))
    assert share == pytest.approx((sines[2] - sines[1]) / sines[2], abs=0.003)
    areas = GroundAreas(ClassPixels.open(path, SCHEME.names).scene.geobox)
    low, high = areas.of(np.array([59, 0]), np.array([10, 10]))
    assert high / low == pytest.approx(np.cos(np.radians(59.5)), abs=0.01)


def test_the_fingerprint_tells_every_pixel():
    ids = town((7, 9))

    def of(array, width):
        found = Fingerprint()
        for row in range(0, 7, 3):
            for col in range(0, 9, width):
                part = array[row : row + 3, col : col + width]
                found.update(module.Window(row, col, *part.shape), part)
        return found.hexdigest()

    assert of(ids, 2) == of(ids, 9)
    other = ids.copy()
    other[6, 8] = 0
    assert of(other, 2) != of(ids, 2)


# -- what is refused


def test_maps_that_cannot_be_planned_on(class_map, make_raster, tmp_path):
    target = tmp_path / "p.gpkg"
    floats = make_raster(np.zeros((1, 5, 5), np.float32), "f.tif")
    colours = make_raster(np.zeros((3, 5, 5), np.uint8), "rgb.tif")
    nine = class_map(np.full((5, 5), 9, np.uint8), "nine.tif")
    empty = class_map(np.full((5, 5), IGNORE, np.uint8), "empty.tif")
    plain = class_map(town(), "plain.tif", crs=None)
    for path, words in (
        (floats, "float32"),
        (colours, "3 bands"),
        (nine, "class id 9"),
        (empty, "no pixel"),
        (plain, "no CRS"),
        (tmp_path / "none.tif", "none.tif"),
    ):
        with pytest.raises(GeopipeError, match=words):
            plan_points(path, target, TEN, scheme=SCHEME)
    with pytest.raises(ConfigError, match="names no classes"):
        plan_points(class_map(town()), target, TEN)
    assert not list(tmp_path.glob("p.gpkg*"))


def test_work_is_not_overwritten(planned, tmp_path):
    path, points, _ = planned
    fill(points, np.zeros((130, 170), np.uint8))
    with pytest.raises(OutputError, match=r"exists already, with the truth of 30 of its 30 points"):
        plan_points(path, points, TEN, scheme=SCHEME)
    plan_points(path, points, TEN, scheme=SCHEME, overwrite=True)
    assert read_points(points)[1]["truth"].isna().all()
    area = tmp_path / "area.gpkg"
    area.write_bytes(b"polygons")
    with pytest.raises(OutputError, match="would be made from"):
        plan_points(path, area, TEN, scheme=SCHEME, area=area, overwrite=True)
    for own in (path, points):
        with pytest.raises(OutputError, match="would be made from"):
            check_report(own, overwrite=True, sources=[path, points])
    for wrong in (tmp_path / "no" / "p.gpkg", tmp_path / "p.shp", path):
        with pytest.raises(GeopipeError):
            plan_points(path, wrong, TEN, scheme=SCHEME)


def test_files_that_are_no_plan(planned, tmp_path):
    path, points, _ = planned
    _, table = read_points(points)
    with pytest.raises(LabelError, match="there is no file"):
        assess_map(path, tmp_path / "none.gpkg")
    with pytest.raises(LabelError, match="cannot read the layer"):
        assess_map(path, path)
    copy = tmp_path / "copy.gpkg"
    pyogrio.write_dataframe(table, copy, layer="points")
    with pytest.raises(LabelError, match="does not hold the design"):
        assess_map(path, copy)
    for text in ("{}", "[]", json.dumps({"format": 2}), "nonsense"):
        pyogrio.write_dataframe(
            table, copy, layer="points", dataset_metadata={"GEOPIPE_DESIGN": text}
        )
        with pytest.raises(LabelError, match=r"the design in .* is damaged"):
            assess_map(path, copy)
    design = read_points(points)[0].to_json()
    pyogrio.write_dataframe(
        table.drop(columns="truth"),
        copy,
        layer="points",
        driver="GPKG",
        dataset_metadata={"GEOPIPE_DESIGN": design},
    )
    with pytest.raises(LabelError, match="no field 'truth'"):
        assess_map(path, copy)
