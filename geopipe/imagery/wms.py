"""WMS 1.3 and 1.1.1: images of any box, asked for on one grid."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info

from geopipe.errors import ServiceError
from geopipe.grid import Window
from geopipe.imagery.pictures import PictureSource
from geopipe.imagery.plan import (
    Bounds,
    DownloadLimits,
    Plan,
    TileRequest,
    bounds_in,
    parse_crs,
    plane,
    unit_on_ground,
)
from geopipe.services import Endpoint, layer_credit, north_first, select, text
from geopipe.web import Client, redacted

PIECE_PX = 1024
"""Pixels a side of what is asked for at once."""
_CONTACT = "ContactInformation/ContactPersonPrimary"
_ROUND = 0.005
"""Scale errors of a projection below which its metres count as metres on the ground."""
_FORMATS = ("image/png", "image/jpeg", "image/webp", "image/tiff", "image/geotiff")


def plan_wms(
    client: Client,
    url: str,
    layer: str | None,
    bounds: Bounds,
    gsd: float,
    limits: DownloadLimits,
    *,
    crs: str | None = None,
    form: str | None = None,
) -> Plan:
    """The images of a layer within `bounds` with pixels of `gsd`, on whole multiples of them.

    Args:
        client: Asks the service.
        url: The service.
        layer: Its name; a pattern with ``*`` takes the last one that fits.
        bounds: West, south, east, north in degrees.
        gsd: Metres on the ground per pixel.
        limits: How much may be asked for.
        crs: By default the UTM zone of the place where the layer has it, else Web Mercator, else
            the first that it names.
        form: Media type; by default PNG, then JPEG, as far as the service has them.

    Raises:
        ServiceError: No such layer, CRS or format, or nothing there.
    """
    endpoint = Endpoint(url)
    root = endpoint.capabilities(client, "WMS", "1.3.0")
    version = root.get("version", "1.3.0")
    provider = text(root, f"Service/{_CONTACT}/ContactOrganization")
    top = _Layer("", (), None, provider)
    layers = {entry.name: entry for entry in _layers(root.find("Capability/Layer"), top)}
    if not layers:
        raise ServiceError(f"{redacted(url)} is no WMS with layers", "check the address")
    chosen = layers[select(layers, layer, "layer")]
    chosen.require(bounds)
    code = _crs(chosen, crs, bounds)
    projected = parse_crs(code)
    form = _format(root, form)
    box = bounds_in(projected, bounds)
    pixel = pixel_size(projected, box, gsd)
    geobox, window = plane(projected, (0.0, 0.0), pixel, box)
    params = _request(version, chosen.name, code, form)
    swap = version >= "1.3" and north_first(projected)

    def address(part: Window) -> str:
        left, bottom, right, top = window_bounds(pixel, window, part)
        corners = (bottom, left, top, right) if swap else (left, bottom, right, top)
        size = {"WIDTH": str(part.width), "HEIGHT": str(part.height)}
        return endpoint.url({**params, "BBOX": ",".join(f"{v:.15g}" for v in corners), **size})

    tile_requests = blocks(geobox, _side(root), limits, address)
    about = {
        "service": redacted(url),
        "layer": chosen.name,
        "level": f"{pixel:.10g} units of {code}",
        "gsd": f"{pixel * unit_on_ground(projected, box):.4g} m",
    }
    credit = layer_credit(chosen.credit, text(root, "Service/AccessConstraints"))
    return Plan(geobox, tile_requests, PictureSource(client), credit, about)


def _request(version: str, layer: str, crs: str, form: str) -> dict[str, str]:
    """The parameters of GetMap, but for the part of the plane and its size."""
    params = {
        "SERVICE": "WMS",
        "REQUEST": "GetMap",
        "VERSION": version,
        "LAYERS": layer,
        "STYLES": "",
        "CRS" if version >= "1.3" else "SRS": crs,
        "FORMAT": form,
    }
    return params | ({"TRANSPARENT": "TRUE"} if form in ("image/png", "image/webp") else {})


def pixel_size(crs: CRS, box: Bounds, gsd: float) -> float:
    """Units of `crs` that `gsd` metres on the ground are in the middle of `box`."""
    unit = unit_on_ground(crs, box)
    return gsd if abs(unit - 1) < _ROUND else gsd / unit


def window_bounds(pixel: float, window: Window, part: Window) -> Bounds:
    """Left, bottom, right, top of `part` of a window of the grid that starts at 0, 0."""
    return (
        (window.col + part.col) * pixel,
        -(window.row + part.bottom) * pixel,
        (window.col + part.right) * pixel,
        -(window.row + part.row) * pixel,
    )


def blocks(
    geobox: GeoBox, side: int, limits: DownloadLimits, address: Callable[[Window], str]
) -> tuple[TileRequest, ...]:
    """Requests of at most `side` x `side` px that cover `geobox`."""
    height, width = geobox.shape
    limits.check(height * width, -(-height // side) * -(-width // side))
    parts = (
        Window(row, col, side, side).clip((height, width))
        for row in range(0, height, side)
        for col in range(0, width, side)
    )
    return tuple(TileRequest(part, address(part)) for part in parts)


@dataclass(frozen=True)
class _Layer:
    name: str
    crs: tuple[str, ...]
    """With those of the layers around it."""
    box: Bounds | None
    credit: str

    def require(self, bounds: Bounds) -> None:
        """Raise ServiceError when the layer says that it lies elsewhere."""
        if not self.box:
            return
        west, south, east, north = self.box
        if bounds[0] > east or bounds[2] < west or bounds[1] > north or bounds[3] < south:
            raise ServiceError(
                f"layer {self.name} covers lon {west:g} to {east:g}, lat {south:g} to {north:g}; "
                f"the bounds are lon {bounds[0]:g} to {bounds[2]:g}, lat {bounds[1]:g} to "
                f"{bounds[3]:g}",
                "check the bounds: west south east north",
            )


def _layers(element: ET.Element | None, above: _Layer | None = None) -> Iterator[_Layer]:
    """The layers that can be asked for; they inherit from those around them."""
    if element is None:
        return
    own = [
        code
        for tag in ("CRS", "SRS")
        for e in element.iterfind(tag)
        for code in (e.text or "").split()
    ]
    inherited = above.crs if above else ()
    layer = _Layer(
        text(element, "Name"),
        tuple(dict.fromkeys([*own, *inherited])),
        _lonlat_box(element) or (above.box if above else None),
        text(element, "Attribution/Title") or (above.credit if above else ""),
    )
    if layer.name:
        yield layer
    for child in element.iterfind("Layer"):
        yield from _layers(child, layer)


def _lonlat_box(element: ET.Element) -> Bounds | None:
    sides = ("westBoundLongitude", "southBoundLatitude", "eastBoundLongitude", "northBoundLatitude")
    older = element.find("LatLonBoundingBox")
    try:
        if older is not None:
            west, south, east, north = (
                float(older.attrib[k]) for k in ("minx", "miny", "maxx", "maxy")
            )
        else:
            west, south, east, north = (
                float(text(element, f"EX_GeographicBoundingBox/{side}")) for side in sides
            )
    except (ValueError, KeyError):
        return None
    return west, south, east, north


def _crs(layer: _Layer, wanted: str | None, bounds: Bounds) -> str:
    if wanted:
        return select(layer.crs, wanted, "CRS")
    known = [c for c in layer.crs if c.upper().startswith(("EPSG:", "CRS:"))]
    if not known:
        raise ServiceError(f"layer {layer.name} names no CRS that geopipe knows")
    west, south, east, north = bounds
    middle = (west + east) / 2, (south + north) / 2
    area = AreaOfInterest(middle[0], middle[1], middle[0], middle[1])
    zones = [
        f"EPSG:{info.code}"
        for datum in ("ETRS89", "WGS 84")
        for info in query_utm_crs_info(datum, area)
    ]
    return next((c for c in (*zones, "EPSG:3857") if c in known), known[0])


def _format(root: ET.Element, wanted: str | None) -> str:
    """The media type to ask for."""
    listed = root.iterfind("Capability/Request/GetMap/Format")
    formats = [" ".join((e.text or "").split()) for e in listed]
    if wanted:
        return select(formats, wanted, "format")
    for form in _FORMATS:
        if form in formats:
            return form
    raise ServiceError(
        f"the service draws {', '.join(formats) or 'nothing'}, not what geopipe reads"
    )


def _side(root: ET.Element) -> int:
    """Pixels a side of what is asked for at once."""
    stated = (text(root, f"Service/{side}") for side in ("MaxWidth", "MaxHeight"))
    return min([PIECE_PX, *(int(n) for n in stated if n.isdigit() and int(n))])
