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
from geopipe.register.displacement import BLOCK_PX, DisplacementField
from geopipe.register.fit import shifted_labels
from geopipe.register.grid import RegistrationGrid
from geopipe.register.likelihood import ClassLikelihood
from geopipe.register.omission import Omission, Spots, find_omission, find_spots
from geopipe.register.threads import in_order
from geopipe.register.tie_point import TiePoint

LABEL_MARGIN_M = 4.0
"""What is seen this near to a label belongs to it."""
RING_RADIUS_M = 15.0
"""From there up to here the ground around labels is taken to be none of their class."""
MIN_SEPARATION = 0.3
"""Belief that tells labelled ground from the ring around it by less is no evidence."""
_BLUR_M = 2.0
"""Belief is blurred before it is counted: single bright pixels are no buildings."""
_BINS = 64
OMISSION = 0.3
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
    """Metres to add to the labels to fit the image: the mean of the accepted tie points."""
    error: float = np.nan
    score: float = 0.0
    """Height of the peaks, in deviations of their surfaces."""
    rejected: str = ""
    """Why there is no shift; empty when there is."""
    omission_m2: float = np.nan
    """Of objects that the image shows and the labels lack; nan: not known."""
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
        labels = []
        if not self.rejected and self.length > max(pixel, 0.5, 2 * self.error):
            labels.append("shifted")
        if self.omission > OMISSION:
            labels.append("incomplete")
        if self.commission > COMMISSION * self.features:
            labels.append("doubtful features")
        return ", ".join(labels) or ("no evidence" if self.rejected else "good")


