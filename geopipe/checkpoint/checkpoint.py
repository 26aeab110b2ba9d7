"""Checkpoint: weights, architecture, classes, normalization, GSD and provenance in one file."""

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from geopipe import __version__
from geopipe.checkpoint.domain import PREFIX, FeatureDomain
from geopipe.classes import ClassScheme
from geopipe.errors import CheckpointError
from geopipe.nets import SegmentationModel, build_base_network, build_postprocessor
from geopipe.raster import Scene
from geopipe.regularfile import part_of, require_regular

_FORMAT = 2
TRAINING = "geopipe train, run, patches train or chips train"
"""What makes models, for the hints of errors."""
_MAX_ITERATIONS = 50
"""A damaged header must not fill the memory with nets."""


LABEL_AREAS = "label_area_q01_m2"
"""Where the provenance keeps the 1 % quantile of the labels' areas, square metres by class name."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, complete: nothing else is needed to map a scene with it."""

    net: SegmentationModel
    scheme: ClassScheme
    mean: tuple[float, ...]
    """Per band, in the units of the training scene, over its valid pixels."""
    std: tuple[float, ...]
    dtype: str
    """dtype of the training scene: another one means other units."""
    gsd: float = 1.0
    """Ground sample distance the net works at, metres."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was made: data, steps, seed, versions (JSON values)."""
    domain: FeatureDomain | None = None
    """What the training images looked like; None: not known."""
    temperature: float = 1.0
    """What scores are divided by before they become probabilities; 1 in a model that was not
    calibrated."""

    @property
    def bands(self) -> int:
        """Number of bands the net takes."""
        return len(self.mean)

    def normalize(self, image: Tensor, valid: Tensor) -> Tensor:
        """(bands, h, w) to mean 0 and deviation 1; invalid pixels become the mean, 0."""
        mean, std = (image.new_tensor(x)[:, None, None] for x in (self.mean, self.std))
        return torch.where(valid, (image - mean) / std, 0)

    def require_gsd(self, hint: str) -> None:
        """Raise CheckpointError where nobody told the metres per pixel of the training chips."""
        if not self.provenance.get("gsd_known", True):
            raise CheckpointError(
                "nobody told the model how many metres a pixel of its training chips is", hint
            )

    def check_fits(self, scene: Scene) -> list[str]:
        """Warnings about `scene`; raises CheckpointError when the model cannot take it."""
        self.require_gsd("train with a `gsd`, or give it to geopipe chips classify")
        if len(scene.bands) != self.bands:
            raise CheckpointError(
                f"the model takes {self.bands} bands, {scene.path} gives {len(scene.bands)}",
                f"choose {self.bands} with `bands`",
            )
        if scene.dtype != self.dtype and self.net.patchwise:
            raise CheckpointError(
                f"{scene.path} is {scene.dtype}, a pretrained net knows images of {self.dtype}",
                "bring it to that, e.g. gdal_translate -ot Byte -scale LOW HIGH 0 255",
            )
        if scene.dtype != self.dtype:
            return [
                f"{scene.path} is {scene.dtype}, the model was trained on {self.dtype}: "
                "its values must be in the same units (rescale it if the map looks wrong)"
            ]
        return []

    def with_net(self, net: SegmentationModel, provenance: dict[str, Any]) -> Self:
        """The same model with another net, e.g. its refinement added.

        What is known of the features of its base network stays, as of a network that is the same.
        """
        return replace(self, net=net, provenance={**self.provenance, **provenance})

    def save(self, path: Path) -> None:
        """Write `path` (safetensors), whole or not at all."""
        postprocessor = self.net.postprocessor
        header = {
            "format": _FORMAT,
            "geopipe": __version__,
            "bands": self.bands,
            "architecture": self.net.base.architecture,
            "postprocessor": postprocessor and postprocessor.architecture,
            "scheme": self.scheme.to_dict(),
            "mean": self.mean,
            "std": self.std,
            "dtype": self.dtype,
            "gsd": self.gsd,
            "halo": self.net.halo,
            "stride": self.net.stride,
            "provenance": self.provenance,
            **({"domain": self.domain.header()} if self.domain else {}),
            **({"temperature": self.temperature} if self.temperature != 1 else {}),
        }
        state = {k: v.detach().cpu().contiguous() for k, v in self.net.state_dict().items()}
        if self.domain:
            state |= self.domain.tensors()
        part = part_of(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # written here, as safetensors itself makes files that only their owner may read
            part.write_bytes(save(state, {"geopipe": json.dumps(header, sort_keys=True)}))
            part.replace(path)
        except (OSError, SafetensorError) as e:
            raise CheckpointError(f"cannot write {path}: {e}", "is the folder writable?") from e
        finally:
            if part.parent.is_dir():
                part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, command: str = TRAINING) -> "Checkpoint":
        """Read `path`; raises CheckpointError for anything but a Checkpoint of this format.

        `command`: what makes models of the kind that is asked for, for the hint of an error.
        """
        if not path.is_file():
            require_regular(path, CheckpointError)
            problem = f"there is no model {path}"
            raise CheckpointError(problem, f"give the file of a model; {command} makes one")
        try:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["geopipe"])
                state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as e:
            problem = "it has no header of geopipe's" if isinstance(e, KeyError) else str(e)
            raise CheckpointError(
                f"{path} is not a geopipe model: {problem}", f"give a file that {command} made"
            ) from e
        if not isinstance(header, dict):
            raise CheckpointError(
                f"{path} is not a geopipe model: its header is no table",
                f"give a file that {command} made",
            )
        if header.get("format") != _FORMAT:
            raise CheckpointError(
                f"{path} has format {header.get('format')}, this geopipe reads {_FORMAT}",
                f"use the geopipe version that wrote it: {header.get('geopipe')}",
            )
        try:
            return cls._of(header, state, str(path))
        except (KeyError, TypeError, ValueError, RuntimeError) as e:
            raise CheckpointError(
                f"the weights in {path} do not fit its header: {type(e).__name__}: {e}",
                "the file is damaged; copy it again",
            ) from e

    @classmethod
    def _of(cls, header: dict[str, Any], state: dict[str, Tensor], path: str) -> "Checkpoint":
        scheme = ClassScheme.from_dict(header["scheme"], path)
        bands, postprocessor = header["bands"], header["postprocessor"]
        of_domain = {k: state.pop(k) for k in list(state) if k.startswith(PREFIX)}
        if postprocessor and not 1 <= postprocessor.get("iterations", 1) <= _MAX_ITERATIONS:
            raise ValueError(f"{postprocessor['iterations']} iterations")
        _require_weights(header, len(scheme), state)
        net = SegmentationModel(
            build_base_network(bands, len(scheme), **header.get("architecture", {})),
            build_postprocessor(bands, len(scheme), **postprocessor) if postprocessor else None,
        )
        net.load_state_dict(state)
        if not (len(header["mean"]) == len(header["std"]) == bands and header["gsd"] > 0):
            raise ValueError("mean, std or gsd")
        temperature = float(header.get("temperature", 1.0))
        if not 0 < temperature < math.inf:
            raise ValueError(f"a temperature of {temperature}")
        return cls(
            net.eval().requires_grad_(False),
            scheme,
            tuple(header["mean"]),
            tuple(header["std"]),
            header["dtype"],
            header["gsd"],
            header["provenance"],
            FeatureDomain.of(header["domain"], of_domain) if "domain" in header else None,
            temperature,
        )


def _require_weights(header: dict[str, Any], classes: int, state: dict[str, Tensor]) -> None:
    """ValueError where the net that the header names has more weights than the file.

    A header of a few bytes may ask for a net of gigabytes; on torch's device without memory it is
    counted first.
    """
    with torch.device("meta"):
        net = build_base_network(header["bands"], classes, **header.get("architecture", {}))
        requested = sum(t.numel() for t in net.state_dict().values())
    there = sum(t.numel() for t in state.values())
    if requested > there:
        raise ValueError(f"it asks for {requested} weights, the file holds {there}")


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
