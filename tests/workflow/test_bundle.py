"""The folder an analyst gets for a scene: whole or not at all, and true to its scene."""

import hashlib
import json
import math
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from bundle_world import ALL, PLAIN, names
from rasterio.enums import ColorInterp
from tiny_place import GSD, LEFT, TOP, write_scene

from geopipe.checkpoint import Checkpoint
from geopipe.errors import CheckpointError, ConfigError
from geopipe.grid import ground_gsd
from geopipe.mapping import Budget, Engine, Workers
from geopipe.raster import Scene
from geopipe.raster.cog import read_scheme
from geopipe.report import map_summary
from geopipe.workflow import bundle as bundles
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.many import write_bundles

pytestmark = pytest.mark.usefixtures("one_thread")


def read(path):
    with rasterio.open(path) as src:
        return src.read()


@pytest.fixture(scope="module")
def scene(place):
    return Scene.open(place.scene)


@pytest.fixture(scope="module")
def bundle(place, scene, tmp_path_factory, one_thread):
    """A bundle with all there is, made with the refined model."""
    return write_bundle(scene, place.refined, tmp_path_factory.mktemp("b") / "deep" / "map", ALL)


# -- what lies in it


def test_the_files_are_those_asked_for(bundle, place, scene, tmp_path):
    assert names(bundle.folder) == PLAIN | {
        "scores.tif",
        "scores.qml",
        "features.gpkg",
        "features.html",
        "features.parquet",
    }
    assert names(bundle.folder.parent) == {"map"}
    plain = write_bundle(scene, place.base, tmp_path / "map", MapOptions(Engine("cpu")))
    assert names(plain.folder) == PLAIN
    assert (plain.classes, plain.report) == (
        tmp_path / "map/classes.tif",
        tmp_path / "map/report.html",
    )
    assert "features.html" not in plain.report.read_text()
    houses = len(pyogrio.read_dataframe(bundle.folder / "features.gpkg", layer="buildings"))
    link = f'<a href="features.html">Features on the map</a>: {houses} buildings; '
    assert link in bundle.report.read_text()


def test_the_map_has_exactly_the_scenes_plane_and_its_holes(bundle, scene):
    valid = scene.read().valid
    assert 0 < (~valid).sum() == 24 * 24
    for path, bands in ((bundle.classes, 1), (bundle.folder / "scores.tif", 3)):
        with rasterio.open(path) as src:
            assert src.transform == scene.geobox.affine
            assert src.crs.to_epsg() == 2154
            assert (src.shape, src.count, set(src.dtypes)) == (scene.shape, bands, {"uint8"})
            assert src.nodata == 255
            assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            for band in src.read():
                np.testing.assert_array_equal(band == 255, ~valid)
    assert set(np.unique(read(bundle.classes)[0][valid])) == {0, 1, 2}


def test_names_colours_and_legend_are_the_models(bundle, place):
    scheme = Checkpoint.load(place.refined).scheme
    found = read_scheme(bundle.classes)
    assert found.names == scheme.names == ("background", "building", "road")
    assert [c.color for c in found.classes] == [c.color for c in scheme.classes]
    rows = ET.parse(bundle.folder / "classes.qml").iter("paletteEntry")
    assert [r.get("label") for r in rows] == list(scheme.names)
    with rasterio.open(bundle.classes) as src:
        assert src.descriptions == ("class",)
        assert src.colorinterp == (ColorInterp.palette,)
    with rasterio.open(bundle.folder / "scores.tif") as src:
        assert src.descriptions == scheme.names


def test_the_tags_say_how_it_was_made(bundle, place):
    for name in ("classes.tif", "scores.tif"):
        with rasterio.open(bundle.folder / name) as src:
            tags = src.tags()
        assert tags["model_sha256"] == hashlib.sha256(place.refined.read_bytes()).hexdigest()
        assert tags["credit"] == "(c) OpenStreetMap contributors"
        assert tags["software"].startswith("geopipe ")
        assert (tags["scene"], tags["scene_bands"]) == ("scene.tif", "1 2 3")
        assert tags["model_iterations"] == "2"
        assert json.loads(tags["model_provenance"])["credit"] == tags["credit"]


