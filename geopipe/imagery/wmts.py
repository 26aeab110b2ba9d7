"""WMTS 1.0: tile matrix sets in any CRS, by key-value pairs or resource templates."""

import re
import xml.etree.ElementTree as ET

from geopipe.errors import ServiceError
from geopipe.imagery.pictures import PictureSource
from geopipe.imagery.plan import Bounds, DownloadLimits, Plan, bounds_in, parse_crs
from geopipe.imagery.pyramid import Pyramid, PyramidLevel, best_pyramid
from geopipe.services import Endpoint, layer_credit, north_first, select, text
from geopipe.web import Client, redacted

_PIXEL_M = 0.28e-3
"""Side of the pixel that a scale denominator speaks of (WMTS 1.0, 6.1)."""
_DEGREE_M = 111319.49079327358
"""Metres of a degree on the sphere of the same paragraph."""
_FORMATS = ("image/png", "image/jpeg", "image/jpg", "image/webp", "image/tiff")


def plan_wmts(
    client: Client,
    url: str,
    layer: str | None,
    bounds: Bounds,
    gsd: float,
    limits: DownloadLimits,
    *,
    matrix_set: str | None = None,
    form: str | None = None,
) -> Plan:
    """The tiles of a layer within `bounds`, of the level whose pixels are not larger than `gsd`.

    Args:
        client: Asks the service.
        url: The service, or the document of its capabilities.
        layer: Its identifier; a pattern with ``*`` takes the last one that fits.
        bounds: West, south, east, north in degrees.
        gsd: Metres on the ground that pixels may be large.
        limits: How much may be asked for.
        matrix_set: By default the one whose pixels come nearest to `gsd`, if possible projected.
        form: Media type of the tiles; by default PNG, then JPEG, as far as the layer has them.

    Raises:
        ServiceError: No such layer, matrix set or format, nothing as fine, or nothing there.
    """
    endpoint = Endpoint(url)
    root = endpoint.capabilities(client, "WMTS", "1.0.0")
    layers = {text(e, "Identifier"): e for e in root.iterfind("Contents/Layer")}
    if not layers:
        raise ServiceError(f"{redacted(url)} is no WMTS with layers", "check the address")
    name = select(layers, layer, "layer")
    chosen = layers[name]
    links = {text(e, "TileMatrixSet"): e for e in chosen.iterfind("TileMatrixSetLink")}
    sets = {
        text(e, "Identifier"): e
        for e in root.iterfind("Contents/TileMatrixSet")
        if text(e, "Identifier") in links
    }
    wanted = [select(sets, matrix_set, "matrix set")] if matrix_set else list(sets)
    box = _lonlat_box(chosen)
    pyramids = [_pyramid(sets[s], links[s], box) for s in wanted]
    if not pyramids:
        raise ServiceError(f"layer {name} has no matrix set that the service describes")
    pyramid = best_pyramid(pyramids, bounds, gsd)
    level, size = pyramid.level(bounds, gsd)
    tile = _Tile(root, chosen, endpoint, name, pyramid.name, level.name, form)
    geobox, tile_requests = pyramid.cover(level, bounds, limits, tile.address)
    about = {
        "service": redacted(url),
        "layer": name,
        "matrix_set": pyramid.name,
        "level": level.name,
        "gsd": f"{size:.4g} m",
    }
    credit = layer_credit(
        text(root, "ServiceProvider/ProviderName"),
        text(root, "ServiceIdentification/AccessConstraints"),
    )
    return Plan(geobox, tile_requests, PictureSource(client, sparse=True), credit, about)


class _Tile:
    """Makes the addresses of the tiles of a level."""

    def __init__(
        self,
        root: ET.Element,
        layer: ET.Element,
        endpoint: Endpoint,
        name: str,
        matrix_set: str,
        matrix: str,
        form: str | None,
    ) -> None:
        formats = [" ".join((e.text or "").split()) for e in layer.iterfind("Format")]
        if form is None:
            form = next((f for f in _FORMATS if f in formats), None)
            if form is None:
                raise ServiceError(
                    f"layer {name} comes as {', '.join(formats) or 'nothing'}, not as a picture"
                )
        elif form not in formats:
            raise ServiceError(f"layer {name} has no format {form}", f"it has {', '.join(formats)}")
        styles = list(layer.iterfind("Style"))
        default = [s for s in styles if s.get("isDefault") == "true"]
        style = text(next(iter([*default, *styles]), None), "Identifier")
        resources = {
            e.get("format"): e.get("template")
            for e in layer.iterfind("ResourceURL")
            if e.get("resourceType") == "tile"
        }
        self._values = {"Style": style, "TileMatrixSet": matrix_set, "TileMatrix": matrix}
        values = self._values | _dimensions(layer)
        self._template = resources.get(form)
        if self._template:
            for key, value in values.items():
                self._template = _filled(self._template, key, value)
            return
        self._endpoint = _tile_endpoint(root, endpoint)
        self._params = {
            "SERVICE": "WMTS",
            "REQUEST": "GetTile",
            "VERSION": "1.0.0",
            "LAYER": name,
            "FORMAT": form,
            **{key.upper(): value for key, value in values.items()},
        }

    def address(self, row: int, col: int) -> str:
        """Of the tile in a row and column."""
        if self._template:
            return _filled(_filled(self._template, "TileRow", str(row)), "TileCol", str(col))
        return self._endpoint.url({**self._params, "TILEROW": str(row), "TILECOL": str(col)})


