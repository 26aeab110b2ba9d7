"""Embeddings and class probabilities of patches, computed once and cached in files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from geopipe.checkpoint import Checkpoint
from geopipe.errors import SceneError
from geopipe.files import atomic_file
from geopipe.learn.patches.grid import PatchGrid
from geopipe.learn.patches.rasters import read_patch
from geopipe.learn.patches.train import patch_net
from geopipe.learn.precision import training_autocast
from geopipe.nets import PatchNet
from geopipe.progress import progress
from geopipe.tensors import TensorFile


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What a model sees in cells."""

    features: np.ndarray
    """(n, d) float32: mean over the sizes of patches, by the net's weights."""
    probabilities: np.ndarray
    """(n, sizes, classes) float32: of each size of patch alone."""
    digests: np.ndarray
    """(n,) int64: equal where the largest patches have equal pixels."""
    valid: np.ndarray
    """(n,) bool: at least half of the cell's pixels are valid."""

    def summed(self, weights: tuple[float, ...]) -> np.ndarray:
        """(n, classes) float32: mean of the sizes' probabilities by these weights."""
        shares = np.array(weights, np.float32) / sum(weights)
        return np.asarray(np.einsum("nsc,s->nc", self.probabilities, shares))


def embed(
    model: Checkpoint,
    digest: str,
    patches: PatchGrid,
    *,
    cache: Path | None = None,
    device: str = "cpu",
) -> Embeddings:
    """Run the model's net over the patches of all cells.

    Blocks of cells are read once for all sizes, and computed in bfloat16 where the device has it:
    these figures choose and train, they are no map. With `cache`, what was computed lies there in a
    file per block, named after the pixels and `digest` (of the model): a run that was killed goes
    on, and equal pixels are never computed twice. `model` is on `device` already.
    """
    net = patch_net(model)
    width, sizes, classes = net.backbone.width("pooled"), len(net.sizes), len(model.scheme)
    out = Embeddings(
        np.zeros((len(patches), width), np.float32),
        np.zeros((len(patches), sizes, classes), np.float32),
        np.zeros(len(patches), np.int64),
        np.zeros(len(patches), bool),
    )
    with progress("computing features", len(patches)) as advance:
        for raster, window, indices in patches.blocks():
            image, valid = read_patch(raster, window.expand(net.receptive_radius))
            block_embeddings = _block(model, digest, image, valid, cache, device)
            rows, cols = patches.positions[indices, 1], patches.positions[indices, 2]
            block_position = rows - window.row // patches.cell, cols - window.col // patches.cell
            for array, part in zip(
                (out.features, out.probabilities, out.digests, out.valid),
                block_embeddings,
                strict=True,
            ):
                array[indices] = part[block_position]
            advance(len(indices))
    return out


def _block(
    model: Checkpoint,
    digest: str,
    image: torch.Tensor,
    valid: torch.Tensor,
    cache: Path | None,
    device: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, probabilities, digests and validity (rows, cols, ...) of the cells of a block."""
    net = patch_net(model)
    content = hashlib.sha256(digest.encode())
    content.update(image.numpy().tobytes())
    content.update(valid.numpy().tobytes())
    content.update(repr((net.sizes, net.weights, tuple(image.shape))).encode())
    file = cache / f"{content.hexdigest()}.safetensors" if cache else None
    cached = _load(file, net, len(model.scheme), digest) if file else None
    if cached is None:
        cached = _computed(model, image, valid, device)
        if file:
            _store(file, cached, digest)
    return cached["features"], cached["probabilities"], cached["digests"], cached["valid"]


def _computed(
    model: Checkpoint, image: torch.Tensor, valid: torch.Tensor, device: str
) -> dict[str, np.ndarray]:
    net = patch_net(model)
    with torch.inference_mode():
        normalized = model.normalize(image.to(device), valid.to(device))[None]
        with training_autocast(device, "auto"):
            features, probabilities = (x[:, 0].float() for x in net.by_size(normalized))
        shares = features.new_tensor(net.weights)[:, None, None, None]
        mean = (features * shares).sum(0).permute(1, 2, 0)
        largest = net.patches(image[None], max(net.sizes))[0][0]
        inner = net.patches(valid[None, None].float(), net.stride)[0][0]
        rows, cols = largest.shape[:2]
        digests = np.array(
            [[_digest(largest[r, c]) for c in range(cols)] for r in range(rows)], np.int64
        )
    return {
        "features": mean.cpu().numpy(),
        "probabilities": probabilities.permute(2, 3, 0, 1).cpu().numpy(),
        "digests": digests,
        "valid": inner.mean((2, 3, 4)).numpy() >= 0.5,
    }


def _digest(patch: torch.Tensor) -> int:
    digest = hashlib.blake2b(patch.contiguous().numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _load(file: Path, net: PatchNet, classes: int, digest: str) -> dict[str, np.ndarray] | None:
    """What an earlier run computed; None where there is no such file, or a damaged one.

    Raises SceneError for the features of another model: files are named by it, so one was renamed
    or the cache was put together by hand.
    """
    wanted: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "features": ("F32", (None, None, net.backbone.width("pooled"))),
        "probabilities": ("F32", (None, None, len(net.sizes), classes)),
        "digests": ("I64", (None, None)),
        "valid": ("BOOL", (None, None)),
    }
    try:
        stored = TensorFile.open(file, SceneError)
        model = stored.metadata.get("model", digest)
        arrays = stored.arrays(wanted) if model == digest else {}
    except SceneError:
        return None
    if model != digest:
        raise SceneError(
            f"the features in {file} are those of another model or backbone",
            f"remove {file.parent}; its features are computed again",
        )
    return arrays if len({a.shape[:2] for a in arrays.values()}) == 1 else None


def _store(file: Path, arrays: dict[str, np.ndarray], digest: str) -> None:
    with atomic_file(file, SafetensorError, parents=True) as part:
        tensors = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
        save_file(tensors, part, {"model": digest})
