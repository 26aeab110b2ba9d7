"""From one CRS to another; what PROJ cannot do becomes a GridError that names the cause."""

import os
from functools import lru_cache

from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from geopipe.errors import GridError


@lru_cache(maxsize=64)  # a look-up in PROJ's database takes 10 ms; threads may share the result
def transformer(source: CRS | str, target: CRS | str) -> Transformer:
    """The way from `source` to `target`, x (or longitude) first; GridError when there is none."""
    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as e:
        raise _refusal(source, target, e) from e


def nowhere(crs: CRS, name: str, cure: str) -> tuple[str, str] | None:
    """Message and hint when places in `crs` are no places on Earth; None when they are.

    `name`: of the file; `cure`: a command for it with ``{code}`` for the CRS that it should have.
    """
    if crs.is_geocentric:
        return (
            f"{name} has a geocentric CRS ({crs.name}), which has no plane",
            "reproject it, e.g. ogr2ogr -t_srs EPSG:4979 or gdalwarp -t_srs EPSG:4326",
        )
    if not _is_local(crs):
        return None
    if trouble := _proj_trouble():  # then every CRS looks so
        return trouble
    code = _true_crs(crs)
    advice = cure.format(code=code or "EPSG:2154")
    return (
        f"{name} has a local CRS ({crs.name}) that says nothing of its place on Earth",
        advice if code else f"give it the true one, e.g. {advice}",
    )


def _is_local(crs: CRS) -> bool:
    """Whether `crs` is on no ellipsoid (an engineering CRS)."""
    return bool(crs.geodetic_crs is None and crs.type_name == "Engineering CRS")


def _true_crs(local: CRS) -> str:
    """``EPSG:N`` of the CRS that has the same name as a local one; "" when there is none."""
    try:
        epsg = CRS.from_user_input(local.name).to_epsg()
    except CRSError:
        return ""
    return f"EPSG:{epsg}" if epsg else ""


def _refusal(source: CRS | str, target: CRS | str, error: ProjError) -> GridError:
    if trouble := _proj_trouble():
        return GridError(*trouble)
    names = []
    for one in (source, target):
        crs = CRS.from_user_input(one)
        if _is_local(crs):
            return GridError(
                f"the local CRS {crs.name} says nothing of a place on Earth",
                f"give the true one, {_true_crs(crs) or 'as an EPSG code'}",
            )
        names.append(crs.name)
    return GridError(
        f"PROJ knows no way from {names[0]} to {names[1]}: {' '.join(str(error).split())[:200]}",
        "see what gdalinfo says of the CRS of both files",
    )


def _proj_trouble() -> tuple[str, str] | None:
    """Message and hint when PROJ cannot do what it always can; None when it can.

    GDAL has a PROJ of its own and believes PROJ_DATA where pyproj does not; without data every CRS
    that it reads is a local one.
    """
    from rasterio.crs import CRS as RasterCRS  # noqa: N811 (rasterio's name for it)
    from rasterio.errors import CRSError as RasterCRSError

    try:
        Transformer.from_crs("EPSG:2154", "EPSG:4326")
        RasterCRS.from_epsg(2154)
    except (ProjError, RasterCRSError) as e:
        misleading = [v for v in ("PROJ_DATA", "PROJ_LIB") if os.environ.get(v)]
        if not misleading:
            reason = " ".join(str(e).split())[:200]
            return f"PROJ cannot use its data: {reason}", "see geopipe doctor"
        text = " and ".join(f"{v} is {os.environ[v]}" for v in misleading)
        return (
            f"PROJ cannot use its data: {text}, which belongs to another program",
            f"unset {' and '.join(misleading)}; see geopipe doctor",
        )
    return None
