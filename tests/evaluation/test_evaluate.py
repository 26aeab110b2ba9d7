import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image

from geopipe.classes import IGNORE, load_scheme
from geopipe.errors import ConfigError, GeopipeError, LabelError, SceneError
from geopipe.evaluation import map_accuracy as module
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.metrics import Metrics
from geopipe.raster.cog import write_class_cog

SCHEME = load_scheme("buildings-roads")
TWO = load_scheme("buildings")
UTM = Affine(0.5, 0, 550_000, 0, -0.5, 9_000_000)


def ids_of(shape, seed, choices=(0, 1, 2, IGNORE)):
    return np.random.default_rng(seed).choice(choices, shape).astype(np.uint8)


def save(path, ids, transform=UTM, crs="EPSG:32736", nodata=255):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=ids.shape[0],
        width=ids.shape[1],
        count=1,
        dtype=ids.dtype,
        nodata=nodata,
        crs=crs,
        transform=transform,
        tiled=True,
        blockxsize=64,
        blockysize=64,
    ) as out:
        out.write(ids, 1)
    return path


def save_png(path, ids):
    Image.fromarray(ids).save(path)
    return path


def save_boxes(path, *boxes, crs="EPSG:32736", **columns):
    shapes = [shapely.box(*b) for b in boxes]
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs).to_file(path, engine="pyogrio")
    return path


def assert_same(a, b):
    np.testing.assert_array_equal(a.matrix, b.matrix)
    assert (a.names, a.ignored) == (b.names, b.ignored)


@pytest.mark.parametrize("side", [32, 100, 2048])
def test_streamed_equals_whole(tmp_path, monkeypatch, side):
    mapped, truth = ids_of((301, 270), 1), ids_of((301, 270), 2)
    monkeypatch.setattr(module, "_SIDE", side)
    found = evaluate_map(
        save(tmp_path / "m.tif", mapped), save(tmp_path / "t.tif", truth), scheme=SCHEME
    )
    assert_same(found, Metrics.of(SCHEME.names, truth, mapped))
    assert found.ignored == ((mapped == 255) | (truth == 255)).sum()


def test_no_window_is_larger_than_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SIDE", 100)
    tiled = save(tmp_path / "m.tif", ids_of((301, 270), 1))
    striped = save_png(tmp_path / "m.png", ids_of((301, 270), 1))
    for path in (tiled, striped):
        with module._raster(path) as src:
            seen = np.zeros(src.shape, int)
            for w in module._windows(src):
                assert w.height * w.width <= 100 * 100
                seen[w.slices] += 1
        assert (seen == 1).all()


def test_the_map_names_its_classes_itself(tmp_path):
    mapped, truth = ids_of((80, 90), 1), ids_of((80, 90), 2)
    cog = tmp_path / "classes.tif"
    write_class_cog(save(tmp_path / "raw.tif", mapped), cog, SCHEME, {})
    found = evaluate_map(cog, save(tmp_path / "t.tif", truth))
    assert_same(found, Metrics.of(SCHEME.names, truth, mapped))
    with pytest.raises(ConfigError, match="names no classes"):
        evaluate_map(tmp_path / "raw.tif", tmp_path / "t.tif")


def test_truth_on_a_finer_and_larger_plane(tmp_path):
    truth = np.zeros((100, 100), np.uint8)
    truth[10:40, 20:70] = 1
    truth[60:70] = 2
    finer = np.pad(np.kron(truth, np.ones((2, 2), np.uint8)), 30, constant_values=255)
    plane = UTM * Affine.translation(-15, -15) * Affine.scale(0.5)
    mapped = truth.copy()
    mapped[60:70] = 0
    found = evaluate_map(
        save(tmp_path / "m.tif", mapped), save(tmp_path / "t.tif", finer, plane), scheme=SCHEME
    )
    assert_same(found, Metrics.of(SCHEME.names, truth, mapped))


