"""Label QC by tile: shift, omission and commission."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from scipy import ndimage

from geopipe.grid import Window
from geopipe.labels import Area, VectorLabels
from geopipe.labels.rasterize import rasterize
from geopipe.progress import progress
from geopipe.raster.scene import window_geobox
from geopipe.register.displacement import SHEET_PX, DisplacementField
from geopipe.register.fit import shifted_labels
from geopipe.register.grid import RegistrationGrid
from geopipe.register.likelihood import ClassLikelihood
from geopipe.register.threads import in_order
from geopipe.register.tie_point import TiePoint

NEAR_M = 4.0
"""What is seen this near to a label belongs to it."""
RING_M = 15.0
"""From there up to here the ground around labels is taken to be none of their class."""
TELLS = 0.3
"""Belief that tells labelled ground from the ring around it by less is no evidence."""
_BLUR_M = 2.0
"""Belief is blurred before it is counted: single bright pixels are no buildings."""
_BINS = 64
INCOMPLETE = 0.3
COMMISSION = 0.2
"""Shares from which on a block is called incomplete, or its features doubtful."""


@dataclass(frozen=True)
class QCTile:
    """Labels of one class in one square of the scene."""

    class_id: int
    window: Window
    """On the plane."""
    features: int
    area_m2: float
    """Labelled, on valid pixels."""
    down: float = 0.0
    right: float = 0.0
    """Metres to add to the labels to fit the image: the mean of the believed tie points."""
    error: float = np.nan
    score: float = 0.0
    """Height of the peaks, in deviations of their surfaces."""
    rejected: str = ""
    """Why there is no shift; empty when there is."""
    omission_m2: float = np.nan
    """Of the class by the image, and far from any label; nan: the image does not tell."""
    omission: float = np.nan
    """Share of what should be labelled."""
    commission: int = 0
    """Features on ground that looks less like their class than what is around labels."""
    dates: tuple[str, ...] = field(default=(), repr=False)
    """ISO dates of the features that have one, sorted."""

    @property
    def length(self) -> float:
        """Metres of the shift."""
        return float(np.hypot(self.down, self.right))

    def status(self, pixel: float) -> str:
        """In words for a map: `pixel` is the scene's, in metres; shorter shifts are none."""
        if not self.features:
            return "incomplete" if self.omission_m2 > 100 else "no labels"
        found = []
        if not self.rejected and self.length > max(pixel, 0.5, 2 * self.error):
            found.append("shifted")
        if self.omission > INCOMPLETE:
            found.append("incomplete")
        if self.commission > COMMISSION * self.features:
            found.append("doubtful features")
        return ", ".join(found) or ("no evidence" if self.rejected else "good")


