"""Compare a map with ground truth; accuracy by sample points."""

from __future__ import annotations

from dataclasses import replace

from ..commands import Command, Parameter
from .shared import AREA, CLASSES, GEOPACKAGES, MAP, OVERWRITE, SEED

GROUP = "Accuracy"
OWN_CLASSES = replace(
    CLASSES, label="Classes (empty: the names in the map)", default=None, advanced=True
)
COMMANDS = (
    Command(
        "evaluate",
        "Compare a map with ground truth",
        GROUP,
        "Overall accuracy, IoU, F1, user's and producer's accuracy of a map against a raster of "
        "class ids or vectors. The figures are in the log and in the JSON file.",
        (
            MAP,
            Parameter("TRUTH", "layer", "Ground truth", required=True, layer_flag="--layer"),
            OWN_CLASSES,
            AREA,
            Parameter("OUTPUT", "output file", "Figures", None, pattern="JSON (*.json)"),
        ),
        keeps_json=True,
    ),
    Command(
        "assess plan",
        "Accuracy points",
        GROUP,
        "Draws random sample points in each class of a map. Choose the truth of each point in the "
        "loaded layer, save it, then run 'Accuracy report'.",
        (
            MAP,
            Parameter(
                "PER_CLASS",
                "integer",
                "Points in each class (empty: as many as it takes)",
                "--per-class",
                minimum=1,
            ),
            Parameter(
                "TARGET_CI",
                "number",
                "Or the half width of the 95 % interval, such as 0.02",
                "--target-ci",
                minimum=0,
                maximum=1,
            ),
            Parameter(
                "MINIMUM",
                "integer",
                "Then the least number of points in a class",
                "--minimum",
                default=50,
                minimum=1,
                advanced=True,
            ),
            Parameter(
                "EXPECT",
                "texts",
                "Expected user's accuracies, such as building=0.8",
                "--expect",
                advanced=True,
            ),
            SEED,
            AREA,
            OWN_CLASSES,
            OVERWRITE,
            Parameter(
                "OUTPUT", "output file", "Points", "--out", required=True, pattern=GEOPACKAGES
            ),
        ),
        loads=("",),
    ),
    Command(
        "assess report",
        "Accuracy report",
        GROUP,
        "Estimates accuracies and class areas with 95 % intervals from the points of 'Accuracy "
        "points' whose field truth is filled in and saved.",
        (
            MAP,
            Parameter("POINTS", "vector", "Points", required=True),
            Parameter(
                "KEEP_MOVED",
                "flag",
                "Use points that were moved to another pixel",
                "--keep-moved",
                default=False,
                advanced=True,
            ),
            OVERWRITE,
            Parameter(
                "OUTPUT", "output file", "Report", "--out", required=True, pattern="Markdown (*.md)"
            ),
        ),
    ),
)