def _filled(template: str, key: str, value: str) -> str:
    """`template` with ``{key}`` replaced; its case does not matter."""
    return re.sub(r"\{" + re.escape(key) + r"\}", lambda _: value, template, flags=re.I)


def _dimensions(layer: ET.Element) -> dict[str, str]:
    """Further dimensions of a layer (a time) at their default values."""
    return {
        text(e, "Identifier"): text(e, "Default") or text(e, "Value")
        for e in layer.iterfind("Dimension")
    }


def _tile_endpoint(root: ET.Element, given: Endpoint) -> Endpoint:
    """What answers GetTile: the given address, or that of the capabilities if it is a document."""
    if not given.is_document:
        return given
    for operation in root.iterfind("OperationsMetadata/Operation"):
        get = operation.find("DCP/HTTP/Get")
        if operation.get("name") == "GetTile" and get is not None and get.get("href"):
            return Endpoint(str(get.get("href")))
    raise ServiceError("the capabilities name no address of tiles", "give that of the service")


def _pyramid(matrix_set: ET.Element, link: ET.Element, box: Bounds | None) -> Pyramid:
    name, code = text(matrix_set, "Identifier"), text(matrix_set, "SupportedCRS")
    crs = parse_crs(code)
    unit = _DEGREE_M if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
    tile_limits = {
        text(e, "TileMatrix"): e for e in link.iterfind("TileMatrixSetLimits/TileMatrixLimits")
    }

    def levels(swap: bool) -> tuple[PyramidLevel, ...]:
        return tuple(
            _level(e, unit, swap, tile_limits.get(text(e, "Identifier")))
            for e in matrix_set.iterfind("TileMatrix")
            if not tile_limits or text(e, "Identifier") in tile_limits
        )

    swap = north_first(crs) and "CRS84" not in code
    try:
        made = levels(swap)
        # Some services write x first all the same; where only that meets the layer, it is meant.
        if swap and box and made and not _meets(made[-1], bounds_in(crs, box)):
            other = levels(False)
            made = other if _meets(other[-1], bounds_in(crs, box)) else made
    except (ValueError, TypeError, OverflowError) as e:
        raise ServiceError(f"the service describes matrix set {name} wrongly: {e}") from e
    if not made:
        raise ServiceError(f"matrix set {name} has no levels for the layer")
    return Pyramid(name, crs, made)


def _level(matrix: ET.Element, unit: float, swap: bool, tiles: ET.Element | None) -> PyramidLevel:
    first, second = (float(v) for v in text(matrix, "TopLeftCorner").split())
    rows, cols = (range(int(text(matrix, f"Matrix{side}"))) for side in ("Height", "Width"))
    if tiles is not None:
        rows, cols = (
            range(int(text(tiles, f"MinTile{axis}")), int(text(tiles, f"MaxTile{axis}")) + 1)
            for axis in ("Row", "Col")
        )
    pixel = float(text(matrix, "ScaleDenominator")) * _PIXEL_M / unit
    tile = int(text(matrix, "TileHeight")), int(text(matrix, "TileWidth"))
    if not (0 < pixel < 1e7 and all(0 < n <= 8192 for n in tile)):
        raise ValueError(f"pixels of {pixel:g}, tiles of {tile[1]} x {tile[0]}")
    origin = (second, first) if swap else (first, second)
    return PyramidLevel(text(matrix, "Identifier"), pixel, origin, tile, rows, cols)


def _meets(level: PyramidLevel, box: Bounds) -> bool:
    left, bottom, right, top = level.extent
    return box[0] < right and box[2] > left and box[1] < top and box[3] > bottom


def _lonlat_box(layer: ET.Element) -> Bounds | None:
    try:
        lower, upper = (
            [float(v) for v in text(layer, f"WGS84BoundingBox/{corner}").split()]
            for corner in ("LowerCorner", "UpperCorner")
        )
        west, south = lower
        east, north = upper
    except ValueError:
        return None
    return (max(west, -180), max(south, -85), min(east, 180), min(north, 85))
