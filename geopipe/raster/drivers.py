"""Which of GDAL's drivers may open a file; the others are taken out of this process.

GDAL finds out by a file's content which driver opens it. Some drivers run what the file says: GDALG
executes a command line, others send queries to a server. Neither rasterio.open nor pyogrio takes a
list of drivers, and nothing says which may open what a VRT refers to; so the drivers that are not
listed here are deregistered. Reasons: docs/decisions/0025-opening-files.md.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from geopipe.errors import SceneError

RASTERS = (
    "GTiff",
    "VRT",
    "JP2OpenJPEG",
    "JP2KAK",
    "JP2ECW",
    "ECW",
    "MrSID",
    "HFA",
    "NITF",
    "DIMAP",
    "TIL",
    "ENVI",
    "EHdr",
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "PNM",
    "GPKG",
    "MBTiles",
    "AAIGrid",
)
"""Drivers that open rasters, the frequent ones first, since GDAL tries them in turn."""
VECTORS = (
    "GPKG",
    "GeoJSON",
    "GeoJSONSeq",
    "TopoJSON",
    "ESRI Shapefile",
    "FlatGeobuf",
    "SQLite",
    "MapInfo File",
    "OpenFileGDB",
    "KML",
    "GPX",
    "CSV",
    "OGR_VRT",
)
"""Drivers that open vectors."""
_WRITERS = ("COG", "MEM", "Memory")
"""Drivers that geopipe and rasterio's own functions write with; they open no file."""
_KEPT = frozenset((*RASTERS, *VECTORS, *_WRITERS))

_SETTINGS = {
    b"GDAL_VRT_ENABLE_PYTHON": b"NO",
    b"OGR_SQLITE_ALLOW_EXTERNAL_ACCESS": b"NO",
    b"OGR_SQLITE_LOAD_EXTENSIONS": None,
}
"""Settings by which GDAL itself protects its user, whatever the environment says."""
_FETCH = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_void_p] * 6)
"""GDAL's CPLHTTPFetchCallbackFunc: (address, options, ...) -> result, which GDAL frees."""


class _Result(ctypes.Structure):
    """The beginning of GDAL's CPLHTTPResult."""

    _fields_ = (
        ("status", ctypes.c_int),
        ("content_type", ctypes.c_void_p),
        ("error", ctypes.c_void_p),
    )


_RESULT_BYTES = 256
"""More than the whole of a CPLHTTPResult, zeroed."""


@dataclass
class _Library:
    """The GDAL that a package carries (wheels of rasterio and of pyogrio have one each)."""

    package: str
    extension: str
    answers_links: bool
    """Whether drivers may send requests of their own; files under /vsicurl/ always may."""
    _gdal: Any = None
    _left: int = -1
    _refusing: Any = None
    """Kept alive, since GDAL calls it."""

    def restrict(self) -> None:
        """Take out what is not kept; cheap when that was done and nothing came back."""
        # Whatever registers all drivers again (another package with the same GDAL) is noticed.
        if self._gdal is None or self._gdal.GDALGetDriverCount() != self._left:
            with _LOCK:
                self._take_out()

    def _take_out(self) -> None:
        try:
            gdal = self._gdal or _functions(sys.modules[f"{self.package}.{self.extension}"])
        except (OSError, AttributeError) as e:
            raise SceneError(
                f"cannot take unsafe drivers out of the GDAL in {self.package}: {e}",
                f"install {self.package} from PyPI or conda-forge",
            ) from e
        all_ = [gdal.GDALGetDriver(i) for i in range(gdal.GDALGetDriverCount())]
        for driver in all_:
            if gdal.GDALGetDriverShortName(driver).decode() not in _KEPT:
                gdal.GDALDeregisterDriver(driver)
        for name, value in _SETTINGS.items():
            gdal.CPLSetConfigOption(name, value)
        if not self.answers_links:
            self._refusing = self._refusing or _refusing(gdal)
            gdal.CPLHTTPSetFetchCallback(self._refusing, None)
        self._left = gdal.GDALGetDriverCount()
        self._gdal = gdal