def test_the_credit_of_the_image_is_in_all_products(place, tmp_path):
    credited = tmp_path / "scene.tif"
    shutil.copy(place.scene, credited)
    with rasterio.open(credited, "r+") as src:
        src.update_tags(credit="The Agency")
    options = MapOptions(Engine("cpu"), vectors=True)
    folder = write_bundle(Scene.open(credited), place.base, tmp_path / "map", options).folder
    credit = "(c) OpenStreetMap contributors; The Agency"
    with rasterio.open(folder / "classes.tif") as src:
        assert src.tags()["credit"] == credit
    item = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    assert json.loads(item["properties"]["processing:lineage"])["credit"] == credit
    assert json.loads((folder / "report.json").read_text())["facts"]["credit"] == credit
    assert credit in (folder / "report.html").read_text(encoding="utf-8")
    about = pyogrio.read_info(folder / "features.gpkg", layer="buildings")["layer_metadata"]
    assert about["credit"] == credit


def test_scores_are_probabilities_and_their_best_is_the_map(bundle):
    classes, scores = read(bundle.classes)[0], read(bundle.folder / "scores.tif").astype(int)
    valid = classes != 255
    total = scores.sum(axis=0)[valid]
    assert total.min() >= 250 - 2
    assert total.max() <= 250 + 2
    chosen = np.take_along_axis(scores, np.where(valid, classes, 0)[None], axis=0)[0]
    assert (chosen[valid] == scores.max(axis=0)[valid]).all()


def test_polygons_are_the_maps(bundle):
    classes = read(bundle.classes)[0]
    path = bundle.folder / "features.gpkg"
    roads, buildings = (gpd.read_file(path, layer=n) for n in ("roads", "buildings"))
    assert roads.crs.to_epsg() == buildings.crs.to_epsg() == 2154
    assert set(roads["class"]) == {"road"}
    assert set(roads.geom_type) <= {"LineString"}
    surface = (roads["length_m"] * roads["width_m"]).sum() / GSD**2
    assert surface == pytest.approx((classes == 2).sum(), rel=0.3)
    assert set(buildings["class"]) <= {"building"}
    assert buildings["mean_score"].between(0.3, 1).all()
    table = gpd.read_parquet(bundle.folder / "features.parquet")
    assert table.groupby("layer").size().to_dict() == {
        name: len(rows) for name, rows in (("buildings", buildings), ("roads", roads)) if len(rows)
    }
    lead = json.loads((bundle.folder / "report.json").read_text())["lead"]
    assert {row[0]: row[3] for row in lead[1:]}["building"] == str(len(buildings))
    with sqlite3.connect(path) as db:
        styled = db.execute("SELECT f_table_name FROM layer_styles").fetchall()
    assert sorted(styled) == [("buildings",), ("roads",)]


def test_areas_are_pixels_times_ground_and_all_places_say_the_same(bundle, scene):
    metres = math.prod(ground_gsd(scene.geobox))
    pixels = np.bincount(read(bundle.classes).ravel(), minlength=3)[:3]
    assert list(bundle.areas) == ["background", "building", "road"]
    np.testing.assert_allclose(list(bundle.areas.values()), pixels * metres, rtol=1e-5)
    head, *rows = json.loads((bundle.folder / "report.json").read_text())["lead"]
    assert head == ["class", "area", "share", "number"]
    for row, (name, m2), n in zip(rows, bundle.areas.items(), pixels, strict=True):
        share = 100 * n / pixels.sum()
        assert row[:3] == [name, f"{m2 / 1e4:.2f} ha", f"{share:.1f} %"]


def test_areas_of_web_mercator_are_those_on_the_ground(place, tmp_path):
    at = Affine(0.7, 0, 450_000, 0, -0.7, 5_740_000)  # 45.8 N: 0.7 units are 0.49 m
    data = np.random.default_rng(0).integers(1, 255, (3, 130, 120)).astype(np.uint8)
    path = write_scene(tmp_path / "s.tif", data, crs="EPSG:3857", transform=at)
    bundle = write_bundle(Scene.open(path), place.base, tmp_path / "map", MapOptions(Engine("cpu")))
    box = gpd.GeoSeries.from_wkt(
        [
            "POLYGON((450000 5740000, 450084 5740000, 450084 5739909, 450000 5739909, "
            "450000 5740000))"
        ],
        crs="EPSG:3857",
    )
    expected = box.to_crs("EPSG:2154").area.item()
    np.testing.assert_allclose(sum(bundle.areas.values()), expected, rtol=3e-3)


