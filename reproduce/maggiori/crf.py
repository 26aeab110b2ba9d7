"""CNN+CRF: the base network sharpened by a fully connected CRF, as in the paper's comparison.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials",
NIPS 2011, used as DeepLab does (Chen et al., ICLR 2015, section 4): unary = -log of the net's
softmax, plus for every two pixels i, j of different classes

    w1 exp(-|p_i - p_j|^2 / 2 sigma_alpha^2 - |I_i - I_j|^2 / 2 sigma_beta^2)
    + w2 exp(-|p_i - p_j|^2 / 2 sigma_gamma^2)

with positions p and colours I; five iterations of mean field. It works on the scene's own pixels
(0.5 m), on scores brought there bilinearly: DeepLab infers at the image's size too, and on the
1 m grid of the nets, where edges are blurred, the CRF came out 1 to 9 points of mean IoU lower.

pydensecrf2 (extra ``crf``) does the inference. Its kernels are normalised symmetrically.

Beyond the paper, `search` can give the CRF class shares that are right: OpenStreetMap lacks
buildings, so the net trained on it is too shy of them, which no kernel can mend (every kernel
shrinks what is rare), but a constant per class can: tau log(share of the class on the enhancement
tile) is added to its unary (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021),
tau is one more parameter of the search, and the net alone with its own best tau stands beside.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.classes import IGNORE
from geopipe.grid import Window
from geopipe.labels import RasterLabels
from geopipe.mapping.tile import score_window
from geopipe.metrics import Metrics
from geopipe.raster import Raster, Scene
from geopipe.raster.scene import window_geobox
from reproduce.maggiori.maps import labelled, write_map

ITERATIONS = 5
"""Of mean field: as many as the refinement has (Maggiori et al., section IV)."""
CORE, AROUND = 4096, 512
"""A scene's windows and what surrounds them, px: more than five sigma_alpha."""
PART = 512
"""Side of the four parts of the enhancement tile on which the search scores, px."""
TAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""For `search` with corrected class shares."""
FINALISTS = 3
"""So many of the best are compared on the whole tile."""


@dataclass(frozen=True, slots=True)
class Energy:
    """The parameters of the energy, named as DeepLab names them."""

    w1: float
    """Weight of the bilateral kernel."""
    sigma_alpha: float
    """Its reach, px of the scene."""
    sigma_beta: float
    """Its tolerance of other colours, 8-bit grey levels."""
    w2: float
    """Weight of the Gaussian kernel."""
    sigma_gamma: float
    """Its reach, px of the scene."""
    bias: tuple[float, ...] = ()
    """Added to the unary of each class; none: as the net says."""


NO_CRF = Energy(0.0, 1.0, 1.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """What one choice of parameters reached on the enhancement tile, or parts of it."""

    energy: Energy
    mean_iou: float
    overall_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self.energy),
            "mean_iou": self.mean_iou,
            "overall_accuracy": self.overall_accuracy,
        }


@dataclass(frozen=True, slots=True)
class Search:
    """The grid search: what was chosen, and all that was tried."""

    best: Energy
    rounds: tuple[tuple[Trial, ...], ...]
    """Coarse, (bias,) fine, Gaussian kernel; each on the parts of the tile."""
    finals: tuple[Trial, ...]
    """The best few on the whole tile, best first."""
    unary_only: Trial
    """The base network without the CRF, its bias the best for it, on the whole tile."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "best": asdict(self.best),
            "mean_iou": self.finals[0].mean_iou,
            "alone": self.unary_only.to_dict(),
            "trials": sum(len(r) for r in self.rounds),
            "rounds": [[t.to_dict() for t in r] for r in self.rounds],
            "finals": [t.to_dict() for t in self.finals],
        }


@dataclass(frozen=True, eq=False)
class Sample:
    """What the CRF needs of a window, and the truth there."""

    image: np.ndarray
    """(h, w, 3) uint8"""
    unary: np.ndarray
    """(classes, h, w) float32"""
    truth: np.ndarray
    """(h, w) uint8; IGNORE where the scene is not valid, too"""


