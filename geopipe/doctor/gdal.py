"""What the GDAL in rasterio and the one in pyogrio can read and write, and GDAL's cache."""

import math
import os
from collections.abc import Iterator
from importlib import metadata

from geopipe.doctor.finding import Finding, Probe, error_text, rated, reinstall, size
from geopipe.limits import cgroup_limits

_RASTER = {
    "GTiff": "",
    "COG": "",
    "VRT": "",
    "MEM": "",
    "JP2OpenJPEG": "JPEG 2000 scenes cannot be read",
}
"""What is lost without each driver; empty: geopipe cannot do without."""
_VECTOR = {
    "GPKG": "",
    "GeoJSON": "labels in GeoJSON cannot be read",
    "ESRI Shapefile": "labels in Shapefiles cannot be read",
    "FlatGeobuf": "labels in FlatGeobuf cannot be read",
}
_CODECS = ("deflate", "zstd")
"""Compressions that geopipe writes."""

_CACHE_SHARE, _MIN_CACHE = 0.25, 16e6
"""The block cache takes at most this share of the memory, and at least these bytes."""


def _raster() -> Iterator[Finding]:
    drivers = _raster_drivers()
    for driver, loss in _RASTER.items():
        yield _driver(driver, driver in drivers, loss, "rasterio")


def _raster_drivers() -> set[str]:
    import rasterio

    with rasterio.Env() as env:
        return set(env.drivers())


def _vector() -> Iterator[Finding]:
    import pyogrio

    drivers = pyogrio.list_drivers()
    for driver, loss in _VECTOR.items():
        # Labels are only read; what geopipe cannot do without, it writes.
        is_available = ("r" if loss else "w") in drivers.get(driver, "")
        yield _driver(driver, is_available, loss, "pyogrio")


def _driver(driver: str, is_available: bool, loss: str, library: str) -> Finding:
    name = f"{driver} ({library})"
    if is_available:
        return Finding("drivers", name, "there")
    skipped = [v for v in ("GDAL_SKIP", "OGR_SKIP") if driver in os.environ.get(v, "")]
    advice = f"unset {skipped[0]}" if skipped else reinstall(library)
    if loss:
        return Finding("drivers", name, "missing", "warning", f"{loss}: {advice}")
    return Finding("drivers", name, "missing", "problem", advice)


def _codecs() -> Iterator[Finding]:
    # Without the driver nothing can be said, and that it is missing has been told.
    for name in _CODECS if "GTiff" in _raster_drivers() else ():
        error = codec_error(name)
        advice = reinstall("rasterio") if error else ""
        yield rated("drivers", f"{name} in GTiff", error or "there", advice, "problem")


def codec_error(name: str) -> str:
    """Why a GeoTIFF with compression `name` cannot be written and read; empty if it can."""
    import numpy as np
    import rasterio

    data = np.arange(64 * 64, dtype=np.uint8).reshape(1, 64, 64)
    shape = {"width": 64, "height": 64, "count": 1, "dtype": "uint8"}
    # A transform, since without one rasterio warns.
    transform = rasterio.Affine(1, 0, 0, 0, -1, 64)
    with rasterio.MemoryFile() as file:
        try:
            with file.open(driver="GTiff", transform=transform, compress=name, **shape) as out:
                out.write(data)
            with file.open() as written:
                # What GDAL has never heard of it writes uncompressed, without an error.
                intact = written.compression and (written.read() == data).all()
        except rasterio.errors.RasterioError as e:
            return error_text(e)
    return "" if intact else "not written so"


def _arrow() -> Iterator[Finding]:
    import pyarrow as pa

    yield Finding("drivers", "GeoParquet (pyarrow)", pa.__version__)


def _osmium() -> Iterator[Finding]:
    yield Finding("drivers", "OSM files (osmium)", metadata.version("osmium"))


def _cache() -> Iterator[Finding]:
    import psutil
    import rasterio
    from rasterio.env import get_gdal_config

    with rasterio.Env():
        cache = int(get_gdal_config("GDAL_CACHEMAX"))  # bytes, as GDAL understood the words
    setting = os.environ.get("GDAL_CACHEMAX")
    if setting is None:
        yield Finding("memory", "GDAL_CACHEMAX", f"not set, {size(cache)} by default")
        return
    max_cache = _CACHE_SHARE * min(
        psutil.virtual_memory().total, cgroup_limits().memory or math.inf
    )
    fits = _MIN_CACHE <= cache <= max_cache
    advice = f"unset it or set 64 (MB); from {size(_MIN_CACHE)} to {size(max_cache)} is sound here"
    value = f"{setting}, that is {size(cache)}"
    yield rated("memory", "GDAL_CACHEMAX", value, "" if fits else advice)


PROBES = (
    Probe("memory", "GDAL_CACHEMAX", _cache, ("rasterio", "psutil")),
    Probe("drivers", "raster", _raster, ("rasterio",)),
    Probe("drivers", "compressions", _codecs, ("rasterio",)),
    Probe("drivers", "vector", _vector, ("pyogrio",)),
    Probe("drivers", "GeoParquet", _arrow, ("pyarrow.parquet",)),
    Probe("drivers", "OSM", _osmium, ("osmium",)),
)
