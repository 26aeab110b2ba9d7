"""Reliability of the probabilities of a map, window by window."""

from contextlib import ExitStack
from pathlib import Path

from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE, ClassScheme
from geopipe.evaluation.assess.pixels import windows
from geopipe.labels import RasterLabels
from geopipe.raster.cog import SCORE_STEPS
from geopipe.raster.scene import opened, window_geobox
from geopipe.reliability import Reliability, reliability_sums

_SIDE = 2048
"""Pixels a side of what is read at once, about."""


def map_reliability(
    class_map: Path, confidence: Path, truth: Path, scheme: ClassScheme
) -> Reliability:
    """Of a class map and the probability of its classes (x SCORE_STEPS), on one grid.

    Compared with the label raster `truth` window by window; pixels without a label or a value are
    left out.
    """
    parts = []
    with ExitStack() as stack:
        ids_src, confidence_src = (stack.enter_context(opened(p)) for p in (class_map, confidence))
        labels = RasterLabels.open(truth, scheme)
        geobox = GeoBox(ids_src.shape, ids_src.transform, ids_src.crs)
        for window in windows(ids_src, _SIDE):
            rio = RioWindow(window.col, window.row, window.width, window.height)
            ids, levels = (src.read(1, window=rio) for src in (ids_src, confidence_src))
            expected = labels.read(window_geobox(geobox, window))
            known = (expected != IGNORE) & (ids != IGNORE) & (levels != IGNORE)
            parts.append(
                reliability_sums(levels[known] / SCORE_STEPS, ids[known] == expected[known])
            )
    return Reliability.summed(parts)