def coarse_grid() -> list[Energy]:
    """First round: DeepLab's ranges, widened downwards in weight and reach.

    DeepLab's objects fill a photo; here a road is 14 px wide, and heavy or far kernels erase it.
    """
    axes = ((0.5, 3.0), (10.0, 25.0, 60.0), (3.0, 6.0, 12.0), (0.3, 3.0), (3.0,))
    return [Energy(*values) for values in itertools.product(*axes)]


def fine_grid(center: Energy) -> list[Energy]:
    """Second round: the bilateral kernel in smaller steps around the best of the first."""
    return [
        replace(
            center,
            w1=center.w1 * a,
            sigma_alpha=center.sigma_alpha * b,
            sigma_beta=center.sigma_beta * c,
        )
        for a, b, c in itertools.product((0.5, 1.0, 1.7), (0.6, 1.0, 1.5), (0.7, 1.0, 1.4))
    ]


def gaussian_grid(center: Energy) -> list[Energy]:
    """Third round: the Gaussian kernel, which DeepLab leaves at 3 and 3."""
    return [
        replace(center, w2=w2, sigma_gamma=sigma)
        for w2, sigma in itertools.product((center.w2 / 3, center.w2, center.w2 * 2), (1.0, 3.0))
    ]


def bias_grid(center: Energy) -> list[Energy]:
    """A round between: kernels shrink rare classes, so they may need more than the net alone."""
    return [
        replace(center, bias=tuple(b * factor for b in center.bias))
        for factor in (0.8, 1.2, 1.4, 1.7)
    ]


def search(model: Checkpoint, scene: Scene, truth: Path, taus: Sequence[float] = (0.0,)) -> Search:
    """Find the energy with the best mean IoU on the enhancement tile `scene`, labelled `truth`.

    Three rounds, coarse to fine, each around the best so far, on four parts of the tile; then the
    best of all on the whole tile. The identity (no CRF) is not among the choices. `taus`: 0, as
    the paper has it; several, as in TAUS, correct the class shares.
    """
    names = model.scheme.names
    window = labelled(scene, truth, model.scheme)
    sample = _sample(model, scene, truth, window.expand(AROUND).clip(scene.shape))
    parts = [
        Sample(
            sample.image[tile_slices],
            sample.unary[(slice(None), *tile_slices)],
            sample.truth[tile_slices],
        )
        for tile_slices in (w.slices for w in _parts(sample.truth))
    ]
    biases = [_bias(tau, sample.truth, len(names)) for tau in taus]
    unary_only = min((trial(replace(NO_CRF, bias=b), [sample], names) for b in biases), key=_rank)
    energies = [replace(e, bias=unary_only.energy.bias) for e in coarse_grid()]
    rounds: list[tuple[Trial, ...]] = []
    tried: dict[Energy, Trial] = {}
    later = (bias_grid, fine_grid, gaussian_grid) if any(taus) else (fine_grid, gaussian_grid)
    for finer in (*later, None):
        trials = tuple(trial(e, parts, names) for e in energies if e not in tried)
        tried.update({t.energy: t for t in trials})
        rounds.append(trials)
        if finer:
            energies = finer(min(tried.values(), key=_rank).energy)
    finalists = sorted(tried.values(), key=_rank)[:FINALISTS]
    finals = tuple(sorted((trial(t.energy, [sample], names) for t in finalists), key=_rank))
    return Search(finals[0].energy, tuple(rounds), finals, unary_only)


def apply(
    model: Checkpoint, scene: Scene, energy: Energy, path: Path, within: Window | None = None
) -> None:
    """The class map of `scene` by the base network and the CRF (or `Search.alone`), at `path`."""

    def classify(window: Window, raster: Raster) -> np.ndarray:
        return infer(_grey(model, raster), _unary(model, scene, window, raster.valid), energy)

    write_map(path, scene, model.scheme, classify, (CORE, AROUND), within)


