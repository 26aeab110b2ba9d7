"""Files of a delivery mapped as one scene, and maps without small areas."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.windows import Window as RioWindow

from geopipe.checkpoint import LABEL_AREAS, Checkpoint
from geopipe.errors import ConfigError
from geopipe.mapping import Budget, Engine
from geopipe.mapping.min_area import class_min_areas, parse_min_area
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, mosaic_scene, write_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


def band(path):
    with rasterio.open(path) as src:
        return src.read(), src.transform, src.tags()


def options(core=256, **chosen):
    return MapOptions(Engine("cpu", budget=Budget(core)), confidence=True, **chosen)


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "map"
    return write_bundle(Scene.open(place.scene), place.refined, folder, options()).folder


@pytest.fixture
def files(place, tmp_path):
    """The scene in four files that overlap."""
    cuts = ((0, 0, 170, 180), (0, 160, 150, 180), (140, 0, 160, 210), (130, 200, 170, 140))
    made = []
    with rasterio.open(place.scene) as src:
        for number, (row, col, height, width) in enumerate(cuts):
            window = RioWindow(col, row, width, height)
            size = {"height": height, "width": width, "transform": src.window_transform(window)}
            made.append(str(tmp_path / f"tile_{number}.tif"))
            with rasterio.open(made[-1], "w", **(src.profile | size)) as out:
                out.write(src.read(window=window))
    return made


def test_four_files_give_the_map_of_the_whole(place, files, whole, tmp_path):
    out, chosen = tmp_path / "out", options()
    scene = mosaic_scene(files, out, chosen)
    bundle = write_bundle(scene, place.refined, out, chosen)
    for name in ("classes.tif", "confidence.tif"):
        (ours, at, tags), (theirs, place_, _) = band(out / name), band(whole / name)
        assert at == place_
        np.testing.assert_array_equal(ours, theirs)
        assert tags["scene_files"] == "tile_0.tif; tile_1.tif; tile_2.tif; tile_3.tif"
        assert tags["grid"] == "from the origin of the CRS"
    assert bundle.bad == ()
    assert not (tmp_path / "out.part").exists()


def test_a_mosaic_that_was_stopped_goes_on(place, files, whole, tmp_path, monkeypatch):
    from geopipe.mapping import scene as module

    def stopped(*_):
        raise KeyboardInterrupt

    out, chosen = tmp_path / "out", options()
    with monkeypatch.context() as patch:
        patch.setattr(module, "require_equal", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_bundle(mosaic_scene(files, out, chosen), place.refined, out, chosen)
    head = (tmp_path / "out.part" / "journal.jsonl").read_text().splitlines()[0]
    assert all(file in head for file in files)
    write_bundle(mosaic_scene(files, out, chosen), place.refined, out, chosen)
    np.testing.assert_array_equal(band(out / "classes.tif")[0], band(whole / "classes.tif")[0])


def test_small_areas_go_alike_for_all_tilings(place, whole, tmp_path):
    maps, vectors = [], set()
    for core in (256, 512, 1024):
        folder = tmp_path / str(core)
        chosen = options(core, min_area=20.0, vectors=True)
        bundle = write_bundle(Scene.open(place.scene), place.refined, folder, chosen)
        ids, _, tags = band(folder / "classes.tif")
        maps.append(ids)
        assert tags["min_area"] == "background 20 m2, building 20 m2, road 20 m2"
        confidence = band(folder / "confidence.tif")[0]
        np.testing.assert_array_equal(confidence, band(whole / "confidence.tif")[0])
        lengths = pyogrio.read_dataframe(folder / "features.gpkg", layer="roads")["length_m"]
        names = "features.gpkg", "features.parquet"
        vectors.add(tuple((folder / name).read_bytes() for name in names))
        assert not lengths.isna().any()
        pixels = np.bincount(ids.ravel(), minlength=256)[:3] * 0.25
        assert list(bundle.areas.values()) == pytest.approx(pixels, rel=2e-3)
    assert all(np.array_equal(ids, maps[0]) for ids in maps)
    assert len(vectors) == 1
    assert (maps[0] != band(whole / "classes.tif")[0]).any()


def test_by_default_the_least_area_is_the_models(place, whole, tmp_path):
    model = Checkpoint.load(place.refined)
    taught = model.with_net(model.net, {LABEL_AREAS: {"building": 20.0}})
    taught.save(tmp_path / "taught.safetensors")
    scene = Scene.open(place.scene)
    write_bundle(scene, tmp_path / "taught.safetensors", tmp_path / "map", options())
    ids, _, tags = band(tmp_path / "map" / "classes.tif")
    assert tags["min_area"] == "building 20 m2"
    assert "min_area" not in band(whole / "classes.tif")[2]
    assert (ids != band(whole / "classes.tif")[0]).any()
    kept = options(min_area=0.0)
    write_bundle(scene, tmp_path / "taught.safetensors", tmp_path / "all", kept)
    np.testing.assert_array_equal(
        band(tmp_path / "all" / "classes.tif")[0], band(whole / "classes.tif")[0]
    )
    report = json.loads((tmp_path / "map" / "report.json").read_text())
    assert "building 20 m2" in json.dumps(report)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("10", (10, 10, 10)), ("building=12, road=3.5", (0, 12, 3.5)), ("0", (0, 0, 0))],
)
def test_sizes_are_given_for_all_classes_or_by_name(place, text, sizes):
    scheme = Checkpoint.load(place.refined).scheme
    assert class_min_areas(parse_min_area(text), scheme, {}) == sizes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("much", "min-area 'much' is no size"),
        ("building=", "is no size"),
        ("house=3", "house"),
        ("-3", "least area of -3 m2"),
        ("nan", "least area of nan m2"),
    ],
)
def test_sizes_that_are_none(place, text, words):
    scheme = Checkpoint.load(place.refined).scheme
    with pytest.raises(ConfigError, match=words):
        class_min_areas(parse_min_area(text), scheme, {})