def qc_tile_px(plane: RegistrationGrid, side: float) -> int:
    """Pixels a side of blocks of `side` metres."""
    parts = -(-plane.px(side) // SHEET_PX)
    return round(plane.px(side) / parts) * parts


def qc_tiles(
    plane: RegistrationGrid,
    likelihood: ClassLikelihood,
    shifts: DisplacementField,
    side: float,
    area: Area | None = None,
) -> tuple[QCTile, ...]:
    """The blocks of `side` metres, for each class but the first, where the scene is valid.

    Outside `area`, where nothing is known, no pixel and no feature counts.
    """
    moved = shifted_labels(plane.labels, shifts)
    # Blocks larger than a sheet are counted in parts.
    parts = -(-plane.px(side) // SHEET_PX)
    step = qc_tile_px(plane, side) // parts
    per_sheet = max(1, SHEET_PX // step) * step
    counts: list[_Counted] = []
    sheets = [
        Window(row, col, per_sheet, per_sheet).clip(plane.shape)
        for row in range(0, plane.shape[0], per_sheet)
        for col in range(0, plane.shape[1], per_sheet)
    ]

    def counted(sheet: Window) -> list[_Counted]:
        return list(_counted(plane, likelihood, moved, sheet, step, area))

    with progress("looking for what is missing", len(sheets)) as advance:
        for found in in_order(counted, sheets):
            counts += found
            advance()
    if parts > 1:
        step *= parts
        counts = _joined(counts, step, plane.shape)
    eyes = {k: _Detector.of([c for c in counts if c.class_id == k]) for k in _ids(plane)}
    tie_points = _by_qc_tile(shifts.tie_points, step)
    return tuple(
        _qc_tile(
            c,
            tie_points.get((c.class_id, c.window.row // step, c.window.col // step), []),
            eyes[c.class_id],
            plane.gsd,
        )
        for c in counts
    )


@dataclass(frozen=True)
class _Counted:
    """Pixels of a block by likelihood, (bins,) each."""

    class_id: int
    window: Window
    features: tuple[float, ...]
    """Mean likelihood under each feature whose centre lies in the block."""
    under: np.ndarray
    """Under labels."""
    ring: np.ndarray
    """Between NEAR_M and RING_M from them."""
    far: np.ndarray
    """Farther than NEAR_M."""


@dataclass(frozen=True)
class _Detector:
    """How well likelihood tells a class: shares of pixels from bin `least` on."""

    least: int
    hit: float
    """Under labels."""
    false: float
    """In the ring around them."""
    ground: float
    """Mean likelihood in the ring."""

    @classmethod
    def of(cls, counts: Sequence[_Counted]) -> "_Detector":
        """Of all blocks; the bin is where the two shares differ most (Youden's index)."""
        under, ring = (
            np.sum([np.zeros(_BINS), *(getattr(c, name) for c in counts)], axis=0)
            for name in ("under", "ring")
        )
        hit, false = (x[::-1].cumsum()[::-1] / max(x.sum(), 1) for x in (under, ring))
        least = int((hit - false).argmax())
        middles = (np.arange(_BINS) + 0.5) / _BINS
        ground = float(ring @ middles / max(ring.sum(), 1))
        return cls(least, float(hit[least]), float(false[least]), ground)

    def share(self, far: np.ndarray) -> float:
        """Of pixels with these beliefs, those of the class (Rogan and Gladen 1978); nan: no idea.

        The share that is seen, freed of what is seen where nothing is and of what is not seen.
        """
        if self.hit - self.false < TELLS or not far.sum():
            return np.nan
        seen = far[self.least :].sum() / far.sum()
        return float(np.clip((seen - self.false) / (self.hit - self.false), 0, 1))


def _joined(counts: Sequence[_Counted], step: int, shape: tuple[int, int]) -> list[_Counted]:
    """The counts of whole blocks of `step` pixels, from those of their parts."""
    found: dict[tuple[int, int, int], list[_Counted]] = {}
    for c in counts:
        found.setdefault((c.class_id, c.window.row // step, c.window.col // step), []).append(c)
    return [
        _Counted(
            class_id,
            Window(row * step, col * step, step, step).clip(shape),
            tuple(b for c in some for b in c.features),
            *(np.sum([getattr(c, n) for c in some], axis=0) for n in ("under", "ring", "far")),
        )
        for (class_id, row, col), some in found.items()
    ]


def _ids(plane: RegistrationGrid) -> range:
    return range(1, len(plane.labels.scheme))


def _counted(
    plane: RegistrationGrid,
    likelihood: ClassLikelihood,
    moved: VectorLabels,
    sheet: Window,
    step: int,
    area: Area | None,
) -> Iterator[_Counted]:
    near, ring = plane.px(NEAR_M), plane.px(RING_M)
    outer = sheet.expand(ring + near)
    likely = likelihood.read(outer)
    _, valid = plane.image(outer)
    box = window_geobox(plane.geobox, outer)
    inside = area.inside(box) if area else np.ones(outer.shape, bool)
    valid &= inside
    ids = moved.read(box)
    for class_id in _ids(plane):
        blurred = ndimage.uniform_filter(likely[class_id], 2 * plane.px(_BLUR_M / 2) + 1)
        bins = np.clip((blurred * _BINS).astype(int), 0, _BINS - 1)
        away = _away(ids == class_id)
        under = (ids == class_id) & valid
        far = valid & (away > near)
        beliefs = [
            (r, c, b)
            for r, c, b in _of_features(plane, moved, class_id, sheet, outer, blurred)
            if inside[int(r) - outer.row, int(c) - outer.col]
        ]
        for row in range(sheet.row, sheet.bottom, step):
            for col in range(sheet.col, sheet.right, step):
                window = Window(row, col, step, step).clip(plane.shape)
                part = window.within(outer)
                if not valid[part].any():
                    continue
                mine = tuple(b for r, c, b in beliefs if _holds(window, r, c))
                counted = (
                    np.bincount(bins[part][mask[part]], minlength=_BINS)
                    for mask in (under, far & (away <= ring), far)
                )
                yield _Counted(class_id, window, mine, *counted)


def _away(mask: np.ndarray) -> np.ndarray:
    """(h, w) pixels to the nearest one of `mask`; infinite when there is none."""
    if not mask.any():  # of which SciPy knows nothing
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask))


def _holds(window: Window, row: float, col: float) -> bool:
    return window.row <= row < window.bottom and window.col <= col < window.right


def _of_features(
    plane: RegistrationGrid,
    moved: VectorLabels,
    class_id: int,
    sheet: Window,
    outer: Window,
    seen: np.ndarray,
) -> list[tuple[float, float, float]]:
    """Row and column of the centre and mean likelihood of each feature centred in `sheet`."""
    found = np.sort(moved.index.query(window_geobox(plane.geobox, sheet).extent.geom))
    found = found[moved.ids[found] == class_id]
    out = []
    for at in found:
        shape = moved.shapes[at]
        ((row, col),) = plane.to_px(shapely.get_coordinates(shape.representative_point()))
        if not _holds(sheet, row, col):
            continue
        corners = plane.to_px(shapely.get_coordinates(shape.envelope))
        (r0, c0), (r1, c1) = (
            np.floor(corners.min(0)).astype(int),
            np.ceil(corners.max(0)).astype(int),
        )
        inner = Window(int(r0), int(c0), int(r1 - r0), int(c1 - c0))
        rows = slice(max(inner.row - outer.row, 0), max(inner.bottom - outer.row, 0))
        cols = slice(max(inner.col - outer.col, 0), max(inner.right - outer.col, 0))
        part = seen[rows, cols]
        window = Window(rows.start + outer.row, cols.start + outer.col, *part.shape)
        mask = rasterize(
            np.array([shape], object),
            np.ones(1, np.uint8),
            moved.plane,
            window_geobox(plane.geobox, window),
        )
        out.append((row, col, float(part[mask > 0].mean()) if (mask > 0).any() else np.nan))
    return out


def _qc_tile(counted: _Counted, tie_points: list[TiePoint], eye: _Detector, gsd: float) -> QCTile:
    area = float(counted.under.sum()) * gsd**2
    missing = eye.share(counted.far) * float(counted.far.sum()) * gsd**2
    known = np.array([b for b in counted.features if not np.isnan(b)])
    tells = eye.hit - eye.false >= TELLS
    believed = [n for n in tie_points if not n.rejected]
    block = QCTile(
        counted.class_id,
        counted.window,
        len(counted.features),
        area,
        omission_m2=missing,
        omission=missing / (area + missing) if area + missing > 0 else np.nan,
        commission=int((known < eye.ground).sum()) if tells else 0,
    )
    if not believed:
        reasons = Counter(n.rejected for n in tie_points).most_common(1)
        return replace(block, rejected=reasons[0][0] if reasons else "no feature near")
    sure = 1 / (np.array([n.error for n in believed]) ** 2 + 0.3**2)
    return replace(
        block,
        down=float(np.average([n.down for n in believed], weights=sure)),
        right=float(np.average([n.right for n in believed], weights=sure)),
        error=float(np.mean([n.error for n in believed])),
        score=float(np.mean([n.height for n in believed])),
    )


def _by_qc_tile(
    tie_points: Sequence[TiePoint], step: int
) -> dict[tuple[int, int, int], list[TiePoint]]:
    out: dict[tuple[int, int, int], list[TiePoint]] = {}
    for n in tie_points:
        out.setdefault((n.class_id, int(n.row) // step, int(n.col) // step), []).append(n)
    return out
