"""A class map of a town and points planned on it, for the tests of the assessment."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from geopipe.classes import IGNORE, load_scheme
from geopipe.evaluation.assess.design import read_points
from geopipe.evaluation.assess.points import plan_points
from geopipe.evaluation.assess.sampling import SampleSize

SCHEME = load_scheme("buildings-roads")
TEN = SampleSize(per_class=10)


def town(shape=(130, 170), seed=0):
    """Class ids with 3 % buildings, 8 % roads and a corner without a class."""
    ids = np.random.default_rng(seed).choice(3, shape, p=[0.89, 0.03, 0.08]).astype(np.uint8)
    ids[-30:, -30:] = IGNORE
    return ids


@pytest.fixture
def class_map(make_raster):
    """``class_map(ids, **profile)``: a GeoTIFF of class ids, nodata 255."""

    def make(ids, name="map.tif", **options):
        return make_raster(ids[None], name, **{"nodata": IGNORE, **options})

    return make


@pytest.fixture
def planned(class_map, tmp_path):
    """(map, points, design): ten points of each class."""
    path, points = class_map(town()), tmp_path / "points.gpkg"
    return path, points, plan_points(path, points, TEN, scheme=SCHEME)


def change(points, sql, *values):
    """Edit as QGIS does; its triggers for the spatial index ask for functions of SpatiaLite."""
    with closing(sqlite3.connect(points)) as db, db:
        for name in ("IsEmpty", "MinX", "MaxX", "MinY", "MaxY"):
            db.create_function(f"ST_{name}", 1, lambda _: 0)
        db.execute(sql, values)


def fill(points, truth):
    """Fill in the true class of each point: `truth` (h, w) ids at the place of the point."""
    design, _ = read_points(points)
    for i, (row, col) in enumerate(zip(design.rows, design.cols, strict=True), 1):
        name = SCHEME.names[truth[row, col]]
        change(points, "UPDATE points SET truth = ? WHERE id = ?", name, i)


def pixels_of(design):
    return list(zip(design.rows, design.cols, strict=True))
