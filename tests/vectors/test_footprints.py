"""Footprints of whole maps: what they look like, and what does not change them."""

import itertools
import logging

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage
from shapely import Point, box
from shapely.affinity import rotate

from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError, SceneError
from geopipe.evaluation.objects import match_objects
from geopipe.raster.cog import write_class_cog, write_confidence_cog
from geopipe.vectors import areas, footprints
from geopipe.vectors.footprints import FootprintOptions, find_footprints

SCHEME = ClassScheme.from_dict(
    {
        "name": "town",
        "classes": [
            {"name": "background", "color": "#f1efe2"},
            {"name": "building", "color": "#c8371e"},
            {"name": "road", "color": "#3c4a5c"},
        ],
    }
)
GSD = 0.5
UTM = Affine(GSD, 0, 550_000, 0, -GSD, 9_000_000)


def save(path, data, crs="EPSG:32736", transform=UTM):
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255}
    height, width = data.shape
    with rasterio.open(
        path, "w", height=height, width=width, crs=crs, transform=transform, **profile
    ) as out:
        out.write(data, 1)
    return path


def town_map(folder, shapes, size=160, confidence=None, **kwargs):
    ids = np.zeros((size, size), np.uint8)
    if shapes:
        ids = rasterize([(s, 1) for s in shapes], ids.shape, dtype="uint8")
    folder.mkdir(exist_ok=True)
    raw = save(folder / "raw.tif", ids, **kwargs)
    write_class_cog(raw, folder / "classes.tif", SCHEME, {"model_sha256": "abc"})
    if confidence is not None:
        raw = save(folder / "raw.tif", np.where(ids == 1, confidence, 250).astype(np.uint8))
        write_confidence_cog(raw, folder / "confidence.tif", {})
    raw.unlink()
    return folder / "classes.tif"


def in_pixels(table):
    return [
        shapely.transform(g, lambda xy: np.column_stack([~UTM * tuple(p) for p in xy]).T)
        for g in table.geometry
    ]


def corners(polygon):
    return len(shapely.simplify(polygon, 1e-6).exterior.coords) - 1


HOUSES = [
    rotate(box(10, 10, 50, 34), 17),
    rotate(box(80, 12, 110, 34) | box(80, 12, 92, 60), -9),
    rotate((box(20, 80, 70, 130) - box(36, 96, 54, 114)), 5),
    Point(120, 110).buffer(20),
]


def test_walls_are_straight_courtyards_stay_and_round_things_too(tmp_path):
    table = find_footprints(town_map(tmp_path, HOUSES))
    drawn = in_pixels(table)
    assert len(drawn) == 4
    for truth, vertices in zip(HOUSES[:3], (4, 6, 4), strict=True):
        found = max(drawn, key=lambda g: g.intersection(truth).area)
        assert corners(found) == vertices
        assert found.intersection(truth).area / found.union(truth).area > 0.95
        assert found.hausdorff_distance(truth) < 2
    court = max(drawn, key=lambda g: g.intersection(HOUSES[2]).area)
    assert [round(shapely.Polygon(r).area / 324, 1) for r in court.interiors] == [1.0]
    tower = max(drawn, key=lambda g: g.intersection(HOUSES[3]).area)
    assert corners(tower) >= 12
    assert tower.intersection(HOUSES[3]).area / tower.union(HOUSES[3]).area > 0.94


def test_each_has_its_figures(tmp_path):
    confidence = np.full((160, 160), 200)
    confidence[:80, 40:50] = 150
    path = town_map(tmp_path, [box(10, 10, 50, 34)], confidence=confidence)
    (row,) = find_footprints(path).to_dict("records")
    assert row["area_m2"] == pytest.approx(40 * 24 / 4, rel=2e-3)
    assert row["mean_score"] == pytest.approx((30 * 0.8 + 10 * 0.6) / 40, abs=1e-3)
    assert row["score_q10"] == pytest.approx(0.6)
    assert row["shape_score"] == 1
    assert (row["building_id"], row["class_id"], row["class"]) == (1, 1, "building")
    assert (row["source"], row["model_sha256"]) == ("classes.tif", "abc")


