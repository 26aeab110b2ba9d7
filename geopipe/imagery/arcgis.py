"""ArcGIS REST: images that a service exports, and cached tiles."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pyproj import CRS

from geopipe.errors import ServiceError
from geopipe.grid import Window
from geopipe.imagery.pictures import PictureSource
from geopipe.imagery.plan import (
    COARSER,
    Bounds,
    DownloadLimits,
    Plan,
    bounds_in,
    parse_crs,
    plane,
    unit_on_ground,
)
from geopipe.imagery.pyramid import Pyramid, PyramidLevel
from geopipe.imagery.wms import PIECE_PX, blocks, pixel_size
from geopipe.services import Endpoint
from geopipe.web import Client, Response, redacted

_SQUARE = 1e-6
"""Pixels count as squares when their sides differ by less, as a share."""
_LAST_EPSG = 32767
"""Codes above are Esri's own."""
_BYTES = ("U8", "U1", "U2", "U4")


def plan_arcgis(
    client: Client,
    url: str,
    layer: str | None,
    bounds: Bounds,
    gsd: float,
    limits: DownloadLimits,
    *,
    form: str | None = None,
) -> Plan:
    """The images or cached tiles of an ImageServer or MapServer within `bounds`.

    An image service whose own pixels are not larger than `gsd`, nor smaller than half of it, is
    asked on its own grid; else it resamples to `gsd`.

    Args:
        client: Asks the service.
        url: Its address, which ends in ``/ImageServer`` or ``/MapServer``.
        layer: Numbers of the layers of a map, such as ``0,2``; by default those it shows.
        bounds: West, south, east, north in degrees.
        gsd: Metres on the ground per pixel.
        limits: How much may be asked for.
        form: ``png``, ``jpg``, ``tiff``...; by default ``tiff`` for pixels that are no bytes, else
            ``png32``.

    Raises:
        ServiceError: No such service, or nothing as fine or at that place.
    """
    parts = urlsplit(url)
    kind = next((k for k in ("ImageServer", "MapServer") if k in parts.path), None)
    if kind is None:
        raise ServiceError(
            f"{redacted(url)} is no image or map service",
            "its address ends in /ImageServer or /MapServer",
        )
    base = Endpoint(urlunsplit(parts._replace(path=parts.path.split(kind)[0] + kind)))
    about = _json(client.get(base.url({"f": "json"})))
    try:
        if kind == "MapServer" and about.get("singleFusedMapCache") and about.get("tileInfo"):
            return _cached(client, base, about, bounds, gsd, limits)
        return _exported(client, base, kind, about, bounds, gsd, limits, layer, form)
    except (KeyError, TypeError, ValueError) as e:
        if isinstance(e, ServiceError):
            raise
        raise ServiceError(
            f"{redacted(url)} does not describe its grid as an ArcGIS service does: {e!r}",
            "check the address",
        ) from e


def _json(answer: Response) -> dict[str, Any]:
    """The tables of an answer; ServiceError when it is an error or no JSON."""
    try:
        tables = json.loads(answer.content)
    except ValueError:
        tables = None
    if not isinstance(tables, dict) or "error" in tables:
        words = f": {answer.words}" if answer.words else ""
        raise ServiceError(
            f"{answer.address} answers {answer.kind} that is no description of a service{words}",
            "check the address",
        )
    return tables


def _crs(tables: Mapping[str, Any]) -> tuple[CRS, str]:
    """The CRS of a ``spatialReference``, and how to name it in a request."""
    wkid = tables.get("latestWkid") or tables.get("wkid")
    if not wkid:
        return parse_crs(str(tables["wkt"])), json.dumps({"wkt": tables["wkt"]})
    authority = "ESRI" if int(wkid) > _LAST_EPSG else "EPSG"
    return parse_crs(f"{authority}:{wkid}"), str(wkid)


