"""geopipe assess: from a finished map to points, and from filled points to a report."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio

from geopipe.classes import load_scheme
from geopipe.raster.cog import write_class_cog

SCHEME = load_scheme("buildings-roads")


@pytest.fixture
def class_map(make_raster, tmp_path):
    """A finished map with its names: 5 % buildings, no road, a hole."""
    ids = np.random.default_rng(3).choice(2, (200, 150), p=[0.95, 0.05]).astype(np.uint8)
    ids[:20, :20] = 255
    write_class_cog(make_raster(ids[None], "raw.tif", nodata=255), tmp_path / "map.tif", SCHEME, {})
    return tmp_path / "map.tif"


def fill(points, class_map, wrong=()):
    """As an analyst who agrees with the map but for the points `wrong`; in place, as QGIS does."""
    table = pyogrio.read_dataframe(points, layer="points")
    kept = pyogrio.read_info(points, layer="points")["dataset_metadata"]
    with rasterio.open(class_map) as src:
        ids = [int(v[0]) for v in src.sample([(p.x, p.y) for p in table.geometry])]
    table["truth"] = [SCHEME.names[i] for i in ids]
    table.loc[table["id"].isin(wrong), "truth"] = "road"
    pyogrio.write_dataframe(table, points, layer="points", driver="GPKG", dataset_metadata=kept)


def test_from_plan_to_report(geopipe, class_map, tmp_path):
    points, out = tmp_path / "points.gpkg", tmp_path / "report.md"
    said = geopipe("assess", "plan", class_map, "-o", points, "--per-class", 60)
    assert said.code == 0
    assert said.out.splitlines()[-1] == str(points)
    assert "120 points" in said.out
    assert said.err == "note: no pixel of class road, so no point\n"
    fill(points, class_map, wrong=(3, 4))
    said = geopipe("assess", "report", class_map, points)
    assert (said.code, said.err) == (0, "")
    assert "120 of 120 planned points used" in said.out
    written = geopipe("assess", "report", class_map, points, "-o", out)
    assert (written.code, written.out) == (0, f"{out}\n")
    assert out.read_text() == said.out
    again = geopipe("assess", "report", class_map, points, "-o", out)
    assert again.code == 1
    assert "exists already" in again.err
    assert geopipe("assess", "report", class_map, points, "-o", out, "--overwrite").code == 0


def test_in_json(geopipe, class_map, tmp_path):
    points = tmp_path / "points.gpkg"
    words = ["assess", "plan", class_map, "-o", points, "--json", "--target-ci", 0.05]
    plan = json.loads(geopipe(*words, "--seed", 7, "--expect", "building=0.8").out)
    assert plan["expected_half_width"] <= 0.05
    assert plan["seed"] == 7
    assert plan["classes"]["building"]["points"] == 50
    assert plan["classes"]["building"]["expected_accuracy"] == 0.8
    assert plan["classes"]["road"]["points"] == 0
    fill(points, class_map, wrong=(1,))
    said = geopipe("assess", "report", class_map, points, "--json")
    found = json.loads(said.out)
    assert found["map_sha256"] == plan["map_sha256"]
    assert 0.9 < found["overall_accuracy"]["value"] < 1
    assert found["classes"]["road"]["users_accuracy"]["value"] is None
    assert found["classes"]["road"]["producers_accuracy"] == {"value": 0, "se": 0, "half_width": 0}
    areas = sum(c["area_ha"]["value"] for c in found["classes"].values())
    assert areas == pytest.approx(sum(c["area_ha"] for c in plan["classes"].values()))


def test_what_was_left_out_is_told(geopipe, class_map, tmp_path):
    points = tmp_path / "points.gpkg"
    geopipe("assess", "plan", class_map, "-o", points, "--per-class", 60)
    said = geopipe("assess", "report", class_map, points)
    assert (said.code, said.out) == (1, "")
    assert "no usable point in the mapped class" in said.err
    fill(points, class_map)
    table = pyogrio.read_dataframe(points, layer="points")
    kept = pyogrio.read_info(points, layer="points")["dataset_metadata"]
    table.loc[5, "truth"] = "castle"
    pyogrio.write_dataframe(table, points, layer="points", driver="GPKG", dataset_metadata=kept)
    said = geopipe("assess", "report", class_map, points)
    assert (said.code, said.err) == (0, "left out: 1 x truth is no class\n")
    assert "| truth is no class | 1 | 6 |" in said.out


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "map.tif"],
        ["plan", "map.tif", "-o", "p.gpkg", "--per-class", "5", "--target-ci", "0.1"],
        ["plan", "map.tif", "-o", "p.gpkg", "--expect", "building"],
        ["plan", "map.tif", "-o", "p.gpkg", "--seed", "-1"],
        ["report", "map.tif"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(geopipe, words):
    said = geopipe("assess", *words)
    assert (said.code, said.out) == (2, "")
    assert "Usage: geopipe assess" in said.err


def test_a_map_without_a_place_is_refused_in_one_line(geopipe, make_raster, tmp_path):
    from PIL import Image

    ids = np.zeros((20, 20), np.uint8)
    Image.fromarray(ids).save(tmp_path / "map.png")
    plain = make_raster(ids[None], "plain.tif", crs=None)
    for path in (tmp_path / "map.png", plain):
        said = geopipe("assess", "plan", path, "-o", tmp_path / "p.gpkg", "--classes", "buildings")
        assert said.code == 1
        assert said.err.startswith("error: ")
        assert "no CRS" in said.err
        assert said.err.count("\n") == 1
    assert not (tmp_path / "p.gpkg").exists()