@pytest.mark.parametrize("crs", ["EPSG:32736", "EPSG:4326"])
def test_truth_of_polygons(tmp_path, crs):
    truth = np.zeros((100, 120), np.uint8)
    truth[10:40, 20:70] = 1
    mapped = np.roll(truth, 5, axis=1)
    # The edges lie between pixel centres, so a reprojection cannot move a pixel over them.
    outline = geopandas.GeoDataFrame(
        {"building": ["yes"]},
        geometry=[shapely.box(550_010, 8_999_980, 550_035, 8_999_995)],
        crs="EPSG:32736",
    )
    outline.to_crs(crs).to_file(tmp_path / "t.gpkg", layer="houses", engine="pyogrio")
    source = save(tmp_path / "m.tif", mapped)
    for layer in (None, "houses"):
        found = evaluate_map(source, tmp_path / "t.gpkg", scheme=TWO, layer=layer)
        assert_same(found, Metrics.of(TWO.names, truth, mapped))
    with pytest.raises(LabelError):
        evaluate_map(source, tmp_path / "t.gpkg", scheme=TWO, layer="castles")


@pytest.mark.parametrize("side", [32, 2048])
@pytest.mark.parametrize("crs", ["EPSG:32736", "EPSG:4326"])
def test_an_area_limits_the_comparison(tmp_path, monkeypatch, side, crs):
    monkeypatch.setattr(module, "_SIDE", side)
    mapped, truth = ids_of((200, 150), 1), ids_of((200, 150), 2)
    area = tmp_path / "area.geojson"
    boxes = [(550_010, 8_999_950, 550_030, 8_999_990), (550_050, 8_999_980, 550_060, 8_999_985)]
    plane = geopandas.GeoSeries([shapely.box(*b) for b in boxes], crs="EPSG:32736")
    plane.to_crs(crs).to_file(area, engine="pyogrio")
    found = evaluate_map(
        save(tmp_path / "m.tif", mapped), save(tmp_path / "t.tif", truth), scheme=SCHEME, area=area
    )
    inside = np.zeros((200, 150), bool)
    inside[20:100, 20:60] = inside[30:40, 100:120] = True
    assert_same(found, Metrics.of(SCHEME.names, truth[inside], mapped[inside]))


def test_an_area_elsewhere_or_without_shape_is_refused(tmp_path):
    m, t = (save(tmp_path / f"{n}.tif", ids_of((50, 50), 1)) for n in "mt")
    far = save_boxes(tmp_path / "far.gpkg", (0, 0, 10, 10), n=[1])
    with pytest.raises(LabelError, match=r"none of the 1 polygons"):
        evaluate_map(m, t, scheme=SCHEME, area=far)
    with pytest.raises(LabelError, match="cannot read polygons"):
        evaluate_map(m, t, scheme=SCHEME, area=m)


def test_png_pairs_are_compared_pixel_by_pixel(tmp_path):
    mapped, truth = ids_of((70, 50), 1), ids_of((70, 50), 2)
    m, t = save_png(tmp_path / "m.png", mapped), save_png(tmp_path / "t.png", truth)
    expected = Metrics.of(SCHEME.names, truth, mapped)
    assert_same(evaluate_map(m, t, scheme=SCHEME), expected)
    # One of the two may know its place.
    assert_same(evaluate_map(save(tmp_path / "m.tif", mapped), t, scheme=SCHEME), expected)
    assert_same(evaluate_map(m, save(tmp_path / "t.tif", truth), scheme=SCHEME), expected)


