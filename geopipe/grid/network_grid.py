"""NetworkGrid: the pixel grid a network works on, next to that of the scene."""

from dataclasses import dataclass

from odc.geo.geobox import GeoBox

from geopipe.errors import GridError
from geopipe.grid.anchor import nominal_gsd, pixel_origin
from geopipe.grid.axis import GridAxis
from geopipe.grid.ground import ground_gsd
from geopipe.grid.window import Window

_SNAP = 0.01
"""Factors this near (relative) to a whole number are taken as whole: map projections stretch by
less than a percent, and a whole factor is an exact block average."""

FINE_GSD = 0.3
"""Metres at which `suited_gsd` looks at scenes that are fine enough."""


@dataclass(frozen=True, slots=True)
class NetworkGrid:
    """Pixels of the network over those of a scene.

    Network pixels are counted from the origin of the CRS, so that the same ground gets the same
    pixels whatever the corner of the file: a crop has the scores of the whole image, but near its
    edges. Windows are given from the scene's corner on: network pixel (0, 0) holds the scene's
    first pixel and may begin up to a network pixel before it. With a rotated geotransform the
    count begins at the file's corner instead.

    All windows follow from whole numbers (`axes`) and never from the tile that asks: that is what
    makes tiles agree.
    """

    scene_shape: tuple[int, int]
    factor: tuple[float, float]
    """Scene pixels per network pixel, down and along; need not be whole."""
    origin: tuple[int, int] = (0, 0)
    """Row and column of the scene's first pixel, counted from the anchor."""

    @classmethod
    def of(cls, scene: GeoBox, gsd: float) -> "NetworkGrid":
        """The plane of `gsd` metres on the ground over a scene's GeoBox; GridError if absurd."""
        fy, fx = (_snap(gsd / metres) for metres in nominal_gsd(scene))
        if not all(1 / 16 <= f <= 256 for f in (fy, fx)):
            gsd_y, gsd_x = ground_gsd(scene)
            raise GridError(
                f"pixels of {gsd_y:.3g} x {gsd_x:.3g} m cannot serve a net made for {gsd:g} m",
                "use a scene or a model of a nearer ground sample distance",
            )
        exact = GridAxis.of(fy).factor, GridAxis.of(fx).factor
        return cls((scene.shape[0], scene.shape[1]), exact, pixel_origin(scene))

    @property
    def axes(self) -> tuple[GridAxis, GridAxis]:
        """Down and along."""
        (fy, fx), (row, col) = self.factor, self.origin
        return GridAxis.of(fy, row), GridAxis.of(fx, col)

    @property
    def first(self) -> tuple[int, int]:
        """Row and column of network pixel (0, 0), counted from the anchor."""
        rows, cols = self.axes
        return self.origin[0] * rows.q // rows.p, self.origin[1] * cols.q // cols.p

    @property
    def shape(self) -> tuple[int, int]:
        """Network pixels down and along that the scene lies under, in whole or in part."""
        rows, cols = self.axes
        return rows.count(self.scene_shape[0]), cols.count(self.scene_shape[1])

    def geobox(self, scene: GeoBox) -> GeoBox:
        """The plane as a GeoBox (its outermost rows and columns may stick out of the scene)."""
        rows, cols = self.axes
        affine = scene.affine * scene.affine.translation(cols.start, rows.start)
        return GeoBox(self.shape, affine * scene.affine.scale(cols.factor, rows.factor), scene.crs)

    def snap(self, net: Window, stride: int) -> Window:
        """The smallest window that holds `net` and whose sides are on multiples of `stride`.

        Counted from the anchor: a network that steps by `stride` takes the same steps on the same
        ground in every file.
        """
        row, col = (first % stride for first in self.first)
        snapped = Window(net.row + row, net.col + col, *net.shape).snap(stride)
        return Window(snapped.row - row, snapped.col - col, *snapped.shape)

    def averaged_from(self, net: Window) -> Window:
        """Scene pixels that net pixels are averaged from; may stick out of the scene."""
        rows, cols = self.axes
        (r0, r1), (c0, c1) = (
            rows.averaged_from(net.row, net.bottom),
            cols.averaged_from(net.col, net.right),
        )
        return Window(r0, c0, r1 - r0, c1 - c0)

    def interpolated_from(self, scene: Window) -> Window:
        """Net pixels that a bilinear value at each pixel of the scene window depends on."""
        spans = []
        for axis, a, b, n in zip(
            self.axes,
            (scene.row, scene.col),
            (scene.bottom, scene.right),
            self.shape,
            strict=True,
        ):
            first, last = axis.interpolated_from(a), axis.interpolated_from(b - 1) + 1
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
    """`factor`, or the whole number or the unit fraction (1/2, 1/3...) that it nearly is."""
    exact = float(round(factor)) if factor >= 1 else 1 / round(1 / factor)
    return exact if abs(factor / exact - 1) < _SNAP else factor
