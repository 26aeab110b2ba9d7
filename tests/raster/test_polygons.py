import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pyproj import Geod
from rasterio.features import rasterize, shapes

from geopipe.classes import load_scheme
from geopipe.errors import SceneError
from geopipe.raster import outlines, polygons
from geopipe.raster.polygons import polygon_tables

SCHEME = load_scheme("buildings-roads")
UTM = Affine(0.5, 0, 500_000, 0, -0.5, 9_000_000)


def save(path, ids, transform=UTM, crs="EPSG:32736"):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=ids.shape[0],
        width=ids.shape[1],
        count=1,
        dtype=ids.dtype,
        nodata=255,
        crs=crs,
        transform=transform,
    ) as out:
        out.write(ids, 1)
    return path


def polygon_table(class_map, *, background=False):
    """All tables of the map as one."""
    with rasterio.open(class_map) as src:
        tables = list(polygon_tables(src, SCHEME, range(0 if background else 1, len(SCHEME))))
    return pd.concat(tables, ignore_index=True)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ids=arrays(
        np.uint8,
        array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0, 1, 2, 255]),
    ),
    turned=st.booleans(),
)
def test_burning_the_polygons_gives_the_map_back(tmp_path, ids, turned):
    plane = UTM * Affine.rotation(25) if turned else UTM
    table = polygon_table(save(tmp_path / "m.tif", ids, plane), background=True)
    assert table.geometry.is_valid.all()
    pairs = zip(table.geometry, table["class_id"], strict=True)
    back = np.full(ids.shape, 255, np.uint8)
    if len(table):
        back = rasterize(pairs, ids.shape, fill=255, transform=plane, dtype="uint8")
    np.testing.assert_array_equal(back, ids)
    assert [SCHEME.names[i] for i in table["class_id"]] == list(table["class"])


def test_background_is_left_out_unless_asked_for(tmp_path):
    ids = np.zeros((20, 30), np.uint8)
    ids[2:6, 3:13] = 1
    ids[10:12] = 2
    ids[15:, 20:] = 255
    source = save(tmp_path / "m.tif", ids)
    assert len(polygon_table(source)) == 2
    assert len(polygon_table(source, background=True)) == 4
    table = polygon_table(source).set_index("class")
    assert set(table.index) == {"building", "road"}
    building = table.loc["building"]
    assert building.geometry.equals(shapely.box(500_001.5, 8_999_997, 500_006.5, 8_999_999))
    assert table.crs.to_epsg() == 32736
    # The UTM scale factor at the central meridian is 0.9996: the ground is a little larger.
    assert building["area_m2"] == pytest.approx(10 / 0.9996**2, rel=1e-6)


@pytest.mark.parametrize(
    ("crs", "plane"),
    [
        ("EPSG:4326", Affine(1e-5, 0, 85.5, 0, -1e-5, 27.6)),
        ("EPSG:3857", Affine(0.3, 0, 9_520_000, 0, -0.3, 3_200_000)),
        ("EPSG:32736", UTM),
    ],
)
def test_areas_are_those_on_the_ground(tmp_path, crs, plane):
    ids = np.zeros((400, 300), np.uint8)
    ids[30:350, 40:260] = 1
    ids[100:200, 100:200] = 0
    table = polygon_table(save(tmp_path / "m.tif", ids, plane, crs))
    (outline,) = table.to_crs(4326).geometry
    geodesic, _ = Geod(ellps="WGS84").geometry_area_perimeter(outline)
    assert table["area_m2"][0] == pytest.approx(abs(geodesic), rel=1e-5)


def test_batches_give_the_same_table(tmp_path, monkeypatch):
    ids = np.random.default_rng(0).integers(0, 3, (40, 40)).astype(np.uint8)
    source = save(tmp_path / "m.tif", ids)
    whole = polygon_table(source)
    monkeypatch.setattr(outlines, "_CHUNK", 11)
    monkeypatch.setattr(polygons, "_BATCH", 7)
    assert polygon_table(source).equals(whole)
    assert len(whole) > 7