def test_rows_of_houses_share_their_walls(tmp_path):
    turned = [rotate(box(30 + 18 * k, 60, 48 + 18 * k, 84), 12, (80, 80)) for k in range(5)]
    walls = [rotate(box(47 + 18 * k, 50, 49 + 18 * k, 99), 12, (80, 80)) for k in range(4)]
    dips = rasterize([(w, 120) for w in walls], (160, 160), fill=240)
    table = find_footprints(town_map(tmp_path, turned, confidence=dips))
    drawn = sorted(in_pixels(table), key=lambda g: g.centroid.x)
    assert len(drawn) == 5
    for truth, found in zip(turned, drawn, strict=True):
        assert found.intersection(truth).area / found.union(truth).area > 0.85
        assert corners(found) <= 8
    for a, b in itertools.pairwise(drawn):
        assert a.intersection(b).area < 1e-3
        assert shapely.intersection(a, b.buffer(0.01)).area > 0.15, "a wall of 24 px x 0.01"


def noisy_town():
    """Blocks, some touching by one pixel or a corner, with rough outlines."""
    rng = np.random.default_rng(4)
    return [
        rotate(box(x, y, x + rng.integers(8, 26), y + rng.integers(8, 26)), rng.uniform(0, 90))
        for x in range(4, 140, 21)
        for y in range(4, 140, 21)
    ]


def test_outlines_do_not_overlap_move_or_shrink_to_nothing(tmp_path):
    path = town_map(tmp_path, noisy_town())
    table = find_footprints(path)
    drawn = np.asarray(table.geometry.array, object)
    assert len(drawn) > 20
    assert shapely.is_valid(drawn).all()
    assert (table["area_m2"] >= 10).all()
    assert (shapely.area(shapely.buffer(drawn, -0.4)) > 0).all(), "no slivers"
    a, b = shapely.STRtree(drawn).query(drawn, predicate="intersects")
    assert shapely.area(shapely.intersection(drawn[a[a < b]], drawn[b[a < b]])).max() < 1e-3
    with rasterio.open(path) as src:
        pixels = src.read(1) == 1
    union = shapely.buffer(shapely.union_all(in_pixels(table)), 0)
    outside = rasterize([(union.buffer(2.1), 1)], pixels.shape) == 0
    assert not (pixels & outside)[:-1].any() or (pixels & outside).sum() < 40 * 2, "small ones only"
    assert (table["shape_score"] > 0.7).all()


def test_the_size_of_the_windows_changes_nothing(tmp_path):
    path = town_map(tmp_path, noisy_town())
    whole = find_footprints(path)
    for window in (33, 64):
        assert find_footprints(path, window_size=window).equals(whole)


def test_tables_of_any_length_are_the_whole(tmp_path, monkeypatch):
    path = town_map(tmp_path, noisy_town())
    whole = find_footprints(path)
    monkeypatch.setattr(footprints, "_BATCH", 7)
    assert len(list(footprints.footprint_tables(path))) > 3
    parts = find_footprints(path)
    assert parts.equals(whole)
    assert parts.crs == whole.crs
    assert parts.dtypes.equals(whole.dtypes)


def test_large_areas_are_cut_block_by_block(tmp_path, monkeypatch):
    """A chain of squares and necks longer than a block, and a hall that spans several."""
    chain = [box(4 + 26 * k, 10, 26 + 26 * k, 32) for k in range(6)] + [box(4, 18, 156, 24)]
    path = town_map(tmp_path, [*chain, box(20, 50, 150, 150)])
    whole = find_footprints(path)
    assert len(whole) == 7
    monkeypatch.setattr(areas, "_MARGIN", 32)
    with rasterio.open(path) as src:
        found = [
            instance.outline
            for group in areas.instances_of(src, 1, 3, (GSD, GSD), 10.0, max_side=48)
            for instance in group
        ]
        expected = [
            instance.outline
            for group in areas.instances_of(src, 1, 3, (GSD, GSD), 10.0)
            for instance in group
        ]
    assert len(found) == 7
    for outline in expected:
        best = max(found, key=lambda g: g.intersection(outline).area)
        assert best.intersection(outline).area / best.union(outline).area > 0.95


