"""Rasterize shapes to class ids, identical for every window."""

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio import features

_QUANTUM = 1024
"""Vertices snap to 1/1024 pixel. Windows then differ by whole pixels in exact arithmetic, so an
edge right through a pixel's centre falls to the same side in each of them."""


def rasterize(shapes: np.ndarray, ids: np.ndarray, source: GeoBox, target: GeoBox) -> np.ndarray:
    """Class ids (h, w) uint8 of `target`; 0 where no shape has the pixel's centre.

    `shapes` (n,) and `ids` (n,) are rasterized in order, later ones on top, with GDAL's rule that a
    pixel belongs to what its centre lies in (``all_touched=False``). `target` is any plane of the
    CRS of `source`; windows of one plane agree bit by bit.
    """
    if not len(shapes):
        return np.zeros(target.shape, np.uint8)
    link = ~target.affine * source.affine
    col, row = round(link.c), round(link.f)
    # What is left of the offset belongs to the plane, not to the window: the same for all of them.
    part = [round((x - n) * _QUANTUM) / _QUANTUM for x, n in ((link.c, col), (link.f, row))]
    to_px = Affine(link.a, link.b, part[0], link.d, link.e, part[1]) * ~source.affine

    def quantised(xy: np.ndarray) -> np.ndarray:
        x = xy[:, 0] * to_px.a + xy[:, 1] * to_px.b + to_px.c
        y = xy[:, 0] * to_px.d + xy[:, 1] * to_px.e + to_px.f
        return np.asarray(np.round(np.column_stack([x, y]) * _QUANTUM) / _QUANTUM)

    pixels = features.rasterize(
        zip(shapely.transform(shapes, quantised), ids.tolist(), strict=True),
        out_shape=target.shape,
        transform=Affine.translation(-col, -row),
        fill=0,
        all_touched=False,
        dtype="uint8",
    )
    return np.asarray(pixels)
