"""Why a raster has no place on Earth, told from what its file says, with the cure for that file."""

import math
from collections.abc import Callable

import numpy as np
import rasterio
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from geopipe.grid.crs import nowhere


def unplaced(src: rasterio.DatasetReader, name: str) -> tuple[str, str] | None:
    """What is wrong with the georeference of `src`, and a cure; None when nothing is.

    `name`: of the file, for the message. Looks at ground control points and RPCs, which give no
    pixel a place until the image is brought onto a grid, and at local CRS.
    """
    if src.crs is None or src.transform.is_identity or not _is_invertible(src.transform):
        return _by_points(src, name) or _by_rpcs(src, name) or _missing(src, name)
    crs = _known(src.crs.to_wkt)
    return (
        None if crs is None else nowhere(crs, name, f"gdal_edit.py -a_srs {{code}} {_braced(name)}")
    )


def _is_invertible(transform: Affine) -> bool:
    """Whether it and its inverse are numbers; those of a damaged file may be NaN, or overflow."""
    if not (math.isfinite(transform.determinant) and transform.determinant):
        return False
    with np.errstate(all="ignore"):
        return all(map(math.isfinite, (*transform, *~transform)))


def _braced(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")


def _missing(src: rasterio.DatasetReader, name: str) -> tuple[str, str]:
    if src.crs is None:
        return (
            f"{name} has no CRS",
            f"set it, e.g. gdal_edit.py -a_srs EPSG:2154 {name}, or give a georeferenced file",
        )
    return (
        f"{name} has no geotransform",
        f"georeference it, e.g. gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM {name}",
    )


def _by_points(src: rasterio.DatasetReader, name: str) -> tuple[str, str] | None:
    points, points_crs = src.gcps
    if not points:
        return None
    crs = _known(points_crs.to_wkt) if points_crs else None
    code = f"EPSG:{crs.to_epsg()}" if crs and crs.to_epsg() else ""
    source = "" if crs else "-s_srs EPSG:4326 "
    target = code or "EPSG:2154"
    return (
        f"{name} has {len(points)} ground control points and no geotransform",
        f"bring it onto a grid, e.g. gdalwarp {source}-t_srs {target} {name} scene.tif",
    )


def _by_rpcs(src: rasterio.DatasetReader, name: str) -> tuple[str, str] | None:
    rpcs = src.rpcs
    if rpcs is None:
        return None
    zone = int((float(rpcs.long_off) + 180) % 360 // 6) + 1
    code = (32600 if float(rpcs.lat_off) >= 0 else 32700) + zone
    return (
        f"{name} has RPCs and no geotransform",
        f"orthorectify it, e.g. gdalwarp -rpc -to RPC_DEM=dem.tif -t_srs EPSG:{code} {name} "
        "scene.tif",
    )


def _known(to_wkt: Callable[[], str]) -> CRS | None:
    """The CRS, or None where PROJ cannot say anything of it; whoever transforms says why."""
    try:
        return CRS.from_wkt(to_wkt())
    except (CRSError, rasterio.errors.CRSError):
        return None
