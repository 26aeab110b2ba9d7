"""The probability that a map gives to places where only the reference has an object."""

from contextlib import ExitStack

import numpy as np
import shapely
from pyproj import CRS
from rasterio.features import rasterize

from geopipe.changes.objects import Plane, Side
from geopipe.errors import ConfigError, SceneError
from geopipe.grid import Window
from geopipe.labels.extent import reproject
from geopipe.raster.cog import read_scheme
from geopipe.raster.scene import opened
from geopipe.vectors.probability import open_probability

_LINE_M = 2.0
"""Half the width of a road line where its probability is looked up."""


def mean_scores(side: Side, shapes: np.ndarray, plane: Plane, class_name: str) -> np.ndarray:
    """Mean probability (n,) of the class under each of `shapes` (n,) of the plane.

    NaN where the map has no scores beside it or does not reach.
    """
    result = np.full(len(shapes), np.nan)
    class_map = side.path if side.path.suffix == ".tif" else side.path.with_name("classes.tif")
    if side.scores is None or not class_map.is_file() or not len(shapes):
        return result
    scheme = read_scheme(class_map)
    if scheme is None or class_name not in scheme.names:
        return result
    with ExitStack() as stack:
        src = stack.enter_context(opened(class_map))
        try:
            probability = stack.enter_context(
                open_probability(side.scores, src, class_name, scheme.id_of(class_name))
            )
        except (SceneError, ConfigError):
            return result
        drawn = shapely.buffer(shapes, _LINE_M) if shapes[0].geom_type == "LineString" else shapes
        there = reproject(drawn, plane.crs, CRS.from_wkt(src.crs.to_wkt()))
        to_px = ~src.transform
        pixels = shapely.transform(
            there,
            lambda xy: np.column_stack(
                [
                    xy[:, 0] * to_px.a + xy[:, 1] * to_px.b + to_px.c,
                    xy[:, 0] * to_px.d + xy[:, 1] * to_px.e + to_px.f,
                ]
            ),
        )
        for i, (shape, bounds) in enumerate(zip(pixels, shapely.bounds(pixels), strict=True)):
            left, top = np.floor(bounds[:2]).astype(int)
            right, bottom = np.ceil(bounds[2:]).astype(int)
            window = Window(int(top), int(left), int(bottom - top), int(right - left))
            window = window.clip(src.shape)
            if not (window.height and window.width):
                continue
            moved = shapely.transform(shape, lambda xy, w=window: xy - (w.col, w.row))  # type: ignore[misc]
            inside = rasterize([moved], window.shape, dtype="uint8").astype(bool)
            values = probability.read(window)[inside]
            values = values[np.isfinite(values)]
            if len(values):
                result[i] = float(values.mean())
    return result
