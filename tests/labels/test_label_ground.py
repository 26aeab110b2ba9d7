"""Roads are 7 m wide on the ground, in every CRS."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer

from geopipe.grid import ground_gsd
from geopipe.labels import open_labels
from geopipe.labels.buffered_lines import buffered_lines

GEOD = Geod(ellps="WGS84")
AT = np.array([5e5, 5e6])


def scene_around(lon, lat, crs, metres=600, pixels=1500):
    """A plane of some 0.4 m pixels around a place."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    unit = 1 / 111_000 if CRS(crs).is_geographic else 1.0
    half = metres / 2 * unit
    return GeoBox.from_bbox((x - half, y - half, x + half, y + half), crs, shape=(pixels, pixels))


@pytest.mark.parametrize("azimuth", [10, 30, 75])
@pytest.mark.parametrize(
    ("crs", "lon", "lat"),
    [
        ("EPSG:3857", 85.52, 27.6),
        ("EPSG:4326", 85.52, 27.6),
        ("EPSG:2154", 4.18, 45.6),
        ("EPSG:3857", 24.94, 60.17),
        ("EPSG:3031", 10.0, -85.0),
    ],
)
def test_a_straight_road_is_as_wide_as_stated(tmp_path, scheme, crs, lon, lat, azimuth):
    plane = scene_around(lon, lat, crs)
    ends = [GEOD.fwd(lon, lat, a, 60)[:2] for a in (azimuth, azimuth + 180)]
    road = gpd.GeoDataFrame({"highway": ["primary"]}, geometry=[shapely.LineString(ends)], crs=4326)
    road.to_file(tmp_path / "road.gpkg")
    labels = open_labels(tmp_path / "road.gpkg", scheme, plane)
    area = (labels.read(plane) == 2).sum() * np.prod(ground_gsd(plane))
    assert area / 120 == pytest.approx(7.0, rel=0.02)
    to_lonlat = Transformer.from_crs(crs, 4326, always_xy=True).transform
    exact = shapely.transform(labels.shapes[0], lambda p: np.column_stack(to_lonlat(*p.T)))
    assert abs(GEOD.geometry_area_perimeter(exact)[0]) / 120 == pytest.approx(7.0, rel=2e-4)


def shapes_of(lines, width=8.0):
    local = CRS.from_epsg(32631)
    return buffered_lines(np.array(lines), np.full(len(lines), width), local, local)


def test_a_road_cut_into_ways_has_no_notch():
    bend = np.array([(0, 0), (100, 0), (150, 60)]) + AT
    whole = shapes_of([shapely.LineString(bend)])[0]
    cut = shapely.union_all(shapes_of([shapely.LineString(bend[:2]), shapely.LineString(bend[1:])]))
    assert cut.symmetric_difference(whole).area < 0.05


def test_true_ends_are_flat_and_a_ring_is_closed():
    road = shapes_of([shapely.LineString(np.array([(0, 0), (50, 0)]) + AT)])[0]
    assert road.area == pytest.approx(400)
    ring = shapely.LineString(np.array([(0, 0), (50, 0), (50, 50), (0, 50), (0, 0)]) + AT)
    assert shapes_of([ring])[0].contains(shapely.Point(AT - 2))


def test_long_sides_follow_the_ground(tmp_path, scheme):
    """An 8 km road along a parallel bends in Lambert-93; its buffer must bend with it."""
    plane = GeoBox.from_bbox((780_000, 6_500_000, 790_000, 6_502_000), "EPSG:2154", resolution=2)
    a, b = (
        Transformer.from_crs(2154, 4326, always_xy=True).transform(x, 6_501_000)
        for x in (781_000, 789_000)
    )
    road = gpd.GeoDataFrame(
        {"highway": ["primary"]}, geometry=[shapely.LineString([a, b])], crs=4326
    )
    road.to_file(tmp_path / "road.gpkg")
    shape = open_labels(tmp_path / "road.gpkg", scheme, plane).shapes[0]
    assert shapely.get_num_coordinates(shape) > 2 * 8000 / 500
