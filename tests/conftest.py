"""Factories of tiny georeferenced rasters, models and labels that several floors share."""

import gc
import os
import signal

# Started in the background of a script, Ctrl-C is ignored, also by the programs that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests run side by side; two teams of threads on one processor wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nobody cuts the power here: a GeoPackage need not be on the disk before the test goes on.
os.environ.setdefault("OGR_SQLITE_SYNCHRONOUS", "OFF")

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

FOREZ = Affine(1, 0, 789_000, 0, -1, 6_501_000)
"""One metre in Lambert-93, where a projected metre is one on the ground to a thousandth."""


def pytest_collection_finish():
    """Leave what is imported out of the search for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk():
    """A file is in the page cache when its test goes on; see OGR_SQLITE_SYNCHRONOUS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


def write_raster(
    path, data, *, crs="EPSG:2154", transform=FOREZ, mask=None, interp=None, **profile
):
    """`data` (bands, h, w) as a GeoTIFF at `path`; `mask` (h, w) bool becomes an internal mask."""
    data = np.asarray(data)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=data.shape[0],
            height=data.shape[1],
            width=data.shape[2],
            dtype=data.dtype,
            crs=crs,
            transform=transform,
            **profile,
        ) as out,
    ):
        if interp:
            out.colorinterp = interp
        out.write(data)
        if mask is not None:
            out.write_mask(mask)
    return Path(path)


@pytest.fixture
def make_raster(tmp_path):
    """``make_raster(data, name="scene.tif", **options)``: write_raster into the test's folder."""

    def make(data, name="scene.tif", **options):
        return write_raster(tmp_path / name, data, **options)

    return make


@pytest.fixture(scope="session")
def make_raster_at():
    """``make_raster_at(path, data, **options)``, for fixtures that outlive a test."""
    return write_raster


@dataclass(frozen=True)
class ArrayLabels:
    """A LabelSource of the ids in an array whose pixels are those of `plane`; 255 around it."""

    scheme: object
    plane: object
    ids: np.ndarray
    credit: str = ""

    def read(self, geobox):
        link = ~self.plane.affine * geobox.affine
        row, col = round(link.f), round(link.c)
        around = 512
        padded = np.pad(self.ids, around, constant_values=255)
        (h, w), row, col = geobox.shape, row + around, col + around
        return padded[row : row + h, col : col + w]


@pytest.fixture(scope="session")
def array_labels():
    """The class ArrayLabels: ``array_labels(scheme, plane, ids)``."""
    return ArrayLabels


@pytest.fixture(scope="module")
def one_thread():
    """Torch on one thread: small nets gain nothing from more, and sums keep their order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_model():
    """``make_model(bands=3, classes=3, iterations=2, seed=0, **stats)``: an untrained model."""

    def make(bands=3, classes=3, iterations=2, seed=0, **fields):
        import torch

        from geopipe.checkpoint import Checkpoint
        from geopipe.classes import ClassScheme
        from geopipe.nets import MnihCNN, RefinementRNN, SegmentationModel

        names = ("background", "building", "road", "water")[:classes]
        scheme = ClassScheme.from_dict(
            {"name": "test", "classes": [{"name": n, "color": "#102030"} for n in names]}
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = SegmentationModel(
                MnihCNN(bands, classes),
                RefinementRNN(bands, classes, iterations=iterations) if iterations else None,
            )
        fields = {"mean": (100.0,) * bands, "std": (50.0,) * bands, "dtype": "uint8", **fields}
        return Checkpoint(net.eval().requires_grad_(False), scheme, **fields)

    return make
