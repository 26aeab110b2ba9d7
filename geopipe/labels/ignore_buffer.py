"""A buffer of IGNORE along outlines, where shifted labels would teach wrong classes."""

import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.grid import ground_gsd
from geopipe.labels.source import LabelSource

MAX_BUFFER_M = 50.0


@dataclass(frozen=True)
class IgnoreBufferLabels:
    """`labels` but IGNORE within `metres` on the ground of every border between two classes."""

    labels: LabelSource
    metres: float
    geobox: GeoBox | None = None
    """The scene's pixels, whose size on the ground counts in all its windows, so that they agree;
    without it each window has its own (in Web Mercator it changes with the latitude)."""

    def __post_init__(self) -> None:
        if not 0 < self.metres <= MAX_BUFFER_M:
            raise LabelError(
                f"a band of {self.metres:g} m to ignore",
                f"give more than 0, at most {MAX_BUFFER_M:g} m",
            )

    @property
    def scheme(self) -> ClassScheme:
        """The classes that the ids stand for."""
        return self.labels.scheme

    @property
    def credit(self) -> str:
        """Whom to name in everything made from the labels."""
        return self.labels.credit

    @property
    def skipped(self) -> tuple[tuple[str, int], ...]:
        """What was left out of the labels, and why."""
        return getattr(self.labels, "skipped", ())

    def read(self, geobox: GeoBox) -> np.ndarray:
        """Class ids (h, w) uint8; a border lies half way between pixels of unlike class.

        It is looked for beyond the plane as well, so windows agree. Next to IGNORE is no border.
        """
        gsd = self._gsd(geobox)
        margin = math.ceil(self.metres / min(gsd)) + 1
        outer = self.labels.read(geobox.pad(margin, margin))
        ids: np.ndarray = outer[margin:-margin, margin:-margin].copy()
        for class_id in np.unique(outer[outer != IGNORE]):
            others = (outer != class_id) & (outer != IGNORE)
            if not others.any():
                continue
            distance = distance_transform_edt(~others, sampling=gsd)[margin:-margin, margin:-margin]
            ids[(ids == class_id) & (distance - min(gsd) / 2 <= self.metres)] = IGNORE
        return ids

    def _gsd(self, geobox: GeoBox) -> tuple[float, float]:
        """Metres down and along a pixel of `geobox`, where the middle of `geobox` is."""
        own_geobox = self.geobox
        if own_geobox is None or own_geobox.crs != geobox.crs:
            return ground_gsd(geobox)
        height, width = own_geobox.shape
        x, y = own_geobox.affine * (width / 2, height / 2)
        a = geobox.affine
        # One pixel like those of `geobox`, around that place.
        col, row = -0.5, -0.5
        left, top = x + col * a.a + row * a.b, y + col * a.d + row * a.e
        return ground_gsd(GeoBox((1, 1), Affine(a.a, a.b, left, a.d, a.e, top), geobox.crs))
