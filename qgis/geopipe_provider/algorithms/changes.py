"""Compare a map with OpenStreetMap, or with a map of another date."""

from __future__ import annotations

from dataclasses import replace

from ..commands import Command, Parameter
from .shared import AREA, CLASSES, GEOPACKAGES, MAX_SHIFT, OVERWRITE

COMMANDS = (
    Command(
        "compare",
        "Compare with OpenStreetMap",
        "Maps",
        "Says of each building and road of a map and of OpenStreetMap whether both agree, whether "
        "it is moved or has changed shape, or whether only one side has it. Loads the changes, "
        "coloured by status. Instead of OpenStreetMap, a map of an earlier date serves too.",
        (
            Parameter(
                "MAP", "layer", "Map (classes.tif, features.gpkg, or road lines)", required=True
            ),
            Parameter(
                "OSM",
                "layer",
                "OpenStreetMap, or an older map",
                required=True,
                layer_flag="--layer",
            ),
            CLASSES,
            Parameter(
                "FDR",
                "number",
                "Highest expected share of wrong ones among what is only in the image",
                "--fdr",
                default=0.1,
                minimum=0.001,
                maximum=1,
            ),
            Parameter("TRUTH", "vector", "True buildings of a part of the map", "--truth"),
            Parameter(
                "TRUTH_AREA",
                "vector",
                "Polygons in which they are complete (empty: the box around them)",
                "--truth-area",
                advanced=True,
            ),
            Parameter(
                "ALIGN",
                "flag",
                "Align OpenStreetMap to the map first",
                "--align",
                default=True,
                off_flag="--no-align",
            ),
            replace(MAX_SHIFT, label="Largest shift of OpenStreetMap (m)"),
            AREA,
            Parameter("JOSM", "output file", "Changes for JOSM", "--josm", pattern="OSM (*.osm)"),
            OVERWRITE,
            Parameter(
                "OUTPUT", "output file", "Changes", "--out", required=True, pattern=GEOPACKAGES
            ),
        ),
        loads=("",),
    ),
)
