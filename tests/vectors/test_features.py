"""features.gpkg and features.parquet: layers, styles, counts, and maps without buildings."""

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine

from geopipe.classes import ClassScheme
from geopipe.errors import SceneError
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.raster.cog import write_class_cog
from geopipe.vectors.features import layer_names, write_features

UTM = Affine(0.5, 0, 550_000, 0, -0.5, 9_000_000)


def scheme(*names):
    classes = [{"name": n, "color": f"#{i:06x}"} for i, n in enumerate(names)]
    return ClassScheme.from_dict({"name": "s", "classes": classes})


TOWN = scheme("background", "building", "road", "water")


def town_map(folder, named=TOWN, crs="EPSG:32736"):
    ids = np.zeros((100, 120), np.uint8)
    ids[10:40, 10:50] = 1
    ids[60:90, 20:60] = 1
    ids[48:54] = 2
    raw = folder / "raw.tif"
    profile = {"driver": "GTiff", "height": 100, "width": 120, "count": 1, "dtype": "uint8"}
    with rasterio.open(raw, "w", nodata=255, crs=crs, transform=UTM, **profile) as out:
        out.write(ids, 1)
    if crs is None:
        return raw
    write_class_cog(raw, folder / "classes.tif", named, {})
    raw.unlink()
    return folder / "classes.tif"


def test_a_layer_per_class_and_the_same_as_geoparquet(tmp_path):
    source = town_map(tmp_path)
    written = write_features(source, tmp_path, TOWN, name="town")
    assert written.counts == {"buildings": 2, "roads": 1, "water": 0}
    assert written.notes == ("the probability of the footprints is unknown: the map has no scores",)
    facts = dict(written.facts())
    assert facts["features of buildings"] == "2"
    assert facts["features of roads"] == "1, 0.06 km"
    path = written.files["features"]
    layers = pyogrio.list_layers(path)
    assert {n: kind for n, kind in layers if kind} == {
        "buildings": "Polygon",
        "roads": "LineString",
        "water": "Polygon",
    }
    roads = gpd.read_file(path, layer="roads")
    assert roads["length_m"].tolist() == pytest.approx([60], rel=0.02)
    assert roads["width_m"].tolist() == pytest.approx([3], abs=0.3)
    styles = pyogrio.read_dataframe(path, layer="layer_styles", read_geometry=False)
    assert sorted(styles["f_table_name"]) == ["buildings", "roads", "water"]
    buildings = gpd.read_file(path, layer="buildings")
    assert buildings["area_m2"].tolist() == pytest.approx([300, 300], rel=2e-3)
    table = gpd.read_parquet(written.files["features_parquet"])
    assert table.crs.to_epsg() == 32736
    assert table["layer"].tolist() == ["buildings", "buildings", "roads"]
    assert table["shape_score"].tolist()[:2] == [1, 1]
    assert table["geometry"][:2].geom_equals(buildings.geometry).all()


def test_equal_maps_give_equal_bytes(tmp_path):
    source = town_map(tmp_path)
    contents = []
    for _ in range(2):
        files = write_features(source, tmp_path, TOWN, name="town").files
        contents.append([path.read_bytes() for path in files.values()])
    assert contents[0] == contents[1]


def test_features_are_truth_for_the_raster_they_come_from(tmp_path):
    land = scheme("background", "building", "field", "water")  # roads are lines in the file
    source = town_map(tmp_path, land)
    truth = write_features(source, tmp_path, land, name="town").files["features"]
    metrics = evaluate_map(source, truth)
    assert metrics.overall_accuracy == 1
    assert metrics.pixels == 100 * 120


def test_without_a_class_of_buildings_the_others_are_polygons(tmp_path):
    land = scheme("nothing", "forest", "river", "lake")
    written = write_features(town_map(tmp_path, land), tmp_path, land, name="land")
    assert written.counts == {"forest": 2, "river": 1, "lake": 0}
    assert "no class is named 'building'" in written.notes[0]


def test_layers_have_different_names():
    names = layer_names(scheme("b", "building", "Buildings", "road", "gpkg_x", "layer_styles"))
    assert list(names.values()) == ["buildings", "_Buildings", "roads", "_gpkg_x", "_layer_styles"]


def test_a_map_without_a_crs_leaves_nothing_behind(tmp_path):
    with pytest.raises(SceneError, match="no CRS"):
        write_features(town_map(tmp_path, crs=None), tmp_path, TOWN, name="town")
    assert [p.name for p in tmp_path.iterdir()] == ["raw.tif"]


@pytest.mark.parametrize("others", [("road", "roads"), ("roads", "buildings")])
def test_a_class_named_as_the_layer_of_another_keeps_its_polygons(tmp_path, others):
    named = scheme("background", "building", *others)
    source = town_map(tmp_path, named)
    with rasterio.open(source, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as out:
        ids = out.read(1)
        ids[:5] = 3
        out.write(ids, 1)
    written = write_features(source, tmp_path, named, name="town")
    kinds = dict(pyogrio.list_layers(written.files["features"]))
    assert kinds.get("roads", "LineString") == "LineString"
    for name in {"roads", "buildings"} & set(others):
        rows = pyogrio.read_dataframe(written.files["features"], layer=f"_{name}")
        assert kinds[f"_{name}"] == "Polygon"
        assert set(rows.geom_type) == {"Polygon"}
        assert set(rows["class"]) == {name}
    assert written.counts["buildings"] == 2
