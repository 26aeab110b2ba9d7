"""Map a scene, verify a map."""

from __future__ import annotations

from ..commands import Command, Parameter
from .shared import BANDS, DEVICE, MAP, MODELS, NODATA, OVERWRITE, SCENE

THREADS = Parameter(
    "THREADS",
    "integer",
    "Tiles computed at once (empty: the cores)",
    "--threads",
    minimum=1,
    advanced=True,
)

COMMANDS = (
    Command(
        "map",
        "Map a scene",
        "Maps",
        "Maps a scene with a trained model, or the buildings in it with the starter model. The "
        "folder gets classes.tif with its style, a report, and what the options add. After "
        "Cancel, the same run goes on with the tiles that are done, so choose a folder that stays.",
        (
            SCENE,
            Parameter("MODEL", "file", "Model (empty: the starter model)", pattern=MODELS),
            Parameter("VECTORS", "flag", "Add polygons", "--vectors", default=False),
            Parameter(
                "ORTHOGONALIZE",
                "flag",
                "Give the polygons of buildings right angles",
                "--orthogonalize",
                default=False,
            ),
            Parameter(
                "CONFIDENCE",
                "flag",
                "Add the confidence of each pixel",
                "--confidence",
                default=False,
            ),
            Parameter(
                "SCORES", "flag", "Add the probability of each class", "--scores", default=False
            ),
            Parameter(
                "SKIP_BAD",
                "flag",
                "Leave out tiles that cannot be read",
                "--skip-bad",
                default=False,
                advanced=True,
            ),
            Parameter(
                "RESTART",
                "flag",
                "Drop an unfinished map of other inputs",
                "--restart",
                default=False,
                advanced=True,
            ),
            Parameter(
                "PRECISION",
                "choice",
                "Precision of the networks",
                "--precision",
                default="float32",
                choices=("float32", "tf32", "bfloat16"),
                advanced=True,
            ),
            Parameter(
                "FLIPS",
                "choice",
                "Flips of the image that are averaged",
                "--flips",
                default="1",
                choices=("1", "2", "4"),
                advanced=True,
            ),
            Parameter(
                "TILE_SIZE",
                "integer",
                "Side of a tile (pixels)",
                "--tile-size",
                minimum=1,
                advanced=True,
            ),
            THREADS,
            Parameter("RAM", "text", "Memory it may take, such as 4GB", "--ram", advanced=True),
            BANDS,
            NODATA,
            DEVICE,
            OVERWRITE,
            Parameter("OUTPUT", "output folder", "Folder of the map", "--out", required=True),
        ),
        loads=("classes.tif", "features.gpkg", "confidence.tif", "out_of_domain.gpkg"),
        page="report.html",
    ),
    Command(
        "verify",
        "Verify a map",
        "Maps",
        "Computes random tiles of a map again from the scene and the model that it names, and "
        "compares them. The log says with what chance tampering would have been detected.",
        (
            MAP,
            Parameter("TILES", "integer", "Number of tiles", "--tiles", default=20, minimum=1),
            Parameter("SCENE", "raster", "Scene, if it was moved", "--scene"),
            Parameter("MODEL", "file", "Model, if it was moved", "--model", pattern=MODELS),
            Parameter(
                "SEED",
                "integer",
                "Draw the same tiles as before",
                "--seed",
                minimum=0,
                advanced=True,
            ),
            THREADS,
            Parameter("OUTPUT", "output file", "Figures", None, pattern="JSON (*.json)"),
        ),
        keeps_json=True,
    ),
)
