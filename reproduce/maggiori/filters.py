"""Whether the refinement's learned filters M_i act as derivatives (section IV-A, Fig. 11).

Two measures, each to be set against untrained filters, some of which look like derivatives too:

- `derivative_like`: the filter itself. The share of its energy that the best oriented first
  derivative of a Gaussian explains. Drawn at random, 25 independent weights put 2 / 25 = 8 % of
  their energy there on average (two dimensions span all orientations) and hardly ever half of it:
  0.5 is exceeded with the chance (1 - 0.5) ** 11.5 = 0.03 % of one scale, some 0.1 % of the best.
- `response_like`: what the paper looks at, the response to a score map. Score maps are smooth, so
  what a filter does to fine detail never shows, and small changes of its weights that cancel
  their sum turn it into a derivative. The share of the response's variance that the map's own two
  derivatives explain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from geopipe.checkpoint import Checkpoint, network_input
from geopipe.errors import ConfigError
from geopipe.grid import NetworkGrid, Window
from geopipe.nets.refinement import KERNEL, RefinementRNN, Update
from geopipe.raster import Scene

LIKE = 0.5
"""At least half of the energy, or of the variance."""
BALANCED = 0.2
"""A derivative's weights cancel out: at most so much of their absolute sum is left."""
SCALES = (0.7, 1.0, 1.5, 2.5)
"""Standard deviations of the Gaussians, px; the last one is nearly a plain slope."""


@dataclass(frozen=True, slots=True)
class Derivative:
    """How near a filter, or its response, is to an oriented first derivative."""

    share: float
    """Explained by the best oriented derivative, 0 to 1."""
    angle: float
    """Where to a map must rise for the response to be high: degrees, 0 = east, 90 = north."""
    balance: float
    """abs(sum) / sum(abs) of the weights: 0 for any derivative, 1 for a blur."""
    antisymmetry: float
    """Share of the energy that turns its sign when the filter is turned by half a turn."""

    @property
    def like(self) -> bool:
        """Whether it counts as a derivative."""
        return self.share >= LIKE and self.balance <= BALANCED


@dataclass(frozen=True, slots=True)
class Listed:
    """A filter M_i of a model."""

    step: int
    """Which step's, for refinements that do not share weights; else 0."""
    index: int
    weights: Derivative
    responses: tuple[float, ...]
    """`response_like` of each score map given."""


def derivative_like(kernel: np.ndarray) -> Derivative:
    """Measure the weights of `kernel` (5, 5) as `torch` correlates them with a map (y down)."""
    flat = np.asarray(kernel, np.float64).ravel()
    energy = float(flat @ flat) or 1.0
    share, angle = 0.0, 0.0
    for scale in SCALES:
        x, y = (d.ravel() / np.linalg.norm(d) for d in gaussian_derivatives(scale))
        toward = np.array([flat @ x, flat @ y])  # x and y are orthogonal
        if (share_explained := float(toward @ toward) / energy) > share:
            share, angle = share_explained, _degrees(toward)
    antisymmetric = (flat - flat[::-1]) / 2
    balance = float(abs(flat.sum()) / (np.abs(flat).sum() or 1.0))
    return Derivative(share, angle, balance, float(antisymmetric @ antisymmetric) / energy)


def covariance(scores: np.ndarray) -> np.ndarray:
    """(25, 25) of the 5 x 5 neighbourhoods of `scores` (h, w): all that responses depend on."""
    windows = sliding_window_view(scores.astype(np.float64), (KERNEL, KERNEL))
    return np.cov(windows.reshape(-1, KERNEL * KERNEL), rowvar=False)


def response_like(kernel: np.ndarray, covariance_matrix: np.ndarray) -> tuple[float, float]:
    """Share of the response's variance that the map's derivatives explain, 0 to 1, and its angle.

    `covariance_matrix`: the map's `covariance`. A map that is the same everywhere gives 0.
    """
    flat = np.asarray(kernel, np.float64).ravel()
    slopes = np.stack([d.ravel() for d in gaussian_derivatives(1.0)])
    shared = slopes @ covariance_matrix @ flat
    mix = np.linalg.lstsq(slopes @ covariance_matrix @ slopes.T, shared, rcond=None)[0]
    variance = float(flat @ covariance_matrix @ flat)
    return (float(shared @ mix) / variance if variance > 0 else 0.0), _degrees(mix)