def qc_tile_px(grid: RegistrationGrid, side: float) -> int:
    """Pixels a side of blocks of `side` metres."""
    parts = -(-grid.px(side) // BLOCK_PX)
    return round(grid.px(side) / parts) * parts


@dataclass(frozen=True)
class QCResult:
    """What is known of the labels, tile by tile and object by object."""

    tiles: tuple[QCTile, ...]
    omissions: tuple[Omission, ...]
    """Of each class from the second on; those of lines are not known."""
    likelihoods: dict[int, float]
    """Index of a shape of the labels -> mean likelihood of its class under it."""
    ground: tuple[float, ...]
    """Mean likelihood of each class around its labels, nan where that is no evidence."""


def examine(
    grid: RegistrationGrid,
    likelihood: ClassLikelihood,
    shifts: DisplacementField,
    side: float,
    area: Area | None = None,
) -> QCResult:
    """Tiles of `side` metres, for each class but the first, where the scene is valid, and objects.

    Outside `area`, where nothing is known, no pixel and no feature counts.
    """
    shifted = shifted_labels(grid.labels, shifts)
    # Blocks larger than a sheet are counted in parts.
    parts = -(-grid.px(side) // BLOCK_PX)
    step = qc_tile_px(grid, side) // parts
    per_sheet = max(1, BLOCK_PX // step) * step
    likelihood_counts: list[_LikelihoodCounts] = []
    spots: dict[int, list[tuple[Spots, ...]]] = {k: [] for k in _ids(grid)}
    blocks = [
        Window(row, col, per_sheet, per_sheet).clip(grid.shape)
        for row in range(0, grid.shape[0], per_sheet)
        for col in range(0, grid.shape[1], per_sheet)
    ]

    def counted(block: Window) -> "_Sheet":
        return _count_likelihoods(grid, likelihood, shifted, block, step, area)

    with progress("looking for what is missing", len(blocks)) as advance:
        for sheet in in_order(counted, blocks):
            likelihood_counts += sheet.counts
            for class_id, of_sheet in sheet.spots.items():
                spots[class_id].append(of_sheet)
            advance()
    if parts > 1:
        step *= parts
        likelihood_counts = _joined(likelihood_counts, step, grid.shape)
    detectors = {
        k: _Detector.of([c for c in likelihood_counts if c.class_id == k]) for k in _ids(grid)
    }
    omissions = {
        k: find_omission(k, spots[k]) if spots[k] else Omission((), np.nan) for k in _ids(grid)
    }
    tie_points = _by_qc_tile(shifts.tie_points, step)
    tiles = tuple(
        _qc_tile(
            c,
            tie_points.get((c.class_id, c.window.row // step, c.window.col // step), []),
            detectors[c.class_id],
            omissions[c.class_id],
            grid.gsd,
        )
        for c in likelihood_counts
    )
    return QCResult(
        tiles,
        tuple(omissions.values()),
        {i: b for c in likelihood_counts for i, b in c.features},
        (np.nan, *(d.ground if d.is_reliable else np.nan for d in detectors.values())),
    )


@dataclass(frozen=True)
class _Sheet:
    """What is counted in a sheet."""

    counts: list["_LikelihoodCounts"]
    spots: dict[int, tuple[Spots, ...]]
    """Of the classes whose objects are areas."""


@dataclass(frozen=True)
class _LikelihoodCounts:
    """Pixels of a block by likelihood, (bins,) each."""

    class_id: int
    window: Window
    features: tuple[tuple[int, float], ...]
    """Index and mean likelihood of each feature whose centre lies in the block."""
    under: np.ndarray
    """Under labels."""
    ring: np.ndarray
    """Between LABEL_MARGIN_M and RING_RADIUS_M from them."""


@dataclass(frozen=True)
class _Detector:
    """How well likelihood tells a class: shares of pixels from bin `threshold_bin` on."""

    threshold_bin: int
    hit_rate: float
    """Under labels."""
    false_alarm_rate: float
    """In the ring around them."""
    ground: float
    """Mean likelihood in the ring."""

    @classmethod
    def of(cls, counts: Sequence[_LikelihoodCounts]) -> "_Detector":
        """Of all blocks; the bin is where the two shares differ most (Youden's index)."""
        under, ring = (
            np.sum([np.zeros(_BINS), *(getattr(c, name) for c in counts)], axis=0)
            for name in ("under", "ring")
        )
        hit_rates, false_alarm_rates = (
            x[::-1].cumsum()[::-1] / max(x.sum(), 1) for x in (under, ring)
        )
        threshold_bin = int((hit_rates - false_alarm_rates).argmax())
        bin_centers = (np.arange(_BINS) + 0.5) / _BINS
        ground = float(ring @ bin_centers / max(ring.sum(), 1))
        return cls(
            threshold_bin,
            float(hit_rates[threshold_bin]),
            float(false_alarm_rates[threshold_bin]),
            ground,
        )

    @property
    def is_reliable(self) -> bool:
        """Whether it tells labelled ground from the ring around it."""
        return self.hit_rate - self.false_alarm_rate >= MIN_SEPARATION


def _joined(
    counts: Sequence[_LikelihoodCounts], step: int, shape: tuple[int, int]
) -> list[_LikelihoodCounts]:
    """The counts of whole blocks of `step` pixels, from those of their parts."""
    groups: dict[tuple[int, int, int], list[_LikelihoodCounts]] = {}
    for c in counts:
        groups.setdefault((c.class_id, c.window.row // step, c.window.col // step), []).append(c)
    return [
        _LikelihoodCounts(
            class_id,
            Window(row * step, col * step, step, step).clip(shape),
            tuple(b for c in members for b in c.features),
            *(np.sum([getattr(c, n) for c in members], axis=0) for n in ("under", "ring")),
        )
        for (class_id, row, col), members in groups.items()
    ]


def _ids(grid: RegistrationGrid) -> range:
    return range(1, len(grid.labels.scheme))


def _of_areas(grid: RegistrationGrid, class_id: int) -> bool:
    """Whether objects of the class are areas one by one, and not parts of lines."""
    rules = grid.labels.scheme.classes[class_id].rules
    return not any(rule.geometry == "line" for rule in rules)


def _count_likelihoods(
    grid: RegistrationGrid,
    likelihood: ClassLikelihood,
    labels: VectorLabels,
    block: Window,
    step: int,
    area: Area | None,
) -> _Sheet:
    near_px, ring = grid.px(LABEL_MARGIN_M), grid.px(RING_RADIUS_M)
    outer = block.expand(ring + near_px)
    likelihoods = likelihood.read(outer)
    _, valid = grid.image(outer)
    box = window_geobox(grid.geobox, outer)
    inside = area.inside(box) if area else np.ones(outer.shape, bool)
    valid &= inside
    ids = labels.read(box)
    counts: list[_LikelihoodCounts] = []
    spots: dict[int, tuple[Spots, ...]] = {}
    for class_id in _ids(grid):
        blurred = ndimage.uniform_filter(likelihoods[class_id], 2 * grid.px(_BLUR_M / 2) + 1)
        bins = np.clip((blurred * _BINS).astype(int), 0, _BINS - 1)
        distance = _distance_to(ids == class_id)
        under = (ids == class_id) & valid
        around = valid & (distance > near_px) & (distance <= ring)
        feature_means = [
            (r, c, i, b)
            for r, c, i, b in _feature_likelihoods(grid, labels, class_id, block, outer, blurred)
            if inside[int(r) - outer.row, int(c) - outer.col]
        ]
        for window in _tiles(block, step, grid.shape):
            part = window.within(outer)
            if not valid[part].any():
                continue
            in_tile = tuple((i, b) for r, c, i, b in feature_means if _contains(window, r, c))
            histograms = (
                np.bincount(bins[part][mask[part]], minlength=_BINS) for mask in (under, around)
            )
            counts.append(_LikelihoodCounts(class_id, window, in_tile, *histograms))
        if _of_areas(grid, class_id):
            spots[class_id] = find_spots(
                grid, likelihoods[class_id], valid, ids == class_id, block, outer
            )
    return _Sheet(counts, spots)


def _tiles(block: Window, step: int, shape: tuple[int, int]) -> Iterator[Window]:
    for row in range(block.row, block.bottom, step):
        for col in range(block.col, block.right, step):
            yield Window(row, col, step, step).clip(shape)


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """(h, w) pixels to the nearest one of `mask`; infinite when there is none."""
    if not mask.any():  # of which SciPy knows nothing
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask))


def _contains(window: Window, row: float, col: float) -> bool:
    return window.row <= row < window.bottom and window.col <= col < window.right


def _feature_likelihoods(
    grid: RegistrationGrid,
    labels: VectorLabels,
    class_id: int,
    block: Window,
    outer: Window,
    likelihood: np.ndarray,
) -> list[tuple[float, float, int, float]]:
    """Row and column of the centre, index and mean likelihood of each feature in `block`."""
    indices = np.sort(labels.index.query(window_geobox(grid.geobox, block).extent.geom))
    indices = indices[labels.ids[indices] == class_id]
    out = []
    for index in indices:
        shape = labels.shapes[index]
        ((row, col),) = grid.to_px(shapely.get_coordinates(shape.representative_point()))
        if not _contains(block, row, col):
            continue
        corners = grid.to_px(shapely.get_coordinates(shape.envelope))
        (r0, c0), (r1, c1) = (
            np.floor(corners.min(0)).astype(int),
            np.ceil(corners.max(0)).astype(int),
        )
        inner = Window(int(r0), int(c0), int(r1 - r0), int(c1 - c0))
        rows = slice(max(inner.row - outer.row, 0), max(inner.bottom - outer.row, 0))
        cols = slice(max(inner.col - outer.col, 0), max(inner.right - outer.col, 0))
        part = likelihood[rows, cols]
        window = Window(rows.start + outer.row, cols.start + outer.col, *part.shape)
        mask = rasterize(
            np.array([shape], object),
            np.ones(1, np.uint8),
            labels.geobox,
            window_geobox(grid.geobox, window),
        )
        mean = float(part[mask > 0].mean()) if (mask > 0).any() else np.nan
        out.append((row, col, int(index), mean))
    return out


def _qc_tile(
    counted: _LikelihoodCounts,
    tie_points: list[TiePoint],
    detector: _Detector,
    omission_of_class: Omission,
    gsd: float,
) -> QCTile:
    area = float(counted.under.sum()) * gsd**2
    omission = np.nan
    if not np.isnan(omission_of_class.expected):
        here = [
            s.area_m2 for s in omission_of_class.spots if _contains(counted.window, s.row, s.col)
        ]
        omission = omission_of_class.weight * sum(here)
    finite = np.array([b for _, b in counted.features if not np.isnan(b)])
    accepted = [n for n in tie_points if not n.rejected]
    block = QCTile(
        counted.class_id,
        counted.window,
        len(counted.features),
        area,
        omission_m2=omission,
        omission=omission / (area + omission) if area + omission > 0 else np.nan,
        commission=int((finite < detector.ground).sum()) if detector.is_reliable else 0,
    )
    if not accepted:
        reasons = Counter(n.rejected for n in tie_points).most_common(1)
        return replace(block, rejected=reasons[0][0] if reasons else "no feature near")
    weights = 1 / (np.array([n.error for n in accepted]) ** 2 + 0.3**2)
    return replace(
        block,
        down=float(np.average([n.down for n in accepted], weights=weights)),
        right=float(np.average([n.right for n in accepted], weights=weights)),
        error=float(np.mean([n.error for n in accepted])),
        score=float(np.mean([n.height for n in accepted])),
    )


def _by_qc_tile(
    tie_points: Sequence[TiePoint], step: int
) -> dict[tuple[int, int, int], list[TiePoint]]:
    out: dict[tuple[int, int, int], list[TiePoint]] = {}
    for n in tie_points:
        out.setdefault((n.class_id, int(n.row) // step, int(n.col) // step), []).append(n)
    return out