def test_masks_of_0_and_255(tmp_path):
    mapped, truth = ids_of((70, 50), 1, (0, 1)), ids_of((70, 50), 2, (0, 1))
    expected = Metrics.of(TWO.names, truth, mapped)
    m, t = (save_png(tmp_path / f"{n}.png", a * 255) for n, a in (("m", mapped), ("t", truth)))
    assert_same(evaluate_map(m, t, scheme=TWO), expected)
    ids = save_png(tmp_path / "ids.png", truth)
    assert_same(evaluate_map(m, ids, scheme=TWO), expected)
    # With three values 255 is what it always is: not known.
    some = np.where(ids_of((70, 50), 3, (0, 1)) == 1, truth, 255).astype(np.uint8)
    found = evaluate_map(m, save_png(tmp_path / "some.png", some), scheme=TWO)
    assert_same(found, Metrics.of(TWO.names, some, mapped))
    # And with three classes as well.
    assert evaluate_map(m, ids, scheme=SCHEME).ignored == mapped.sum()


def test_a_declared_nodata_is_left_out(tmp_path):
    truth = ids_of((40, 40), 2, (0, 1, 2, 9))
    mapped = ids_of((40, 40), 1, (0, 1, 2))
    found = evaluate_map(
        save(tmp_path / "m.tif", mapped), save(tmp_path / "t.tif", truth, nodata=9), scheme=SCHEME
    )
    assert_same(found, Metrics.of(SCHEME.names, np.where(truth == 9, 255, truth), mapped))


def test_truth_of_another_place_names_both(tmp_path):
    m = save(tmp_path / "m.tif", ids_of((50, 50), 1))
    far = UTM * Affine.translation(4000, 0)
    with pytest.raises(LabelError, match=r"33\.45.*33\.4"):
        evaluate_map(m, save(tmp_path / "t.tif", ids_of((50, 50), 1), far), scheme=SCHEME)
    boxes = save_boxes(tmp_path / "t.gpkg", (0, 0, 10, 10), building=["yes"])
    with pytest.raises(LabelError, match="overlap"):
        evaluate_map(m, boxes, scheme=SCHEME)


def test_nothing_to_compare_is_an_error(tmp_path):
    m = save(tmp_path / "m.tif", np.full((20, 20), 255, np.uint8))
    t = save(tmp_path / "t.tif", ids_of((20, 20), 1))
    with pytest.raises(LabelError, match="400 left out"):
        evaluate_map(m, t, scheme=SCHEME)


def test_wrong_files_are_named(tmp_path):
    m = save(tmp_path / "m.tif", ids_of((20, 20), 1))
    small = save_png(tmp_path / "small.png", ids_of((9, 20), 1))
    colours = save_png(tmp_path / "rgb.png", np.zeros((20, 20, 3), np.uint8))
    unknown = save_png(tmp_path / "nine.png", np.full((20, 20), 9, np.uint8))
    boxes = save_boxes(tmp_path / "t.gpkg", (550_000, 8_999_990, 550_005, 9_000_000), n=[1])
    plain = save_png(tmp_path / "m.png", ids_of((20, 20), 1))
    for class_map, truth, words in (
        (m, small, "9 x 20 px"),
        (m, colours, "3 bands"),
        (m, unknown, "class id 9"),
        (m, tmp_path / "none.tif", "there is no file"),
        (tmp_path / "none.tif", m, "there is no file"),
        (plain, boxes, "no CRS"),
    ):
        with pytest.raises(GeopipeError, match=words):
            evaluate_map(class_map, truth, scheme=SCHEME)
    with pytest.raises(SceneError, match="float32"):
        evaluate_map(save(tmp_path / "f.tif", np.zeros((20, 20), np.float32)), m, scheme=SCHEME)


def test_a_class_of_the_truth_that_the_scheme_does_not_have_is_told(tmp_path, caplog):
    boxes = [(550_000, 8_999_990, 550_010, 9_000_000), (550_020, 8_999_990, 550_030, 9_000_000)]
    truth = save_boxes(tmp_path / "t.gpkg", *boxes, **{"class": ["building", "Buildng"]})
    class_map = save(tmp_path / "m.tif", np.ones((64, 64), np.uint8))
    evaluate_map(class_map, truth, scheme=TWO)
    assert (
        "t.gpkg: 1 x class 'Buildng' left out, the classes are background, building" in caplog.text
    )
