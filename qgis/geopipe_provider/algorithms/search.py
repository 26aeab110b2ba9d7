"""Build an index of chips and search it for similar places."""

from __future__ import annotations

from ..commands import Command, Parameter
from .shared import BANDS, DEVICE, GEOPACKAGES, NODATA, OVERWRITE

GROUP = "Search"
LONLAT = ("--box-crs=lonlat",)
COMMANDS = (
    Command(
        "index build",
        "Index a scene",
        GROUP,
        "Cuts a scene into chips and builds an index to search in; an index that exists gets the "
        "chips of this scene too. After Cancel, the same run goes on.",
        (
            Parameter("SCENE", "raster", "Scene", required=True),
            Parameter("SIZE", "number", "Side of a chip (m)", "--size", default=64.0, minimum=1),
            Parameter(
                "STEP",
                "number",
                "Distance between chips (m; empty: half a side)",
                "--step",
                minimum=0.1,
            ),
            BANDS,
            NODATA,
            DEVICE,
            Parameter("OUTPUT", "output folder", "Index", "--out", required=True),
        ),
    ),
    Command(
        "index query",
        "Search similar places",
        GROUP,
        "Finds the chips of an index that look most like a place: click a point, draw an extent, "
        "or give an image. Give the numbers of good and bad hits to search again.",
        (
            Parameter("INDEX", "folder", "Index", required=True),
            Parameter("IMAGE", "file", "Image, instead of a place"),
            Parameter(
                "POINT", "point", "Place: a point", "--box", companions=LONLAT, side_of="SIDE"
            ),
            Parameter(
                "SIDE",
                "number",
                "Side of the box around the point (m)",
                None,
                default=64.0,
                minimum=1,
            ),
            Parameter("EXTENT", "extent", "Or an extent", "--box", companions=LONLAT),
            Parameter(
                "LIKE", "texts", "More like these chips, such as 12,40", "--like", advanced=True
            ),
            Parameter("UNLIKE", "texts", "Less like these chips", "--unlike", advanced=True),
            Parameter("K", "integer", "Number of hits", "-k", default=20, minimum=1),
            Parameter(
                "OVERLAP",
                "number",
                "Largest share by which hits may overlap",
                "--overlap",
                default=0.3,
                minimum=0,
                maximum=1,
                advanced=True,
            ),
            Parameter(
                "EXACT",
                "flag",
                "Compare all chips, without approximate search",
                "--exact",
                default=False,
                advanced=True,
            ),
            DEVICE,
            OVERWRITE,
            Parameter("OUTPUT", "output file", "Hits", "--out", required=True, pattern=GEOPACKAGES),
        ),
        loads=("",),
    ),
)