def test_unregularized_outlines_are_kept_where_nothing_may_move(tmp_path):
    path = town_map(tmp_path, HOUSES)
    table = find_footprints(path, options=FootprintOptions(max_shift=0.0))
    assert (table["shape_score"] == 1).all()
    plain = find_footprints(path, options=FootprintOptions(orthogonalize=False))
    assert max(map(corners, plain.geometry)) < 40


def test_small_things_are_left_out(tmp_path):
    path = town_map(tmp_path, [box(10, 10, 16, 16), box(50, 50, 57, 57)])
    assert len(find_footprints(path)) == 1
    assert len(find_footprints(path, options=FootprintOptions(min_area=5))) == 2
    with pytest.raises(ConfigError, match="min_area"):
        FootprintOptions(min_area=-1)


def test_nothing_and_everything_are_said(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    assert not len(find_footprints(town_map(tmp_path / "a", [])))
    assert "no area of class 'building' of 10 m2" in caplog.text
    everything = find_footprints(town_map(tmp_path / "b", [box(0, 0, 160, 160)]))
    assert everything["area_m2"].tolist() == pytest.approx([80 * 80], rel=2e-3)
    assert "covers 100 % of the map" in caplog.text


def test_maps_that_cannot_have_footprints_are_refused(tmp_path):
    path = town_map(tmp_path / "a", HOUSES)
    with pytest.raises(ConfigError, match="no class 'villa'"):
        find_footprints(path, options=FootprintOptions(class_name="villa"))
    sheared = town_map(tmp_path / "b", HOUSES, transform=UTM * Affine.shear(10))
    with pytest.raises(SceneError, match="sheared"):
        find_footprints(sheared)
    other = town_map(tmp_path / "c", HOUSES, size=80, confidence=np.full((80, 80), 200))
    with pytest.raises(SceneError, match="written with this map"):
        find_footprints(path, other.with_name("confidence.tif"))


def test_fine_pixels_draw_no_noise(tmp_path):
    """Outlines that waver by some pixels of 0.15 m, as a network's do: 90 vertices as they are."""
    inside = rasterize([(rotate(box(60, 70, 260, 190), 21), 1)], (320, 320))
    waver = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 25, (320, 320)), 3)
    away = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(1 - inside)
    rough = ndimage.binary_fill_holes(ndimage.binary_opening(away + waver > 0, iterations=3))
    outlines = [shapely.geometry.shape(s) for s, v in shapes(rough.astype("uint8")) if v]
    fine = {"transform": UTM * Affine.scale(0.3)}
    table = find_footprints(town_map(tmp_path, outlines, 320, **fine))
    (drawn,) = table.geometry
    assert len(drawn.exterior.coords) <= 40
    assert table.shape_score[0] > 0.96


def test_roofs_with_round_corners_and_uneven_walls_become_square(tmp_path):
    """As networks draw them: blurred, with noise along the walls."""
    rng = np.random.default_rng(3)
    size, true = 320, []
    for k, (row, col) in enumerate(itertools.product(range(4), repeat=2)):
        x, y = 40 + 80 * col, 40 + 80 * row
        true.append(rotate(box(x - 24, y - 16, x + 24, y + 16), 11 * k))
    ids = rasterize([(s, 1) for s in true], (size, size)).astype(float)
    noise = ndimage.gaussian_filter(rng.normal(size=ids.shape), 4)
    drawn = ndimage.gaussian_filter(ids, 5) + 0.08 * noise / noise.std() > 0.5
    raw = save(tmp_path / "raw.tif", drawn.astype(np.uint8))
    write_class_cog(raw, tmp_path / "classes.tif", SCHEME, {})
    made = in_pixels(find_footprints(tmp_path / "classes.tif"))
    found = match_objects(np.array(made, object), np.array(true, object))
    assert (found.mapped, found.f1) == (16, 1.0)
    assert found.right_angle_share > 0.7
    assert found.vertex_ratio <= 1.5
    outlines = in_pixels(
        find_footprints(tmp_path / "classes.tif", options=FootprintOptions(max_shift=0.0))
    )
    traced = match_objects(np.array(outlines, object), np.array(true, object))
    assert found.mean_iou > traced.mean_iou - 0.01
