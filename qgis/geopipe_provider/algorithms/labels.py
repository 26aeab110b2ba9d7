"""Check labels, align labels."""

from __future__ import annotations

from ..commands import Command, Parameter
from .shared import (
    AREA,
    BANDS,
    CLASSES,
    GEOPACKAGES,
    MAX_SHIFT,
    MODELS,
    NODATA,
    OVERWRITE,
    SCENE,
)

LABELS = Parameter(
    "LABELS",
    "vector",
    "Labels (empty: OpenStreetMap is fetched)",
    layer_flag="--layer",
    if_empty=("fetch",),
)
MODEL = Parameter(
    "MODEL",
    "file",
    "Model that tells the classes in the image (empty: colours and texture)",
    "--model",
    pattern=MODELS,
    advanced=True,
)
COMMANDS = (
    Command(
        "labels check",
        "Check labels",
        "Labels",
        "Checks how well vector labels fit a scene, tile by tile: their shift, what is missing, "
        "what the image does not show, and their age. Loads the tiles, coloured by status.",
        (
            SCENE,
            LABELS,
            CLASSES,
            Parameter(
                "QC_TILE",
                "number",
                "Side of a tile (m)",
                "--qc-tile",
                default=200.0,
                minimum=50,
                maximum=5000,
            ),
            MAX_SHIFT,
            MODEL,
            AREA,
            BANDS,
            NODATA,
            OVERWRITE,
            Parameter(
                "OUTPUT", "output file", "Check", "--out", required=True, pattern=GEOPACKAGES
            ),
        ),
        loads=("",),
    ),
    Command(
        "labels align",
        "Align labels",
        "Labels",
        "Moves vector labels to where the image shows them, by a smooth displacement field. The "
        "columns stay; shift_east and shift_north tell how far each feature moved.",
        (
            SCENE,
            LABELS,
            CLASSES,
            MAX_SHIFT,
            MODEL,
            AREA,
            BANDS,
            NODATA,
            OVERWRITE,
            Parameter(
                "OUTPUT",
                "output file",
                "Aligned labels",
                "--out",
                required=True,
                pattern=GEOPACKAGES,
            ),
        ),
        loads=("",),
    ),
)
