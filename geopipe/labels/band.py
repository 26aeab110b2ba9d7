"""A band of IGNORE along outlines, where labels that are a little off would teach what is wrong."""

import math
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.grid import ground_gsd
from geopipe.labels.source import LabelSource

MOST_M = 50.0


@dataclass(frozen=True)
class BandedLabels:
    """`labels` but IGNORE within `metres` on the ground of every border between two classes."""

    labels: LabelSource
    metres: float

    def __post_init__(self) -> None:
        if not 0 < self.metres <= MOST_M:
            raise LabelError(
                f"a band of {self.metres:g} m to ignore", f"give more than 0, at most {MOST_M:g} m"
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
        gsd = ground_gsd(geobox)
        reach = math.ceil(self.metres / min(gsd)) + 1
        outer = self.labels.read(geobox.pad(reach, reach))
        ids: np.ndarray = outer[reach:-reach, reach:-reach].copy()
        for class_id in np.unique(outer[outer != IGNORE]):
            others = (outer != class_id) & (outer != IGNORE)
            if not others.any():
                continue
            far = distance_transform_edt(~others, sampling=gsd)[reach:-reach, reach:-reach]
            ids[(ids == class_id) & (far - min(gsd) / 2 <= self.metres)] = IGNORE
        return ids
