"""What the images looked like that a model learned from: the domain in which it is to be trusted.

A cell of the image is described by the mean and the deviation of the network's features in it. Its
score is the Mahalanobis distance from the cells of the training scene (Lee et al. 2018, NeurIPS),
with a covariance of a few principal components and equal noise in all other directions (Tipping and
Bishop 1999), over the distance that 99 % of held-out training cells stay below: 1 is that limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from geopipe.validation import Count, Schema

CELL_PX = 128
"""Network pixels a side of a cell, about."""
PREFIX = "domain."
"""Of its tensors' names in a model file."""
_MAX_FEATURES = 20_000
_MAX_COMPONENTS = 256


class DomainHeader(Schema):
    """What the header of a model file says of its domain."""

    noise: float = Field(gt=0, le=1e15)
    limit: float = Field(gt=0, le=1e15)
    cells: Count
    features: int = Field(ge=1, le=_MAX_FEATURES)
    components: int = Field(ge=0, le=_MAX_COMPONENTS)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays by their names in the file."""
        of = {
            "mean": (self.features,),
            "scale": (self.features,),
            "components": (self.components, self.features),
            "variances": (self.components,),
        }
        return {PREFIX + name: shape for name, shape in of.items()}


@dataclass(frozen=True, eq=False)
class FeatureDomain:
    """The distribution of the features of training cells."""

    mean: np.ndarray
    """(features,) float32"""
    scale: np.ndarray
    """(features,) float32, deviations"""
    components: np.ndarray
    """(k, features) float32, orthonormal directions of (feature - mean) / scale"""
    variances: np.ndarray
    """(k,) float32, along the components"""
    noise: float
    """Variance in every other direction."""
    limit: float
    """Distance that 99 % of held-out training cells stay below."""
    cells: int
    """Training cells that it was learned from."""

    def __post_init__(self) -> None:
        count = len(self.mean)
        numbers = (*self.tensors().values(), torch.tensor([self.noise, self.limit]))
        if (
            not 1 <= count <= _MAX_FEATURES
            or self.scale.shape != (count,)
            or self.components.shape != (len(self.variances), count)
            or len(self.variances) > _MAX_COMPONENTS
            or not all(torch.isfinite(x).all() for x in numbers)
            or not min(self.noise, self.limit, self.scale.min(), *self.variances) > 0
        ):
            raise ValueError("the domain of the training images is damaged")

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(n, features) to (n,) distances, of which the root of the mean square is about 1."""
        z = (features - self.mean) / self.scale
        along = z @ self.components.T
        within = (along**2 / self.variances).sum(1)
        rest = np.maximum((z**2).sum(1) - (along**2).sum(1), 0) / self.noise
        result: np.ndarray = np.sqrt((within + rest) / len(self.mean))
        return result

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(n, features) to (n,) float: distances over the limit; above 1 the image is foreign."""
        return self.distances(features) / self.limit

    def tensors(self) -> dict[str, Tensor]:
        """Its arrays by their names in a model file."""
        return {
            PREFIX + name: torch.from_numpy(np.ascontiguousarray(array, np.float32))
            for name, array in (
                ("mean", self.mean),
                ("scale", self.scale),
                ("components", self.components),
                ("variances", self.variances),
            )
        }

    def header(self) -> dict[str, float]:
        """Its numbers, for the header of a model file; see `DomainHeader`."""
        return {
            "noise": self.noise,
            "limit": self.limit,
            "cells": self.cells,
            "features": len(self.mean),
            "components": len(self.variances),
        }

    @classmethod
    def of(cls, header: "DomainHeader", state: Mapping[str, Tensor]) -> Self:
        """Inverse of `header` and `tensors`; ValueError for impossible values."""
        mean, scale, components, variances = (
            state[PREFIX + name].float().numpy()
            for name in ("mean", "scale", "components", "variances")
        )
        return cls(mean, scale, components, variances, header.noise, header.limit, header.cells)