def explained(response: np.ndarray, slopes: Iterable[np.ndarray]) -> tuple[float, float]:
    """Share of the variance of `response` that a mix of `slopes` (east, south) explains; angle."""
    target = response.ravel() - response.mean()
    basis = np.stack([s.ravel() - s.mean() for s in slopes], axis=1)
    mix = np.linalg.lstsq(basis, target, rcond=None)[0]
    variance = float(target @ target)
    residual = target - basis @ mix
    return (1 - float(residual @ residual) / variance if variance else 0.0), _degrees(mix)


def gaussian_derivatives(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """(5, 5) each: filters that respond to a rise to the east and to the south."""
    y, x = np.mgrid[:KERNEL, :KERNEL] - KERNEL // 2
    bell = np.exp(-(x**2 + y**2) / (2 * scale**2))
    return x * bell, y * bell


def list_filters(refine: RefinementRNN, score_maps: Iterable[np.ndarray] = ()) -> list[Listed]:
    """Every M_i of `refine` with its measures; `score_maps`: (h, w) each, as u_t of a class."""
    maps = [covariance(scores) for scores in score_maps]
    return [
        Listed(
            step,
            index,
            derivative_like(kernel),
            tuple(response_like(kernel, covariance_matrix)[0] for covariance_matrix in maps),
        )
        for step, update in enumerate(refine.updates)
        if isinstance(update, Update)
        for index, kernel in enumerate(update.m.detach().cpu().numpy()[:, 0])
    ]


def untrained(refine: RefinementRNN, seed: int) -> RefinementRNN:
    """A refinement of the same form as training with `seed` starts from."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RefinementRNN(
            refine.bands,
            refine.classes,
            iterations=refine.iterations,
            class_agnostic=refine.class_agnostic,
            recurrent=refine.recurrent,
        )


def compare(model: Checkpoint, scene: Scene, window: Window, draws: int = 20) -> dict[str, Any]:
    """Learned filters against `draws` times as many untrained ones, as plain values for JSON.

    Score maps: those of the base network in `window` of `scene`, one per class but the first.
    """
    refine = refinement(model)
    maps = list(net_scores(model, scene, window)[1][1:])
    learned = list_filters(refine, maps)
    random = [f for seed in range(draws) for f in list_filters(untrained(refine, seed), maps)]
    return {
        "classes": list(model.scheme.names[1:]),
        "learned": _summary(learned),
        "untrained": _summary(random),
        "filters": [{**asdict(f), "like": f.weights.like} for f in learned],
    }


def _summary(filters: list[Listed]) -> dict[str, Any]:
    """Shares of `filters` that count as derivatives, by weights and by responses per class."""
    shares = np.array([f.weights.share for f in filters])
    responses = np.array([f.responses for f in filters])
    return {
        "count": len(filters),
        "like": float(np.mean([f.weights.like for f in filters])),
        "median_share": float(np.median(shares)),
        "median_balance": float(np.median([f.weights.balance for f in filters])),
        "response_like": (responses >= LIKE).mean(0).tolist(),
        "median_response": np.median(responses, axis=0).tolist(),
    }


def net_scores(model: Checkpoint, scene: Scene, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """What the first iteration sees of `window` (px of the scene), on the net's grid.

    The normalised image (bands, h, w) and the base network's scores (classes, h, w), float32.
    """
    grid = NetworkGrid.of(scene.geobox, model.gsd)
    core = grid.snap(grid.interpolated_from(window), model.net.stride)
    halo = model.net.halo
    with torch.inference_mode():
        image = model.normalize(*network_input(scene, grid, core.expand(halo)))
        (scores,) = model.net.forward_steps(image[None], (0,))
    return image[:, halo:-halo, halo:-halo].numpy(), scores[0].numpy()


def refinement(model: Checkpoint) -> RefinementRNN:
    """The model's refinement; ConfigError when it has none."""
    if not isinstance(model.net.postprocessor, RefinementRNN):
        raise ConfigError("the model has no refinement, so no filters M_i", "give a refined model")
    return model.net.postprocessor


def _degrees(toward: np.ndarray) -> float:
    """Of a direction (east, south)."""
    return float(np.degrees(np.arctan2(-toward[1], toward[0])) % 360)
