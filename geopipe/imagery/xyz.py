"""XYZ and TMS tiles: Web Mercator, addresses made from a template."""

import math
import re

from pyproj import CRS

from geopipe.errors import ConfigError
from geopipe.imagery.pictures import PictureSource
from geopipe.imagery.plan import Bounds, DownloadLimits, Plan
from geopipe.imagery.pyramid import Pyramid, PyramidLevel
from geopipe.web import Client, redacted

WEB_MERCATOR = CRS.from_epsg(3857)
_HALF = math.pi * 6378137.0
"""Metres from the centre of Web Mercator to its edge."""
_DEEPEST = 24


def web_mercator(tile_px: int = 256, deepest: int = _DEEPEST) -> Pyramid:
    """The pyramid of XYZ tiles: level z has 2^z x 2^z tiles."""
    levels = [
        PyramidLevel(
            str(z),
            2 * _HALF / (tile_px << z),
            (-_HALF, _HALF),
            (tile_px, tile_px),
            range(1 << z),
            range(1 << z),
        )
        for z in range(deepest + 1)
    ]
    return Pyramid("Web Mercator", WEB_MERCATOR, tuple(levels))


def plan_xyz(
    client: Client,
    template: str,
    bounds: Bounds,
    gsd: float,
    limits: DownloadLimits,
    *,
    tms: bool = False,
    tile_px: int = 256,
    deepest: int = _DEEPEST,
) -> Plan:
    """The tiles of a template with ``{z}``, ``{x}`` and ``{y}`` (or ``{-y}``) within `bounds`.

    Args:
        client: Asks the service.
        template: An address such as ``https://host/{z}/{x}/{y}.png``.
        bounds: West, south, east, north in degrees.
        gsd: Metres on the ground that pixels may be large.
        limits: How much may be asked for.
        tms: Rows are counted from the south, as ``{-y}`` says too.
        tile_px: Pixels a side of a tile.
        deepest: The last level that the service has.

    Raises:
        ConfigError: The template lacks a part, or there is too much to download.
    """
    missing = [k for k in ("{z}", "{x}") if k not in template]
    if missing or not re.search(r"\{-?y\}", template):
        raise ConfigError(
            f"the address {redacted(template)} has no {' and '.join(missing or ['{y}'])}",
            "give one such as https://host/{z}/{x}/{y}.png",
        )
    pyramid = web_mercator(tile_px, deepest)
    level, size = pyramid.level(bounds, gsd)
    last = level.rows.stop - 1

    def address(row: int, col: int) -> str:
        y = last - row if tms else row
        filled = template.replace("{z}", level.name).replace("{x}", str(col))
        return filled.replace("{y}", str(y)).replace("{-y}", str(last - row))

    geobox, tile_requests = pyramid.cover(level, bounds, limits, address)
    about = {"service": redacted(template), "level": level.name, "gsd": f"{size:.4g} m"}
    return Plan(geobox, tile_requests, PictureSource(client, sparse=True), "", about)