def test_the_item_names_every_file_and_the_scenes_plane(bundle, scene):
    item = json.loads((bundle.folder / "item.json").read_text())
    hrefs = {a["href"].removeprefix("./") for a in item["assets"].values()}
    assert hrefs == {
        "classes.tif",
        "classes.qml",
        "scores.tif",
        "scores.qml",
        "layers.qlr",
        "features.gpkg",
        "features.html",
        "features.parquet",
        "report.html",
    }
    assert all((bundle.folder / h).is_file() for h in hrefs)
    assert item["id"] == "scene"
    assert item["properties"]["proj:code"] == "EPSG:2154"
    assert item["properties"]["proj:shape"] == list(scene.shape)
    assert "model_sha256" in item["properties"]["processing:lineage"]


def test_the_report_reads_without_the_network(bundle):
    page = (bundle.folder / "report.html").read_text()
    assert "Map of scene.tif" in page
    assert 'src="http' not in page


def test_nothing_in_it_leads_back_to_the_temporary_folder(bundle):
    for path in bundle.folder.iterdir():
        assert b"map.part" not in path.read_bytes(), path.name


def test_equal_inputs_give_equal_maps(bundle, place, scene, tmp_path):
    """Also by several threads; those of processes are compared in engine/test_cluster.py."""
    options = replace(ALL, engine=replace(ALL.engine, workers=Workers(threads=2)))
    again = write_bundle(scene, place.refined, tmp_path / "map", options)
    rasters = {"classes.tif", "scores.tif", "classes.qml", "classes.tif.aux.xml"}
    for name in rasters | {"features.gpkg", "features.parquet"}:
        assert (again.folder / name).read_bytes() == (bundle.folder / name).read_bytes(), name


# -- a model that does not fit


def test_another_number_of_bands_is_refused_and_another_type_is_noted(place, tmp_path):
    data = np.random.default_rng(0).integers(1, 255, (2, 40, 40)).astype(np.uint8)
    two = Scene.open(write_scene(tmp_path / "two.tif", data))
    with pytest.raises(CheckpointError, match=r"takes 3 bands, .*two.tif gives 2"):
        write_bundle(two, place.base, tmp_path / "map", MapOptions(Engine("cpu")))
    wide = np.concatenate([data, data[:1]]).astype(np.uint16)
    deep = Scene.open(write_scene(tmp_path / "deep.tif", wide))
    write_bundle(deep, place.base, tmp_path / "map", MapOptions(Engine("cpu")))
    notes = json.loads((tmp_path / "map/report.json").read_text())["notes"]
    assert any("is uint16, the model was trained on uint8" in n for n in notes)
    with pytest.raises(ConfigError, match="no device cuda:9"):
        write_bundle(deep, place.base, tmp_path / "other", MapOptions(Engine("cuda:9")))
    assert not (tmp_path / "other").exists()


def test_holes_that_nobody_declared_are_noted(place, tmp_path):
    data = np.random.default_rng(0).integers(1, 255, (3, 128, 128)).astype(np.uint8)
    data[:, :64, :64] = 255
    path = write_scene(tmp_path / "s.tif", data)
    write_bundle(Scene.open(path), place.base, tmp_path / "map", MapOptions(Engine("cpu")))
    notes = json.loads((tmp_path / "map/report.json").read_text())["notes"]
    assert any("give nodata 255" in n for n in notes)
    told = Scene.open(path, nodata=255)
    write_bundle(told, place.base, tmp_path / "told", MapOptions(Engine("cpu")))
    assert json.loads((tmp_path / "told/report.json").read_text())["notes"] == []
    assert (read(tmp_path / "told/classes.tif")[0][:64, :64] == 255).all()


# -- scenes of every kind


def _turned():
    return Affine.translation(LEFT, TOP) * Affine.rotation(30) * Affine.scale(GSD, -GSD)


