"""Samples of a labelled source and an unlabelled target, as arrays of their features."""

from dataclasses import dataclass, replace

import numpy as np

from geopipe.errors import ConfigError, LabelError


@dataclass(frozen=True, eq=False)
class SourceSamples:
    """Labelled samples and what the source model says of them.

    Raises LabelError when arrays do not fit together or nothing is held out.
    """

    features: np.ndarray
    """(n, d) float32, as the net gives them: their length tells something"""
    probabilities: np.ndarray
    """(n, classes), got in the same way as the target's; rows are divided by their sums"""
    classes: np.ndarray
    """(n,) class ids"""
    held_out: np.ndarray
    """(n,) bool: those that the source model was not trained on"""
    images: np.ndarray | None = None
    """(n,) which image each is from, where known: samples of one image are not independent"""
    digests: np.ndarray | None = None
    """(n,) comparable with the target's: a target sample that the source has tells nothing new"""
    names: tuple[str, ...] = ()
    """Of the classes, for what is told of them."""

    def __post_init__(self) -> None:
        _normalise(self, "source")
        ids, classes = np.asarray(self.classes), self.probabilities.shape[1]
        if len(ids) and not 0 <= ids.min() <= ids.max() < classes:
            raise LabelError(
                f"class ids of the source are from {ids.min()} to {ids.max()}, the model has "
                f"{classes} classes",
                "give ids from 0",
            )
        per_sample = self.classes, self.held_out, self.images, self.digests
        _require_length(len(self.features), "source", *per_sample)
        if self.held_out.all() or not self.held_out.any():
            raise LabelError(
                f"{int(self.held_out.sum())} of {len(ids)} source samples are held out",
                "hold out a part of them",
            )


@dataclass(frozen=True, eq=False)
class TargetSamples:
    """Samples without labels, and what the source model says of them."""

    features: np.ndarray
    """(n, d) float32"""
    probabilities: np.ndarray
    """(n, classes), perhaps summed over scales; rows are divided by their sums"""
    positions: np.ndarray | None = None
    """(n, 3) int: image, row and column in patches"""
    digests: np.ndarray | None = None
    """(n,) of any dtype that sorts: equal where two samples have equal pixels"""

    def __post_init__(self) -> None:
        _normalise(self, "target")
        _require_length(len(self.features), "target", self.positions, self.digests)
        if self.positions is not None and self.positions.shape[1:] != (3,):
            raise LabelError(f"positions {self.positions.shape} of the target are not (n, 3)")

    @property
    def images(self) -> np.ndarray | None:
        """(n,) which image each is from, where known."""
        return None if self.positions is None else self.positions[:, 0]


def standardized(
    source: SourceSamples, target: TargetSamples
) -> tuple[SourceSamples, TargetSamples]:
    """Both with each dimension of the features at mean 0 and deviation 1 over the source.

    So no dimension decides by its unit which samples are near. The target's own statistics are left
    alone: they also tell how frequent its classes are.
    """
    require_same_kind(source, target)
    learnt = source.features[~source.held_out]
    mean, std = learnt.mean(0, np.float64), learnt.std(0, np.float64)
    std = np.where(std > 1e-6 * std.max(initial=0), std, np.inf)  # a constant tells nothing

    def scaled(features: np.ndarray) -> np.ndarray:
        return np.asarray((features - mean) / std, np.float32)

    return (
        replace(source, features=scaled(source.features)),
        replace(target, features=scaled(target.features)),
    )


def require_same_kind(source: SourceSamples, target: TargetSamples) -> None:
    """Raises ConfigError unless both come from one net with the same classes."""
    for name in ("features", "probabilities"):
        source_width, target_width = (getattr(s, name).shape[1] for s in (source, target))
        if source_width != target_width:
            raise ConfigError(
                f"{name} of the source have {source_width} columns, those of the target "
                f"{target_width}",
                "compute both with the same model",
            )


def _normalise(samples: SourceSamples | TargetSamples, domain: str) -> None:
    features = np.ascontiguousarray(samples.features, np.float32)
    p = np.asarray(samples.probabilities, np.float64)
    if features.ndim != 2 or p.ndim != 2 or len(features) != len(p):
        raise LabelError(
            f"features {features.shape} and probabilities {p.shape} of the {domain} are not "
            "(n, d) and (n, classes)"
        )
    row_sums = p.sum(1, keepdims=True)
    if not (np.isfinite(features).all() and np.isfinite(p).all() and (p >= 0).all()):
        raise LabelError(f"features or probabilities of the {domain} are not finite, or negative")
    if not (row_sums > 0).all():
        raise LabelError(
            f"{int((row_sums == 0).sum())} samples of the {domain} have no probability"
        )
    object.__setattr__(samples, "features", features)
    object.__setattr__(samples, "probabilities", (p / row_sums).astype(np.float32))


def _require_length(n: int, domain: str, *arrays: np.ndarray | None) -> None:
    for a in arrays:
        if a is not None and len(a) != n:
            raise LabelError(f"the {domain} has {n} samples, but {len(a)} of what belongs to them")
