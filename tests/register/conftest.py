"""A corner of the simulated town, whose map is shifted by a known field; and beliefs made up."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.classes import load_scheme
from geopipe.labels import VectorLabels, open_labels
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox
from geopipe.register import RegistrationGrid
from geopipe.register.label_qc import LabelQC

SAMPLES = Path(__file__).parents[2] / "sample_tiles"
ROW, COL, SIDE = 640, 640, 600
"""The corner of test.tif, in pixels of half a metre."""


@pytest.fixture(scope="session")
def scheme():
    return load_scheme("buildings-roads")


@pytest.fixture(scope="session")
def osm_shift():
    sys.path.insert(0, str(SAMPLES))
    try:
        from _osm import osm_shift
    finally:
        sys.path.remove(str(SAMPLES))
    return osm_shift


@pytest.fixture(scope="session")
def paint(tmp_path_factory):
    """``paint(change)``: the corner with its pixels (bands, h, w) changed, as a Scene."""
    folder = tmp_path_factory.mktemp("corner")

    def make(change=lambda pixels: pixels, name="corner"):
        window = rasterio.windows.Window(COL, ROW, SIDE, SIDE)
        with rasterio.open(SAMPLES / "test.tif") as src:
            pixels, transform, crs = src.read(window=window), src.window_transform(window), src.crs
        pixels = np.asarray(change(pixels))
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            count=len(pixels),
            height=SIDE,
            width=SIDE,
            dtype=pixels.dtype,
            crs=crs,
            transform=transform,
        ) as out:
            out.write(pixels)
        return Scene.open(folder / f"{name}.tif")

    return make


@dataclass(frozen=True)
class Town:
    """The corner, its map and its truth."""

    scene: Scene
    osm: VectorLabels
    truth: VectorLabels


@pytest.fixture(scope="session")
def town(paint, scheme):
    scene = paint()
    osm, truth = (
        open_labels(SAMPLES / f"{name}.gpkg", scheme, scene.geobox) for name in ("osm", "truth")
    )
    return Town(scene, osm, truth)


@pytest.fixture(scope="session")
def checked(town):
    """The map of the corner held against the image, without a model."""
    return LabelQC(town.scene, town.osm)


@dataclass(frozen=True)
class Drawn:
    """Belief made of labels: it sees exactly what they say, a little blurred by doubt."""

    grid: RegistrationGrid
    labels: object

    def read(self, window, needed=None):
        ids = self.labels.read(window_geobox(self.grid.geobox, window))
        classes = len(self.labels.scheme)
        return np.stack([np.where(ids == k, 0.9, 0.1 / (classes - 1)) for k in range(classes)])


@pytest.fixture(scope="session")
def drawn_belief():
    return Drawn


@pytest.fixture(scope="session")
def shifted():
    """``shifted(labels, east, north)``: all shapes moved."""

    def move(labels, east, north):
        moved = shapely.transform(labels.shapes, lambda xy: xy + np.array([east, north]))
        return replace(labels, shapes=moved)

    return move


@pytest.fixture
def empty_plane(scheme, make_raster):
    """``empty_plane(shape, shapes, ids, **place)``: a plane of a black scene, as labelled."""

    def make(shape=(400, 400), shapes=(), ids=(), crs="EPSG:2154", transform=None):
        transform = transform or Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
        path = make_raster(np.full((3, *shape), 90, np.uint8), crs=crs, transform=transform)
        scene = Scene.open(path)
        labels = VectorLabels(
            scheme,
            GeoBox(shape, transform, crs),
            np.array([*shapes, None], object)[:-1],
            np.array(ids, np.uint8),
        )
        return RegistrationGrid.of(scene, labels)

    return make
