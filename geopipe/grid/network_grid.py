"""NetworkGrid: the pixel grid a network works on, next to that of the scene."""

import math
from dataclasses import dataclass

from odc.geo.geobox import GeoBox

from geopipe.errors import GridError
from geopipe.grid.ground import ground_gsd
from geopipe.grid.window import Window

_SNAP = 0.01
"""Factors this near (relative) to a whole number are taken as whole: map projections stretch by
less than a percent, and a whole factor is an exact block average."""

FINE_GSD = 0.3
"""Metres at which `suited_gsd` looks at scenes that are fine enough."""


@dataclass(frozen=True, slots=True)
class NetworkGrid:
    """Net pixel (i, j) covers the scene pixels [i fy, (i + 1) fy) x [j fx, (j + 1) fx).

    `factor` = (fy, fx), scene pixels per net pixel, need not be whole. Both planes share their
    upper left corner, so every window below follows from global indices alone and never from the
    tile that asks: that is what makes tiles agree.
    """

    scene_shape: tuple[int, int]
    factor: tuple[float, float]

    @classmethod
    def of(cls, scene: GeoBox, gsd: float) -> "NetworkGrid":
        """The plane of `gsd` metres on the ground over a scene's GeoBox; GridError if absurd."""
        factors = tuple(_snap(gsd / metres) for metres in ground_gsd(scene))
        if not all(1 / 16 <= f <= 256 for f in factors):
            gsd_y, gsd_x = ground_gsd(scene)
            raise GridError(
                f"pixels of {gsd_y:.3g} x {gsd_x:.3g} m cannot serve a net made for {gsd:g} m",
                "use a scene or a model of a nearer ground sample distance",
            )
        return cls((scene.shape[0], scene.shape[1]), (factors[0], factors[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Net pixels down and along: the scene, rounded up."""
        (h, w), (fy, fx) = self.scene_shape, self.factor
        return max(1, math.ceil(h / fy - 1e-9)), max(1, math.ceil(w / fx - 1e-9))

    def geobox(self, scene: GeoBox) -> GeoBox:
        """The net plane as a GeoBox (its last row and column may stick out of the scene)."""
        fy, fx = self.factor
        return GeoBox(self.shape, scene.affine * scene.affine.scale(fx, fy), scene.crs)

    def averaged_from(self, net: Window) -> Window:
        """Scene pixels that net pixels are averaged from; may stick out of the scene."""
        (r0, r1), (c0, c1) = (
            (math.floor(a * f + 1e-9), math.ceil(b * f - 1e-9))
            for a, b, f in zip(
                (net.row, net.col), (net.bottom, net.right), self.factor, strict=True
            )
        )
        return Window(r0, c0, r1 - r0, c1 - c0)

    def interpolated_from(self, scene: Window) -> Window:
        """Net pixels that a bilinear value at each pixel of the scene window depends on."""
        spans = []
        for a, b, f, n in zip(
            (scene.row, scene.col),
            (scene.bottom, scene.right),
            self.factor,
            self.shape,
            strict=True,
        ):
            first = math.floor((a + 0.5) / f - 0.5)
            last = math.floor((b - 0.5) / f - 0.5) + 1
            lo, hi = (min(max(i, 0), n - 1) for i in (first, last))
            spans.append((lo, hi - lo + 1))
        (row, height), (col, width) = spans
        return Window(row, col, height, width)


def suited_gsd(scene: GeoBox) -> float:
    """Ground sample distance, metres, at which a network sees most of a scene for its time.

    Fine scenes are averaged down by the whole factor that comes nearest to FINE_GSD; scenes of at
    least twice FINE_GSD are enlarged twice, for a network halves its plane four times, and a house
    of 8 m is a cell of 8 px. Others keep their pixels.
    """
    own = sum(ground_gsd(scene)) / 2
    if own >= 2 * FINE_GSD:
        return own / 2
    return own * max(1, round(FINE_GSD / own))


def _snap(factor: float) -> float:
    nearest_integer = round(factor)
    return (
        float(nearest_integer)
        if nearest_integer and abs(factor / nearest_integer - 1) < _SNAP
        else factor
    )