def test_batches_end_at_a_number_of_polygons_or_vertices(monkeypatch):
    monkeypatch.setattr(polygons, "_BATCH", 3)
    monkeypatch.setattr(polygons, "_VERTICES", 60)
    small, large = (1, shapely.box(0, 0, 1, 1)), (1, shapely.Point(0, 0).buffer(1, 16))

    def sizes(found):
        return [len(batch) for batch in polygons._batches(found)]

    assert sizes([small] * 7) == [3, 3, 1]
    assert sizes([small] * 6) == [3, 3]
    assert sizes([small, large, large, small]) == [2, 1, 1]
    assert sizes([]) == [0]


def test_an_empty_map_is_an_empty_table(tmp_path):
    source = save(tmp_path / "m.tif", np.zeros((9, 9), np.uint8))
    table = polygon_table(source)
    assert not len(table)
    assert list(table.columns) == ["class_id", "class", "area_m2", "geometry"]
    assert table.crs.to_epsg() == 32736


@pytest.mark.parametrize(
    ("value", "dtype", "crs", "words"),
    [
        (9, "uint8", "EPSG:32736", "class id 9"),
        (-2, "int16", "EPSG:32736", "class id -2"),
        (1, "uint8", None, "no CRS"),
    ],
)
def test_maps_without_meaning_are_refused(tmp_path, value, dtype, crs, words):
    source = save(tmp_path / "m.tif", np.full((5, 5), value, dtype), crs=crs)
    with pytest.raises(SceneError, match=words):
        polygon_table(source)


def test_a_truncated_map_is_named_with_its_rows(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, (300, 300)).astype(np.uint8)
    source = save(tmp_path / "m.tif", noise)
    source.write_bytes(source.read_bytes()[:20_000])
    with pytest.raises(SceneError, match="cannot read rows 0-300"):
        polygon_table(source)


# ---- window by window ----


def streamed(monkeypatch, source, side, background=False):
    """[(class id, polygon in pixel coordinates)] with windows of `side` px."""
    with rasterio.open(source) as src:
        return list(polygons.trace_areas(src, () if background else (0,), side))


def at_once(ids, background, plane=None):
    mask = (ids != 255) & (background | (ids != 0))
    found = shapes(ids, mask=mask, connectivity=4, transform=plane or Affine.identity())
    return [(int(value), shapely.geometry.shape(shape)) for shape, value in found]


def as_set(found):
    """Sorted, so that equal polygons count; rings begin anywhere, vertices are compared exactly."""
    return sorted((i, shapely.normalize(outline).wkb) for i, outline in found)


