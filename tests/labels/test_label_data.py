"""Real extracts with real flaws."""

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from geopipe.labels import open_labels
from geopipe.raster import Scene

pytestmark = pytest.mark.data
ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("GEOPIPE_DATA", ROOT.parent / "shared" / "data"))
CREDIT = "(c) OpenStreetMap contributors, ODbL 1.0"


@pytest.fixture(autouse=True)
def _there():
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA} (set GEOPIPE_DATA)")


def around(west, south, east, north, crs, gsd=0.5):
    degrees = GeoBox.from_bbox((west, south, east, north), "EPSG:4326", shape=(1000, 1000))
    return degrees.to_crs(crs, resolution=gsd)


def test_helsinki_loads_in_spite_of_its_broken_rings(scheme):
    plane = around(24.9351762, 60.1641550, 24.9534145, 60.1791130, "EPSG:32635")
    labels = open_labels(DATA / "osm" / "Helsinki.osm.pbf", scheme, plane)
    skipped = dict(labels.skipped)
    broken = skipped["broken polygon (ring not closed, or nodes or ways missing in the file)"]
    # 433 closed ways and 67 multipolygons are buildings: none may be lost without being counted.
    assert labels.counts[1] + broken == 500
    assert broken == 54
    assert labels.counts[2] > 500
    share = np.bincount(labels.read(plane).ravel(), minlength=3) / np.prod(plane.shape)
    assert 0.2 < share[1] < 0.4
    assert 0.05 < share[2] < 0.15


def test_west_oakland(scheme):
    plane = around(-122.30258, 37.80615, -122.29825, 37.80914, "EPSG:32610")
    labels = open_labels(DATA / "osm" / "West-Oakland.osm.bz2", scheme, plane)
    assert labels.counts == (0, 23, 17)
    assert labels.credit == CREDIT


def test_vegas_roads_with_written_out_nones(scheme):
    for path in sorted((DATA / "osm" / "vegas_osm").glob("*.geojson")):
        plane = around(*gpd.read_file(path).total_bounds, "EPSG:32611")
        labels = open_labels(path, scheme, plane)
        assert labels.counts[1] == 0
        assert labels.counts[2] > 0
        assert labels.credit == CREDIT


@pytest.mark.parametrize(("name", "count"), [("banepa", 1466), ("nairobi", 180), ("zanzibar", 201)])
def test_building_scenes(scheme, name, count):
    scene = Scene.open(DATA / name / "scene.tif")
    labels = open_labels(DATA / name / "osm_buildings.geojson", scheme, scene.geobox)
    assert labels.counts[1] == count
    assert labels.credit == CREDIT
