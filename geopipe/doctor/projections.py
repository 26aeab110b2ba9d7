"""Whether the PROJ of each library finds its own data: a transform with a known answer."""

import json
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

from geopipe.doctor.finding import Finding, Probe, error_text, rated, reinstall

LonLat = tuple[float, float]

_ORIGIN = (700_000.0, 6_600_000.0)
"""Origin of Lambert-93 (EPSG:2154): east, north in metres."""
_ORIGIN_DEGREES: LonLat = (3.0, 46.5)
"""The same point in EPSG:4326, by the definition of Lambert-93."""
_DEGREES_OFF = 1e-6


def proj_version(folder: Path | None) -> str:
    """The PROJ for which the ``proj.db`` in `folder` was made; empty where there is none."""
    if folder is None or not (folder / "proj.db").is_file():
        return ""
    uri = (folder / "proj.db").resolve().as_uri()
    with closing(sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)) as base:
        row = base.execute("SELECT value FROM metadata WHERE key = 'PROJ.VERSION'").fetchone()
    return str(row[0]) if row else "unknown version"


def pyogrio_database() -> Path | None:
    """The folder of the ``proj.db`` that travels with pyogrio; None: it uses the system's."""
    import pyogrio

    folder = Path(pyogrio.__file__).parent / "proj_data"
    return folder if folder.is_dir() else None


def _with_rasterio() -> LonLat:
    from rasterio.warp import transform

    (lon,), (lat,) = transform("EPSG:2154", "EPSG:4326", [_ORIGIN[0]], [_ORIGIN[1]])
    return lon, lat


def _with_pyogrio() -> LonLat:
    import numpy as np
    from pyogrio.raw import write

    # Its only way to its own PROJ: GeoJSON as RFC 7946 has it is in EPSG:4326.
    out, point = BytesIO(), np.array([struct.pack("<BIdd", 1, 1, *_ORIGIN)], dtype=object)
    options = {"RFC7946": "YES", "COORDINATE_PRECISION": "9"}
    write(
        out,
        point,
        [],
        [],
        layer="origin",
        driver="GeoJSON",
        geometry_type="Point",
        crs="EPSG:2154",
        **options,
    )
    lon, lat = json.loads(out.getvalue())["features"][0]["geometry"]["coordinates"]
    return lon, lat


def _with_pyproj() -> LonLat:
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(2154, 4326, always_xy=True).transform(*_ORIGIN)
    return lon, lat


def _rasterio() -> Iterator[Finding]:
    from rasterio.env import PROJDataFinder

    # Believed by rasterio even where they lead nowhere.
    folder = os.environ.get("PROJ_DATA") or os.environ.get("PROJ_LIB") or PROJDataFinder().search()
    yield project("rasterio", _with_rasterio, Path(folder) if folder else None)


def _pyogrio() -> Iterator[Finding]:
    yield project("pyogrio", _with_pyogrio, pyogrio_database())


def _pyproj() -> Iterator[Finding]:
    from pyproj.datadir import get_data_dir

    folders = map(Path, get_data_dir().split(os.pathsep))
    yield project("pyproj", _with_pyproj, next(filter(proj_version, folders), None))


def project(library: str, transform: Callable[[], LonLat], folder: Path | None) -> Finding:
    """Whether `transform` takes the origin of EPSG:2154 where it is; `folder` has proj.db."""
    version = ""
    try:
        version = proj_version(folder)
        off = max(abs(a - b) for a, b in zip(transform(), _ORIGIN_DEGREES, strict=True))
    except Exception as e:
        error = error_text(e)
    else:
        right = off <= _DEGREES_OFF
        error = "" if right else f"EPSG:2154 -> EPSG:4326 is {off:g} degrees off"
    misleading = [v for v in ("PROJ_DATA", "PROJ_LIB") if os.environ.get(v)]
    advice = f"unset {' and '.join(misleading)}" if misleading else reinstall(library)
    base = f"proj.db of PROJ {version} in {folder}" if version else "works, proj.db not located"
    return rated("projections", library, error or base, advice if error else "", "problem")


PROBES = (
    Probe("projections", "rasterio", _rasterio, ("rasterio",)),
    Probe("projections", "pyogrio", _pyogrio, ("pyogrio",)),
    Probe("projections", "pyproj", _pyproj, ("pyproj",)),
)
