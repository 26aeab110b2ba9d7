"""A linear classifier on the features of frozen networks."""

import hashlib
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import weights_hash
from geopipe.errors import ConfigError, SceneError
from geopipe.files import atomic_file
from geopipe.learn.chips.decoded import DecodedChips
from geopipe.learn.chips.predict import chip_net, mean_cam
from geopipe.learn.chips.training import Samples
from geopipe.nets import SegmentationModel
from geopipe.nets.chips import VectorNet
from geopipe.nets.patches import BATCH
from geopipe.progress import progress
from geopipe.tensors import TensorFile

_SAVE_EVERY = 40
"""Batches after which features are saved: a minute on a slow machine."""
_ITERATIONS = 2000


def frozen_features(
    model: Checkpoint, samples: Samples, *, folder: Path, device: str = "cpu", seed: int = 0
) -> Checkpoint:
    """A copy of `model` whose last layer is a logistic regression on the samples' features.

    Features are standardised by the samples' mean and deviation, which are then folded into the
    layer; the regularisation is scikit-learn's own (C = 1). They are kept in `folder` by the
    content of the chips: no chip is looked at twice by the same nets.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    net = deepcopy(chip_net(model))
    inner = net.backbone
    if not isinstance(inner, VectorNet) or len(inner.between):
        raise ConfigError(
            f"{net.model_spec} cannot stay frozen: its layers behind the backbones learn"
        )
    x = features(model, samples.decoded, samples.rows, folder, device)
    scaler = StandardScaler().fit(x)
    fitted = LogisticRegression(max_iter=_ITERATIONS, random_state=seed).fit(
        scaler.transform(x), samples.ids[samples.rows]
    )
    weight, bias = np.zeros((net.classes, x.shape[1])), np.full(net.classes, -1e4)
    coef, intercept = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn gives the second class's score alone
        coef, intercept = np.stack([0 * coef[0], coef[0]]), np.array([0, intercept[0]])
    weight[fitted.classes_], bias[fitted.classes_] = coef, intercept
    weight /= scaler.scale_
    bias -= weight @ scaler.mean_
    with torch.no_grad():
        inner.head.weight.copy_(torch.from_numpy(weight))
        inner.head.bias.copy_(torch.from_numpy(bias))
    provenance = {"frozen": {"chips": len(samples.rows), "C": 1.0, "seed": seed}}
    return model.with_net(SegmentationModel(net.requires_grad_(False)), provenance)


def features(
    model: Checkpoint, decoded: DecodedChips, rows: np.ndarray, folder: Path, device: str = "cpu"
) -> np.ndarray:
    """(n, d) float32 of the model's branches, computed for chips that `folder` does not have."""
    inner = chip_net(model).backbone
    assert isinstance(inner, VectorNet)
    cache_key = f"1 {weights_hash(inner.branches)} {decoded.side} {model.mean} {model.std}"
    file = folder / f"features-{hashlib.sha256(cache_key.encode()).hexdigest()[:32]}.safetensors"
    cached = _load(file, inner.width)
    missing = list(
        {decoded.digests[i]: int(i) for i in rows if decoded.digests[i] not in cached}.values()
    )
    inner.to(device).eval()
    with torch.inference_mode(), progress("computing features", len(missing)) as advance:
        for n, (part, pixels) in enumerate(decoded.batches(np.array(missing, int), BATCH), 1):
            vectors = inner.features(mean_cam(model, pixels, device)).float().cpu().numpy()
            cached.update(zip((decoded.digests[i] for i in part), vectors, strict=True))
            advance(len(part))
            if n % _SAVE_EVERY == 0:
                _store(file, cached)
    inner.to("cpu")
    if missing:
        _store(file, cached)
    return np.stack([cached[decoded.digests[i]] for i in rows])


def _load(file: Path, width: int) -> dict[str, np.ndarray]:
    """Features by digest of an earlier run; none where there is no such file, or a damaged one."""
    with suppress(SceneError, ValueError):
        tables = TensorFile.open(file, SceneError).arrays(
            {"digests": ("U8", (None, 32)), "features": ("F32", (None, width))}
        )
        return dict(
            zip((d.tobytes().hex() for d in tables["digests"]), tables["features"], strict=True)
        )
    return {}


def _store(file: Path, cached: dict[str, np.ndarray]) -> None:
    digests = np.stack([np.frombuffer(bytes.fromhex(d), np.uint8) for d in cached])
    with atomic_file(file, SafetensorError, parents=True) as part:
        save_file({"digests": digests, "features": np.stack(list(cached.values()))}, part)