def infer(image: np.ndarray, unary: np.ndarray, energy: Energy) -> np.ndarray:
    """Class ids (h, w) uint8 after five iterations.

    `image` (h, w, 3) uint8, `unary` (classes, h, w) float32. A kernel of weight 0 is left out.
    """
    classes, height, width = unary.shape
    if energy.bias:
        unary = unary + np.array(energy.bias, np.float32)[:, None, None]
    if not (energy.w1 or energy.w2):
        return np.asarray(unary.argmin(0), np.uint8)
    from pydensecrf import densecrf  # an optional extra

    crf = densecrf.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(classes, -1), np.float32))
    if energy.w2:
        crf.addPairwiseGaussian(sxy=energy.sigma_gamma, compat=energy.w2)
    if energy.w1:
        crf.addPairwiseBilateral(
            sxy=energy.sigma_alpha,
            srgb=energy.sigma_beta,
            rgbim=np.ascontiguousarray(image),
            compat=energy.w1,
        )
    marginals = np.asarray(crf.inference(ITERATIONS)).reshape(unary.shape)
    return np.asarray(marginals.argmax(0), np.uint8)


def trial(energy: Energy, samples: Sequence[Sample], names: Sequence[str]) -> Trial:
    """Score `energy` on all `samples` together."""
    total = Metrics.empty(names)
    for sample in samples:
        total += Metrics.of(names, sample.truth, infer(sample.image, sample.unary, energy))
    return Trial(energy, total.mean_iou, total.overall_accuracy)


def _bias(tau: float, truth: np.ndarray, classes: int) -> tuple[float, ...]:
    """tau log(share of each class among the labelled pixels); a class without any counts as one."""
    counts = np.bincount(truth[truth != IGNORE], minlength=classes).clip(1)
    return tuple((tau * np.log(counts / counts.sum())).tolist()) if tau else ()


def _rank(trial: Trial) -> float:
    """Best first; a class that is nowhere leaves no figure, and comes last."""
    return math.inf if math.isnan(trial.mean_iou) else -trial.mean_iou


def _sample(model: Checkpoint, scene: Scene, truth: Path, window: Window) -> Sample:
    raster = scene.read(window)
    labels = RasterLabels.open(truth, model.scheme).read(window_geobox(scene.geobox, window))
    return Sample(
        _grey(model, raster),
        _unary(model, scene, window, raster.valid),
        np.where(raster.valid, labels, IGNORE).astype(np.uint8),
    )


def _unary(model: Checkpoint, scene: Scene, window: Window, valid: np.ndarray) -> np.ndarray:
    """(classes, h, w) float32; the same for all classes where the scene is not valid."""
    (scores,) = score_window(model, scene, window, iterations=(0,))
    energy = -torch.log_softmax(scores, 0).numpy()
    return np.asarray(np.where(valid, energy, 0), np.float32)


def _grey(model: Checkpoint, raster: Raster) -> np.ndarray:
    """The first three bands, (h, w, 3) uint8.

    Other units are stretched by the model's own mean and deviation, so that the window does not
    matter: sigma_beta stays what it is.
    """
    bands = (list(range(len(raster.data))) + [len(raster.data) - 1] * 2)[:3]
    data = raster.data[bands].transpose(1, 2, 0)
    if data.dtype != np.uint8:
        mean, std = (np.array(x, np.float32)[bands] for x in (model.mean, model.std))
        data = np.clip(127.5 + 50 * (data - mean) / std, 0, 255).round().astype(np.uint8)
    return np.asarray(data)


def _parts(truth: np.ndarray) -> Iterator[Window]:
    """Four parts, one in the middle of each quarter of what is labelled."""
    rows, cols = (np.nonzero((truth != IGNORE).any(axis))[0] for axis in (1, 0))
    (top, bottom), (left, right) = (
        (int(i[0]), int(i[-1]) + 1) if len(i) else (0, n)
        for i, n in zip((rows, cols), truth.shape, strict=True)
    )
    height, width = (bottom - top) // 2, (right - left) // 2
    side_y, side_x = min(PART, height), min(PART, width)
    for row, col in itertools.product((top, top + height), (left, left + width)):
        yield Window(row + (height - side_y) // 2, col + (width - side_x) // 2, side_y, side_x)