KINDS = {
    "one pixel": {"shape": (1, 1)},
    "a ribbon": {"shape": (5, 4999)},
    "a pole": {"shape": (1500, 3)},
    "degrees": {
        "crs": "EPSG:4326",
        "transform": Affine(6e-6, 0, 4.2, 0, -4.5e-6, 45.8),
    },
    "web mercator": {
        "crs": "EPSG:3857",
        "transform": Affine(0.7, 0, 450_000, 0, -0.7, 5_740_000),
    },
    "16 bits": {"dtype": np.uint16, "top": 4000},
    "floats with holes": {"dtype": np.float32, "top": 255, "nan": True},
    "alpha": {"bands": 4, "alpha": True},
    "south up": {"transform": Affine(GSD, 0, LEFT, 0, GSD, TOP)},
    "turned": {"transform": _turned()},
    "coarse pixels": {"transform": Affine(3, 0, LEFT, 0, -3, TOP)},
    "oblong pixels": {"transform": Affine(0.4, 0, LEFT, 0, -0.9, TOP)},
    "no pixel is valid": {"nodata": 9, "top": 10, "low": 9},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_scenes_of_every_kind_are_mapped_on_their_own_pixels(place, tmp_path, kind):
    rng = np.random.default_rng(0)
    shape = (kind.get("bands", 3), *kind.get("shape", (70, 90)))
    data = rng.integers(kind.get("low", 1), kind.get("top", 255), shape)
    data = data.astype(kind.get("dtype", np.uint8))
    valid = np.ones(shape[1:], bool)
    if "alpha" in kind:
        valid[:20, :30] = False
        data[3] = 255 * valid
    if "nan" in kind:
        valid[5:9] = False
        data[:, 5:9] = np.nan
    if "nodata" in kind:
        valid[:] = False
    path = write_scene(
        tmp_path / "s.tif",
        data,
        crs=kind.get("crs", "EPSG:2154"),
        transform=kind.get("transform"),
        nodata=kind.get("nodata"),
        photometric="RGB",
        **({"alpha": "yes"} if "alpha" in kind else {}),
    )
    scene = Scene.open(path)
    assert scene.bands == (1, 2, 3)
    bundle = write_bundle(scene, place.refined, tmp_path / "map", ALL)
    with rasterio.open(bundle.classes) as src, rasterio.open(path) as original:
        assert (src.shape, src.transform, src.crs) == (
            original.shape,
            original.transform,
            original.crs,
        )
        ids = src.read(1)
    np.testing.assert_array_equal(ids != 255, valid)
    assert (ids[valid] < 3).all()
    assert (read(bundle.folder / "scores.tif")[:, ~valid] == 255).all()
    pixels = np.bincount(ids.ravel(), minlength=3)[:3]
    metres = math.prod(ground_gsd(scene.geobox))
    np.testing.assert_allclose(list(bundle.areas.values()), pixels * metres, rtol=2e-3, atol=1e-9)
    roads = gpd.read_file(bundle.folder / "features.gpkg", layer="roads")
    assert set(roads.geom_type) <= {"LineString"}
    assert (roads["length_m"] > 0).all()
    assert not len(roads) or pixels[2]


def test_the_picture_of_a_large_scene_comes_from_its_tiles(scene, place, tmp_path, monkeypatch):
    reread = map_summary.downscale(scene, 60)
    for module in (bundles, map_summary):
        monkeypatch.setattr(module, "OVERVIEW_PX", 60)
    seen = []
    monkeypatch.setattr(bundles, "write_report", lambda folder, r: seen.append(r) or (folder,) * 3)
    monkeypatch.setattr(map_summary, "downscale", None)  # is not called
    monkeypatch.setattr(bundles, "write_item", lambda *a, **k: None)
    write_bundle(
        scene, place.refined, tmp_path / "map", MapOptions(Engine("cpu", budget=Budget(256)))
    )
    image, classes = seen[0].overview
    assert image.shape == reread.shape == (3, *classes.shape)
    assert np.abs(image.astype(int) - reread).mean() < 3


def test_a_map_loads_and_hashes_its_model_once(place, tmp_path, monkeypatch):
    """Also one of several scenes; threads compute with a copy of what is loaded."""
    loaded, hashed = [], []
    load, digest = Checkpoint.load, hashlib.file_digest
    monkeypatch.setattr(Checkpoint, "load", lambda path: loaded.append(path) or load(path))

    def counted(file, algorithm):
        hashed.append(Path(f"/proc/self/fd/{file.fileno()}").resolve())
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    model = Path(shutil.copy(place.base, tmp_path / "a model.safetensors"))
    options = MapOptions(Engine("cpu", Workers(threads=2), Budget(256)), scores=True)
    write_bundle(Scene.open(place.scene), model, tmp_path / "map", options)
    assert (loaded, hashed.count(model)) == ([model], 1)
    second = str(shutil.copy(place.scene, tmp_path / "second.tif"))
    write_bundles([str(place.scene), second], model, tmp_path / "maps", options)
    assert (loaded, hashed.count(model)) == ([model] * 2, 2)
