"""Checkpoint: weights, architecture, classes, normalization, GSD and provenance in one file."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from geopipe import __version__
from geopipe.checkpoint.domain import FeatureDomain
from geopipe.checkpoint.header import FORMAT, LABEL_AREAS, FormatOnly, ModelHeader
from geopipe.classes import ClassScheme
from geopipe.errors import CheckpointError, ConfigError, UnsafeFileError
from geopipe.files import atomic_file
from geopipe.nets import SegmentationModel, build_base_network, build_postprocessor
from geopipe.nets.shapes import allocate, shapes_only
from geopipe.raster import Scene
from geopipe.regularfile import require_regular
from geopipe.tensors import TensorFile
from geopipe.validation import open_regular, parse_json, shown_value

__all__ = ["LABEL_AREAS", "Checkpoint", "file_hash"]
TRAINING = "geopipe train, run, patches train or chips train"
"""What makes models, for the hints of errors."""
_DAMAGED = "the file is damaged; copy it again"
_FLOATS = {"F16", "BF16", "F32", "F64"}


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
            "format": FORMAT,
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
        with atomic_file(path, SafetensorError, parents=True) as part:
            # written here, as safetensors itself makes files that only their owner may read
            part.write_bytes(save(state, {"geopipe": json.dumps(header, sort_keys=True)}))

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
            file = TensorFile.open(path, CheckpointError)
            text = file.metadata["geopipe"]
        except (CheckpointError, KeyError) as e:
            problem = "it has no header of geopipe's"
            raise CheckpointError(
                f"{path} is not a geopipe model: "
                f"{e.message if isinstance(e, CheckpointError) else problem}",
                f"give a file that {command} made",
            ) from e
        source = f"{path} is not a geopipe model: its header"
        hint = f"give a file that {command} made"
        version = parse_json(text, FormatOnly, source, CheckpointError, hint)
        if version.format != FORMAT:
            raise CheckpointError(
                f"{path} has format {shown_value(version.format)}, this geopipe reads {FORMAT}",
                f"use the geopipe version that wrote it: {shown_value(version.geopipe)}",
            )
        source = f"the header of {path}"
        header = parse_json(text, ModelHeader, source, CheckpointError, _DAMAGED)
        return cls._of(header, file)

    @classmethod
    def _of(cls, header: ModelHeader, file: TensorFile) -> "Checkpoint":
        net = _network_that_fits(header, file)
        allocate(net)  # all that it has is in the file
        state = load(file.read())
        of_domain = {name: state.pop(name) for name in _domain_shapes(header)}
        net.load_state_dict(state)
        for name, tensor in net.state_dict().items():
            if not torch.isfinite(tensor).all() or (
                name.endswith(".running_var") and (tensor < 0).any()
            ):
                raise CheckpointError(
                    f"the weights in {file.path} are no numbers to compute with: {name}", _DAMAGED
                )
        try:
            domain = FeatureDomain.of(header.domain, of_domain) if header.domain else None
        except ValueError as e:
            raise CheckpointError(f"the header of {file.path} is damaged: {e}", _DAMAGED) from e
        return cls(
            net.eval().requires_grad_(False),
            header.scheme,
            header.mean,
            header.std,
            header.dtype,
            header.gsd,
            header.provenance.model_dump(exclude_unset=True),
            domain,
            header.temperature,
        )


def _network(header: ModelHeader) -> SegmentationModel:
    """The untrained network that a header describes; ValueError for sizes that make none."""
    bands, classes, postprocessor = header.bands, len(header.scheme), header.postprocessor
    return SegmentationModel(
        build_base_network(bands, classes, **header.architecture.model_dump()),
        build_postprocessor(bands, classes, **postprocessor.model_dump())
        if postprocessor
        else None,
    )


def _domain_shapes(header: ModelHeader) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of the domain by their names in the file."""
    return header.domain.shapes() if header.domain else {}


def _network_that_fits(header: ModelHeader, file: TensorFile) -> SegmentationModel:
    """The network without memory; refuses weights that are not its own before they take any.

    On torch's device without memory a network costs nothing, whatever its header asks for.
    """
    try:
        with shapes_only():
            net = _network(header)
        needed = {k: tuple(t.shape) for k, t in net.state_dict().items()}
        needed |= _domain_shapes(header)
    except (ValueError, ConfigError, RuntimeError, TypeError) as e:
        problem = e.message if isinstance(e, ConfigError) else e
        raise CheckpointError(
            f"the header of {file.path} makes no network: {problem}", _DAMAGED
        ) from e
    stored = {name: info.shape for name, info in file.tensors.items()}
    problem = ""
    for name in {**needed, **stored}:
        if name not in stored:
            problem = f"{name} is missing"
        elif name not in needed:
            problem = f"{shown_value(name)} is unexpected"
        elif stored[name] != needed[name]:
            problem = f"{name} has the shape {list(stored[name])}, not {list(needed[name])}"
        elif file.tensors[name].dtype not in _FLOATS | {"I64"}:
            problem = f"{name} is of type {file.tensors[name].dtype}"
        if problem:
            raise CheckpointError(
                f"the weights in {file.path} do not fit its header: {problem}", _DAMAGED
            )
    return net


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with open_regular(path, UnsafeFileError) as (file, _):
        digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # a FileIO does
        return digest.hexdigest()