def _exported(
    client: Client,
    base: Endpoint,
    kind: str,
    about: Mapping[str, Any],
    bounds: Bounds,
    gsd: float,
    limits: DownloadLimits,
    layer: str | None,
    form: str | None,
) -> Plan:
    extent = about.get("fullExtent") or about["extent"]
    crs, wkid = _crs(about.get("spatialReference") or extent["spatialReference"])
    box = bounds_in(crs, bounds)
    if (
        box[0] >= extent["xmax"]
        or box[2] <= extent["xmin"]
        or box[1] >= extent["ymax"]
        or box[3] <= extent["ymin"]
    ):
        raise ServiceError(
            f"{redacted(base.address)} has nothing within the bounds",
            "check the bounds: west south east north",
        )
    unit = unit_on_ground(crs, box)
    own, high = float(about.get("pixelSizeX") or 0), float(about.get("pixelSizeY") or 0)
    square = own > 0 and abs(own - high) <= _SQUARE * own
    native = square and gsd / 2 < own * unit <= COARSER * gsd
    pixel = own if native else pixel_size(crs, box, gsd)
    origin = (float(extent["xmin"]), float(extent["ymax"])) if native else (0.0, 0.0)
    geobox, _ = plane(crs, origin, pixel, box)
    if form is None:
        form = "tiff" if about.get("pixelType", "U8") not in _BYTES else "png32"
    side = min(
        PIECE_PX,
        int(about.get("maxImageWidth") or PIECE_PX),
        int(about.get("maxImageHeight") or PIECE_PX),
    )
    params = {"f": "image", "format": form, "bboxSR": wkid, "imageSR": wkid}
    if kind == "MapServer":
        params |= {"transparent": "true", "dpi": "96"} | (
            {"layers": f"show:{layer}"} if layer else {}
        )
    elif native:
        params["interpolation"] = "RSP_NearestNeighbor"
    export = Endpoint(_below(base.address, "exportImage" if kind == "ImageServer" else "export"))
    affine = geobox.affine

    def address(part: Window) -> str:
        left, top = affine * (part.col, part.row)
        right, bottom = affine * (part.right, part.bottom)
        corners = ",".join(f"{v:.15g}" for v in (left, bottom, right, top))
        return export.url({**params, "bbox": corners, "size": f"{part.width},{part.height}"})

    tags = {
        "service": redacted(base.address),
        **({"layer": layer} if layer else {}),
        "level": "the service's own pixels" if native else "resampled by the service",
        "gsd": f"{pixel * unit:.4g} m",
    }
    tile_requests = blocks(geobox, side, limits, address)
    return Plan(geobox, tile_requests, PictureSource(client), _credit(about), tags)


def _cached(
    client: Client,
    base: Endpoint,
    about: Mapping[str, Any],
    bounds: Bounds,
    gsd: float,
    limits: DownloadLimits,
) -> Plan:
    info = about["tileInfo"]
    crs, _ = _crs(info["spatialReference"])
    tile = int(info["rows"]), int(info["cols"])
    origin = float(info["origin"]["x"]), float(info["origin"]["y"])
    endless = range(1 << 30)
    levels = tuple(
        PyramidLevel(str(int(d["level"])), float(d["resolution"]), origin, tile, endless, endless)
        for d in info["lods"]
    )
    pyramid = Pyramid("the tile cache", crs, levels)
    level, size = pyramid.level(bounds, gsd)

    def address(row: int, col: int) -> str:
        return _below(base.address, f"tile/{level.name}/{row}/{col}")

    geobox, tile_requests = pyramid.cover(level, bounds, limits, address)
    tags = {"service": redacted(base.address), "level": level.name, "gsd": f"{size:.4g} m"}
    return Plan(geobox, tile_requests, PictureSource(client, sparse=True), _credit(about), tags)


def _below(address: str, path: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path}/{path}"))


def _credit(about: Mapping[str, Any]) -> str:
    return " ".join(str(about.get("copyrightText") or "").split())