@st.composite
def maps(draw):
    """Noise, or blobs with holes, inlets and corners that touch."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    seed, grain = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 2, 3]))
    rng = np.random.default_rng(seed)
    odds = rng.dirichlet([1.0] * 4)
    coarse = rng.choice(
        np.array([0, 1, 2, 255], np.uint8), (-(-height // grain), -(-width // grain)), p=odds
    )
    ids = coarse.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    return np.where(rng.random(ids.shape) < 0.05, np.uint8(draw(st.sampled_from([0, 1]))), ids)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ids=maps(), side=st.integers(2, 14), background=st.booleans())  # windows of 1 px: see below
def test_windows_give_what_the_whole_map_gives(tmp_path, monkeypatch, ids, side, background):
    found = streamed(monkeypatch, save(tmp_path / "m.tif", ids), side, background)
    assert as_set(found) == as_set(at_once(ids, background))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ids=maps(), side=st.integers(2, 14), turned=st.booleans(), background=st.booleans())
def test_the_written_table_has_no_seams(tmp_path, monkeypatch, ids, side, turned, background):
    plane = UTM * Affine.rotation(25) * Affine.scale(1, 1.2) if turned else UTM
    source = save(tmp_path / "m.tif", ids, plane)
    tables = []
    for window in (2048, side):
        monkeypatch.setattr(polygons, "_WINDOW", window)
        table = polygon_table(source, background=background)
        tables.append(table.assign(geometry=shapely.normalize(table.geometry.values)))
    whole, cut = (
        sorted(zip(t["class_id"], [g.wkb for g in t.geometry], t["area_m2"].round(6), strict=True))
        for t in tables
    )
    assert cut == whole
    assert [(i, outline) for i, outline, _ in whole] == as_set(at_once(ids, background, plane))


def test_areas_that_join_late(tmp_path, monkeypatch):
    """A U, a ring and a comb: their parts meet windows after they were cut."""
    ids = np.zeros((40, 60), np.uint8)
    u = shapely.box(1, 1, 19, 19) - shapely.box(4, 1, 16, 16)
    ring = shapely.box(21, 1, 39, 39) - shapely.box(24, 4, 36, 36)
    comb = shapely.union_all([shapely.box(x, 2, x + 1, 38) for x in range(42, 58, 2)])
    comb |= shapely.box(42, 37, 57, 38)
    dot = shapely.box(29, 19, 31, 21)  # within the ring, across seams
    for shape in (u, ring, comb, dot):
        ids |= rasterize([(shape, 1)], ids.shape, dtype="uint8")
    source = save(tmp_path / "m.tif", ids)
    want = [(1, shape) for shape in (u, ring, shapely.simplify(comb, 0), dot)]
    for side in (1, 3, 5, 10, 20):
        assert as_set(streamed(monkeypatch, source, side)) == as_set(want)


def test_corners_do_not_join(tmp_path, monkeypatch):
    """A chessboard whose windows meet at its corners, and classes that share the seam."""
    board = (np.indices((8, 8)).sum(axis=0) % 2).astype(np.uint8)
    found = streamed(monkeypatch, save(tmp_path / "m.tif", board), 2)
    assert len(found) == 32
    assert {outline.area for _, outline in found} == {1}
    halves = np.ones((8, 8), np.uint8)
    halves[:, 4:] = 2
    found = streamed(monkeypatch, save(tmp_path / "m.tif", halves), 4)
    assert as_set(found) == as_set([(1, shapely.box(0, 0, 4, 8)), (2, shapely.box(4, 0, 8, 8))])


def most_held(monkeypatch, source, side):
    """The largest number of parts that were kept at a time, and of polygons found."""
    most, seams = 0, []

    class Watched(outlines.OutlineMerger):
        def __init__(self, shape):
            super().__init__(shape)
            seams.append(self)

        def hold(self, part):
            nonlocal most
            super().add(part)
            most = max(most, len(self.parts))

    monkeypatch.setattr(polygons, "OutlineMerger", Watched)
    found = streamed(monkeypatch, source, side)
    assert not seams[0].parts
    assert not seams[0]._areas
    assert not seams[0]._parent
    return most, len(found)


def test_what_is_held_does_not_grow_with_the_map(tmp_path, monkeypatch):
    """Buildings of 5 px every 7: most touch no seam, some cross one, some cross two."""
    building = np.zeros((7, 7), np.uint8)
    building[1:6, 1:6] = 1
    held = []
    for rows in (20, 80):
        source = save(tmp_path / f"{rows}.tif", np.tile(building, (rows, 20)))
        most, found = most_held(monkeypatch, source, 32)
        assert found == rows * 20
        held.append(most)
    # 20 along the lower seam of a row of windows, 6 on each side of the one at work, 6 before it.
    assert held[0] == held[1] <= 50


def test_windows_without_classes_are_not_traced(tmp_path, monkeypatch):
    ids = np.zeros((64, 64), np.uint8)
    ids[:, 32:] = 255
    ids[20:22, 20:22] = 1
    seen = []
    monkeypatch.setattr(
        polygons, "trace_outlines", lambda *a: seen.append(a[2]) or outlines.trace_outlines(*a)
    )
    assert len(streamed(monkeypatch, save(tmp_path / "m.tif", ids), 16)) == 1
    assert [(w.row, w.col) for w in seen] == [(16, 16)]
