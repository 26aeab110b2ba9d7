"""Parameters that several commands have."""

from __future__ import annotations

from ..commands import Parameter

MODELS = "Models (*.safetensors)"
GEOPACKAGES = "GeoPackage (*.gpkg)"
GEOTIFFS = "GeoTIFF (*.tif)"

SCENE = Parameter("SCENE", "raster", "Scene", required=True)
MAP = Parameter("MAP", "raster", "Map (classes.tif)", required=True)
AREA = Parameter("AREA", "vector", "Only inside these polygons", "--area", advanced=True)
BANDS = Parameter(
    "BANDS", "text", "Bands, such as 3,2,1 (empty: red, green, blue)", "--bands", advanced=True
)
NODATA = Parameter(
    "NODATA", "number", "Value of pixels without data, if undeclared", "--nodata", advanced=True
)
DEVICE = Parameter(
    "DEVICE", "text", "Device: auto, cpu or cuda:N", "--device", default="auto", advanced=True
)
OVERWRITE = Parameter(
    "OVERWRITE", "flag", "Replace an output that exists", "--overwrite", default=False
)
CLASSES = Parameter(
    "CLASSES",
    "text",
    "Classes: name of a scheme, or a TOML file",
    "--classes",
    default="buildings-roads",
)
MAX_SHIFT = Parameter(
    "MAX_SHIFT",
    "number",
    "Largest shift of the labels (m)",
    "--max-shift",
    default=8.0,
    minimum=1,
    maximum=30,
    advanced=True,
)
SEED = Parameter(
    "SEED", "integer", "Seed of the random numbers", "--seed", default=0, minimum=0, advanced=True
)
