"""Download imagery of web services as scenes."""

from __future__ import annotations

from ..commands import Command, Parameter
from .shared import GEOTIFFS, OVERWRITE

GROUP = "Scenes"
AFTER = (
    " Look at the service's terms of use first. After Cancel, the same run goes on with the tiles "
    "that are there, so choose a file that stays."
)
LAYER = Parameter("LAYER", "text", "Layer (empty: the message names those that there are)")
BOUNDS = Parameter("BOUNDS", "bounds", "Extent", "--bounds", required=True)
GSD = Parameter(
    "GSD",
    "number",
    "Ground sample distance: pixels are not larger, or by a tenth at most (m)",
    "--gsd",
    minimum=0.01,
    required=True,
)
FORMAT = Parameter(
    "FORMAT",
    "text",
    "Format of the images (empty: the best lossless one)",
    "--format",
    advanced=True,
)
SHARED = (
    Parameter(
        "CREDIT", "text", "Whom to name in all maps of it (empty: as the service says)", "--credit"
    ),
    Parameter(
        "RATE",
        "number",
        "Requests per second at most",
        "--rate",
        default=10.0,
        minimum=0.01,
        maximum=100,
        advanced=True,
    ),
    Parameter(
        "MAX_REQUESTS",
        "integer",
        "Refuse a scene that takes more requests than",
        "--max-requests",
        default=10_000,
        minimum=1,
        advanced=True,
    ),
    OVERWRITE,
    Parameter("OUTPUT", "output file", "Scene", "--out", required=True, pattern=GEOTIFFS),
)


def _url(label: str) -> Parameter:
    return Parameter("URL", "text", label, required=True)


COMMANDS = (
    Command(
        "scene wmts",
        "Download a scene (WMTS)",
        GROUP,
        "Downloads the tiles of a WMTS layer as a scene, with the pixels of the level that suits "
        "the ground sample distance. A layer with a * in it is the last one that fits." + AFTER,
        (
            _url("Address of the service, or of the document of its capabilities"),
            LAYER,
            BOUNDS,
            GSD,
            Parameter(
                "MATRIX_SET",
                "text",
                "Matrix set (empty: the best for the ground sample distance)",
                "--matrix-set",
                advanced=True,
            ),
            FORMAT,
            *SHARED,
        ),
        loads=("",),
    ),
    Command(
        "scene wms",
        "Download a scene (WMS)",
        GROUP,
        "Downloads images of a WMS layer as a scene. The service draws them with the ground sample "
        "distance. A layer with a * in it is the last one that fits." + AFTER,
        (
            _url("Address of the service"),
            LAYER,
            BOUNDS,
            GSD,
            Parameter(
                "CRS",
                "text",
                "CRS of the scene, such as EPSG:2154 (empty: the UTM zone)",
                "--crs",
                advanced=True,
            ),
            FORMAT,
            *SHARED,
        ),
        loads=("",),
    ),
    Command(
        "scene xyz",
        "Download a scene (XYZ or TMS)",
        GROUP,
        "Downloads XYZ or TMS tiles as a scene, with the pixels of the zoom level that suits the "
        "ground sample distance. Such services do not say whom to credit: say it." + AFTER,
        (
            _url("Address with {z}, {x} and {y}, or {-y}"),
            BOUNDS,
            GSD,
            Parameter(
                "TMS", "flag", "Rows are counted from the south, as in TMS", "--tms", default=False
            ),
            Parameter(
                "TILE_PX",
                "integer",
                "Pixels a side of a tile",
                "--tile-px",
                default=256,
                minimum=64,
                maximum=4096,
                advanced=True,
            ),
            Parameter(
                "MAX_ZOOM",
                "integer",
                "Last zoom level of the service",
                "--max-zoom",
                default=24,
                minimum=0,
                maximum=24,
                advanced=True,
            ),
            *SHARED,
        ),
        loads=("",),
    ),
    Command(
        "scene arcgis",
        "Download a scene (ArcGIS)",
        GROUP,
        "Downloads images of an ArcGIS image or map service as a scene: the service's own pixels "
        "where they suit the ground sample distance, or the tiles of a cached map." + AFTER,
        (
            _url("Address that ends in /ImageServer or /MapServer"),
            Parameter(
                "LAYER", "text", "Layers of a map service, such as 0,2 (empty: those it shows)"
            ),
            BOUNDS,
            GSD,
            FORMAT,
            *SHARED,
        ),
        loads=("",),
    ),
    Command(
        "scene stac",
        "Download a scene (STAC)",
        GROUP,
        "Searches a STAC API and downloads the newest images of a collection as a scene; older "
        "ones fill what they lack. Give one day to know when the image was taken." + AFTER,
        (
            _url("Address of the STAC API"),
            Parameter("COLLECTION", "text", "Collection", "--collection", required=True),
            BOUNDS,
            Parameter("DATE", "text", "A day, or two with a / between (empty: any time)", "--date"),
            Parameter(
                "ASSET", "text", "Image of an item (empty: visual)", "--asset", advanced=True
            ),
            *SHARED,
        ),
        loads=("",),
    ),
)