_LOCK = threading.Lock()
_RASTERIO = _Library("rasterio", "_env", answers_links=True)
_PYOGRIO = _Library("pyogrio", "_ogr", answers_links=False)


def restrict_rasters() -> None:
    """Leave rasterio's GDAL the drivers above, in this process and for as long as it lives."""
    if _RASTERIO._gdal is None:
        import rasterio

        with rasterio.Env():  # registers the drivers, where nothing has done so yet
            _RASTERIO.restrict()
    else:
        _RASTERIO.restrict()


_FENCE = b"CPL_VSIL_CURL_ALLOWED_FILENAME"
"""GDAL's setting: the one file that all of its file systems on networks may open."""
_here = threading.local()


@contextmanager
def network(allowed: bool) -> Iterator[None]:
    """Whether rasterio's GDAL may open files on a network in this thread and block.

    What an outer block allows stays allowed, since its dataset may be read in an inner one.
    """
    restrict_rasters()
    with _network(_RASTERIO._gdal, allowed):
        yield


@contextmanager
def vector_network(allowed: bool) -> Iterator[None]:
    """As `network`, of pyogrio's GDAL."""
    restrict_vectors()
    with _network(_PYOGRIO._gdal, allowed):
        yield


@contextmanager
def _network(gdal: Any, allowed: bool) -> Iterator[None]:
    outer = getattr(_here, "allowed", False)
    before = gdal.CPLGetThreadLocalConfigOption(_FENCE, None)
    _here.allowed = allowed or outer
    gdal.CPLSetThreadLocalConfigOption(_FENCE, None if _here.allowed else b"-")
    try:
        yield
    finally:
        _here.allowed = outer
        gdal.CPLSetThreadLocalConfigOption(_FENCE, before)


def restrict_vectors() -> None:
    """Leave pyogrio's GDAL the drivers above, in this process and for as long as it lives."""
    if _PYOGRIO._gdal is None:
        import pyogrio

        # Who reads a GeoPackage with metadata would leave an .aux.xml file beside it.
        pyogrio.set_gdal_config_options({"GDAL_PAM_ENABLED": "NO"})
    _PYOGRIO.restrict()


def _refusing(gdal: Any) -> Any:
    """What GDAL calls for a driver's request: a GeoJSON's CRS may be a link to any address."""

    def refuse(_address: bytes | None, *_: int | None) -> int:
        at: int = gdal.CPLCalloc(1, _RESULT_BYTES)  # without a result GDAL would ask the network
        result = _Result.from_address(at)
        result.status, result.error = 1, gdal.CPLStrdup(b"geopipe lets no file ask the network")
        return at

    return _FETCH(refuse)


def _functions(extension: Any) -> Any:
    """GDAL's C functions: those that the compiled module `extension` is linked with."""
    gdal = ctypes.CDLL(extension.__file__)
    gdal.GDALGetDriver.restype = ctypes.c_void_p
    gdal.GDALGetDriver.argtypes = [ctypes.c_int]
    gdal.GDALGetDriverShortName.restype = ctypes.c_char_p
    gdal.GDALGetDriverShortName.argtypes = [ctypes.c_void_p]
    gdal.GDALDeregisterDriver.argtypes = [ctypes.c_void_p]
    gdal.GDALGetDriverCount.argtypes = []
    gdal.CPLSetConfigOption.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    gdal.CPLHTTPSetFetchCallback.argtypes = [_FETCH, ctypes.c_void_p]
    gdal.CPLGetThreadLocalConfigOption.restype = ctypes.c_char_p
    gdal.CPLGetThreadLocalConfigOption.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    gdal.CPLSetThreadLocalConfigOption.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    gdal.CPLCalloc.restype = gdal.CPLStrdup.restype = ctypes.c_void_p
    gdal.CPLCalloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    gdal.CPLStrdup.argtypes = [ctypes.c_char_p]
    return gdal
