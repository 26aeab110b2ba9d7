"""Start a training from a model that exists, instead of from random or ImageNet weights."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from geopipe.checkpoint import LABEL_AREAS, Checkpoint, file_hash
from geopipe.checkpoint.starter import STARTER, model_path
from geopipe.classes import ClassScheme
from geopipe.errors import CheckpointError
from geopipe.nets import BaseNetwork
from geopipe.nets.classes import with_classes
from geopipe.networks import DEFAULT_NET, DISPLAY_NAMES, BaseNetworkName
from geopipe.raster import Scene

log = logging.getLogger(__name__)

_COARSER = 2.0
"""Times its own GSD at which the starter model is still a start."""


@dataclass(frozen=True)
class StartModel:
    """A model that a training goes on from.

    Its base network is kept, classes matched by name: a class that both have keeps its weights in
    the last layer, a new class gets untrained ones, all other layers stay. A refinement is left
    out, since it was trained on the scores of the network as it was.
    """

    model: Checkpoint
    sha256: str
    """Of the file."""
    path: Path
    by_default: bool = False
    """Whether nobody chose it: then what it lacks is no news."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the model `path`; CheckpointError for one whose training is another command's."""
        path = model_path(path)
        model = Checkpoint.load(path)
        if model.net.base.architecture.get("net") not in DISPLAY_NAMES:
            raise CheckpointError(
                f"{path} is a model of patches or chips, which a scene's training cannot go on "
                "from",
                "give a model of geopipe train or geopipe run",
            )
        return cls(model, file_hash(path), path)

    @classmethod
    def suited(
        cls, net: BaseNetworkName, scheme: ClassScheme, scene: Scene, gsd: float
    ) -> Self | None:
        """The starter model, where it suits a training of `net` at `gsd` metres per pixel.

        That is with its network, bands and data type, a class of its own beside the background, and
        pixels at most twice as coarse as its own.
        """
        if net != DEFAULT_NET:  # which is the starter model's, so the file is not read
            return None
        starter = replace(cls.open(STARTER), by_default=True)
        model = starter.model
        suits = (
            (model.bands, model.dtype) == (len(scene.bands), scene.dtype)
            and set(model.scheme.names[1:]) & set(scheme.names[1:])
            and gsd <= _COARSER * model.gsd
        )
        return starter if suits else None

    @property
    def net(self) -> BaseNetworkName:
        """The name of its base network."""
        name: BaseNetworkName = self.model.net.base.architecture["net"]
        return name

    def check(self, net: BaseNetworkName, bands: int, scene: str) -> None:
        """Raise CheckpointError for a training of another network or of other bands."""
        if net != self.net:
            raise CheckpointError(
                f"{self.path} has the base network {self.net}, the training asks for {net}",
                f"leave out the network, or ask for {self.net}",
            )
        if bands != self.model.bands:
            raise CheckpointError(
                f"{self.path} takes {self.model.bands} bands, {scene} gives {bands}",
                f"choose {self.model.bands} with `bands`",
            )

    def base_network(self, scheme: ClassScheme, seed: int) -> BaseNetwork:
        """A copy of its base network for the classes of `scheme`."""
        names = self.model.scheme.names
        new = [name for name in scheme.names if name not in names]
        if self.by_default:
            log.info("starts from the starter model; new classes: %s", ", ".join(new) or "none")
        elif new:
            log.warning("classes that %s does not have start anew: %s", self.path, ", ".join(new))
        if self.model.net.postprocessor:
            log.warning("the refinement of %s is left out; its base network is kept", self.path)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return with_classes(
                self.model.net.base, [names.index(n) if n in names else None for n in scheme.names]
            )

    def statistics(self, dtype: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation of its bands; None for a scene in other units.

        The network knows images normalised by them. A scene of another `dtype` is normalised by
        statistics of its own.
        """
        if dtype == self.model.dtype:
            return self.model.mean, self.model.std
        log.warning(
            "%s was trained on %s, the scene is %s: it is normalised by its own mean and deviation",
            self.path,
            self.model.dtype,
            dtype,
        )
        return None

    def provenance(self, scheme: ClassScheme) -> dict[str, Any]:
        """What a model that starts from it says of it."""
        before = self.model.provenance
        areas = {k: v for k, v in before.get(LABEL_AREAS, {}).items() if k in scheme.names}
        origin = {
            "sha256": self.sha256,
            "classes_kept": [name for name in scheme.names if name in self.model.scheme.names],
            "gsd": self.model.gsd,
        }
        if "derived_from" in before:
            origin["derived_from"] = before["derived_from"]
        return {"derived_from": origin, **({LABEL_AREAS: areas} if areas else {})}
