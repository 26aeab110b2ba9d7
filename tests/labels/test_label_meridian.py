"""Longitudes that are the same place by another number, for vectors, rasters and areas."""

import math

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from geopipe.classes import IGNORE, load_scheme
from geopipe.grid import Window
from geopipe.labels import Area, open_labels
from geopipe.labels.meridian import at_longitude
from geopipe.raster.scene import window_geobox

D = 0.5 / 111_320
SCHEME = load_scheme("buildings")


def plane(left):
    return GeoBox(
        (120, 200), Affine(D / math.cos(math.radians(17)), 0, left, 0, -D, -17.0), "EPSG:4326"
    )


def houses(geobox):
    """Six houses from the scene's left to its right, one across its middle; as pixels of it."""
    boxes = [shapely.box(c, r, c + 24, r + 20) for c in (10, 88, 160) for r in (20, 70)]
    a = geobox.affine
    return boxes, [
        shapely.transform(b, lambda p: np.column_stack([a.a * p[:, 0] + a.c, a.e * p[:, 1] + a.f]))
        for b in boxes
    ]


def wrapped(shape):
    """Each corner between -180 and 180, so that a house across 180 is torn."""
    return shapely.transform(
        shape, lambda p: np.column_stack([(p[:, 0] + 180) % 360 - 180, p[:, 1]])
    )


def cut(shape):
    """In two at the 180th meridian, as RFC 7946 wants it."""
    turns = [360 * k for k in range(-3, 3)]
    parts = [
        shapely.affinity.translate(shape.intersection(shapely.box(-180 + t, -90, 180 + t, 90)), -t)
        for t in turns
    ]
    return shapely.union_all([p for p in parts if p.area])


def expected(geobox):
    boxes, _ = houses(geobox)
    return rasterize([(b, 1) for b in boxes], geobox.shape, dtype="uint8")


LEFTS = [179.9995, 179.9995 - 360, 200.0, -180.0005, 540 - 0.0005, -540.0, 10.0, 370.0]


@pytest.mark.parametrize("left", LEFTS)
@pytest.mark.parametrize("made", [wrapped, cut, lambda shape: shape])
@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_vectors(tmp_path, left, made, suffix):
    geobox = plane(left)
    _, shapes = houses(geobox)
    frame = gpd.GeoDataFrame(
        {"building": ["yes"] * len(shapes)}, geometry=[made(s) for s in shapes], crs=4326
    )
    path = tmp_path / f"osm{suffix}"
    frame.to_file(path) if suffix == ".gpkg" else frame.to_parquet(path)
    got = open_labels(path, SCHEME, geobox).read(geobox)
    assert abs(got.astype(int) - expected(geobox)).sum() <= 60  # edges on pixels' borders
    assert (got == 1).sum() == pytest.approx(6 * 24 * 20, abs=60)


@pytest.mark.parametrize("left", LEFTS)
def test_lines_and_areas(tmp_path, left):
    geobox = plane(left)
    a = geobox.affine
    line = shapely.LineString([(a.c, a.f + 60 * a.e), (a.c + 200 * a.a, a.f + 60 * a.e)])
    frame = gpd.GeoDataFrame({"highway": ["primary"]}, geometry=[wrapped(line)], crs=4326)
    frame.to_file(tmp_path / "roads.gpkg")
    got = open_labels(tmp_path / "roads.gpkg", load_scheme("buildings-roads"), geobox).read(geobox)
    assert (got == 2).sum() == pytest.approx(200 * 14, rel=0.03)  # 7 m wide
    box = shapely.box(a.c, a.f + 60 * a.e, a.c + 200 * a.a, a.f)
    gpd.GeoDataFrame(geometry=[cut(box)], crs=4326).to_file(tmp_path / "area.gpkg")
    inside = Area.open(tmp_path / "area.gpkg", geobox).inside(geobox)
    assert inside.sum() == pytest.approx(60 * 200, abs=200)


@pytest.mark.parametrize("left", LEFTS)
@pytest.mark.parametrize("labels_left", [179.9995, -180.0005, -160.0, 200.0, 10.0])
def test_rasters(tmp_path, left, labels_left):
    geobox, theirs = plane(left), plane(labels_left)
    same_place = abs((left - labels_left + 180) % 360 - 180) < 1e-6
    with rasterio.open(
        tmp_path / "l.tif",
        "w",
        driver="GTiff",
        count=1,
        height=120,
        width=200,
        dtype="uint8",
        crs="EPSG:4326",
        transform=theirs.affine,
    ) as dst:
        dst.write(expected(theirs), 1)
    if not same_place:
        if abs((left - labels_left + 180) % 360 - 180) > 0.01:
            with pytest.raises(Exception, match="do not overlap the scene"):
                open_labels(tmp_path / "l.tif", SCHEME, geobox)
        return
    labels = open_labels(tmp_path / "l.tif", SCHEME, geobox)
    np.testing.assert_array_equal(labels.read(geobox), expected(geobox))
    beyond = labels.read(window_geobox(geobox, Window(0, -5, 120, 210)))
    np.testing.assert_array_equal(beyond[:, 5:-5], expected(geobox))
    assert (beyond[:, :5] == IGNORE).all()


def test_shapes_that_are_near_stay_the_same():
    shapes = np.array([shapely.box(0, 0, 1, 1), shapely.box(-170, 0, -160, 1)], object)
    assert at_longitude(shapes, 5.0) is shapes


def test_a_hole_moves_with_its_polygon():
    ring = shapely.box(-181, 0, -179, 2).exterior.coords
    hole = [(-180.5 + 360, 0.5), (-179.5, 0.5), (-179.5, 1.5), (-180.5 + 360, 1.5)]
    (moved,) = at_longitude(np.array([shapely.Polygon(ring, [hole])], object), 181.0)
    assert moved.bounds == (179, 0, 181, 2)
    assert moved.area == pytest.approx(3)
    assert moved.is_valid
