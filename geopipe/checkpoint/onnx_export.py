"""Models as ONNX files that the QGIS plugin Deepness and ONNX Runtime read."""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from geopipe.checkpoint.checkpoint import Checkpoint, file_hash
from geopipe.errors import CheckpointError, ConfigError
from geopipe.files import atomic_file
from geopipe.nets import RefinementRNN, SegmentationModel
from geopipe.nets.segmentation import center

OPSET = 17
"""The ONNX operator set by default: read by ONNX Runtime 1.13 and later."""
OPSETS = range(13, 21)
"""What can be asked for: torch's exporter by tracing writes no later ones."""
TOLERANCE = 1e-4
"""Largest difference of a probability to torch's that an export may have."""
_TILE_PX = 640
"""About the side of the tiles that Deepness cuts."""
_LARGEST_PX = 2048


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """What was written."""

    path: Path
    tile_px: int
    """Pixels a side of the image that the model takes, and of the scores that it gives."""
    overlap_percent: int
    overlap_px: int
    """Of neighbouring tiles: twice the halo."""
    max_difference: float
    """Of the probabilities of ONNX Runtime to those of torch."""
    metadata: Mapping[str, str]


class TileProbabilities(nn.Module):
    """Normalised image (1, bands, h, w) to probabilities (1, classes, h, w) of the same pixels.

    The image is continued by its mean, 0, as the map does beyond a scene. So the pixels that lie
    at least the halo inside the tile are those of any larger image, and at the border of a scene
    all are.
    """

    def __init__(self, model: Checkpoint) -> None:
        super().__init__()
        self.net: SegmentationModel = model.net
        self.temperature = model.temperature

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities of `image`."""
        size = torch.Size(int(n) for n in image.shape[-2:])  # constants for the tracing
        image = F.pad(image, (self.net.halo,) * 4)
        # As SegmentationModel computes them, without its blocks: a graph has one shape.
        scores: Tensor = self.net.base(image)
        if isinstance(self.net.postprocessor, RefinementRNN):
            scores = self.net.postprocessor(scores, center(image, scores.shape[-2:]))
        return torch.softmax(center(scores, size) / self.temperature, 1)


def tile_sizes(net: SegmentationModel) -> Iterator[tuple[int, int]]:
    """(pixels a side, percent): tiles that overlap by exactly twice the halo in Deepness.

    Deepness takes the overlap as a whole number of percent of the tile, so few sizes do.
    """
    overlap = 2 * net.halo
    for percent in range(1, 51):
        size, rest = divmod(100 * overlap, percent)
        # Deepness' own formula, in floats as it computes it.
        exact = int(size * percent / 100 * 2) // 2 == overlap
        if not rest and exact and size % net.stride == 0 and size <= _LARGEST_PX:
            yield size, percent


def export_onnx(
    model_path: Path, target: Path, *, tile_px: int | None = None, opset: int = OPSET
) -> OnnxExport:
    """Write the model at `model_path` as ONNX to `target`, whole or not at all.

    One input ``image`` (1, bands, tile, tile) float32, normalised by the mean and deviation that
    the metadata tell; one output ``scores`` (1, classes, tile, tile), the probabilities. Before
    the file appears, ONNX Runtime computes a tile that must agree with torch within TOLERANCE.

    Raises CheckpointError for a model that looks at patches, and ConfigError for a tile size that
    makes no exact overlap, for an opset that torch does not write, and without the extra `onnx`.
    """
    model = Checkpoint.load(model_path)
    if model.net.patchwise:
        raise CheckpointError(
            f"{model_path} classifies patches, which Deepness does not compute in tiles",
            "export a model of geopipe train or geopipe run",
        )
    if opset not in OPSETS:
        raise ConfigError(
            f"opset {opset} is not supported", f"give `opset` {OPSETS.start} to {OPSETS.stop - 1}"
        )
    _require_onnx()
    sizes = dict(tile_sizes(model.net))
    size = tile_px or min(sizes, key=lambda px: abs(px - _TILE_PX))
    if size not in sizes:
        near = sorted(sorted(sizes, key=lambda px: abs(px - size))[:4])
        raise ConfigError(
            f"tiles of {size} px cannot overlap by {2 * model.net.halo} px, a whole number of "
            "percent of them",
            f"give `tile_size` {', '.join(map(str, near))}",
        )
    metadata = deepness_metadata(model, model_path, size, sizes[size])
    with atomic_file(target) as part:
        _write(model, part, size, opset)
        _complete(part, (1, len(model.scheme), size, size), metadata)
        difference = _difference(model, part, size)
    return OnnxExport(target, size, sizes[size], 2 * model.net.halo, difference, metadata)


def deepness_metadata(
    model: Checkpoint, model_path: Path, tile_px: int, overlap_percent: int
) -> dict[str, str]:
    """The metadata that Deepness reads (JSON values), and the model's provenance.

    Deepness divides pixels by 255 before it standardizes them. Its documentation says
    ``tiles_size``, its code reads ``tile_size``: both are written. A threshold of 0 leaves the
    class to the highest score.
    """
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(model.scheme.names)},
        "resolution": round(model.gsd * 100, 6),
        "tile_size": tile_px,
        "tiles_size": tile_px,
        "tiles_overlap": overlap_percent,
        "standardization_mean": [x / 255 for x in model.mean],
        "standardization_std": [x / 255 for x in model.std],
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        "geopipe_model_sha256": file_hash(model_path),
        "credit": model.provenance.get("credit", ""),
    }
    return {key: json.dumps(value) for key, value in values.items()}


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the package {' and '.join(missing)} is not installed", "pip install geopipe[onnx]"
        )


def _write(model: Checkpoint, path: Path, size: int, opset: int) -> None:
    image = torch.zeros(1, model.bands, size, size)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # The exporter by tracing: the other one needs three more packages, takes a minute, and
            # the shapes of a tile are fixed.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                TileProbabilities(model).eval(),
                (image,),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=["image"],
                output_names=["scores"],
            )
    except (ValueError, RuntimeError) as e:  # also torch's own OnnxExporterError
        raise ConfigError(
            f"torch {torch.__version__} cannot write the model with opset {opset}: "
            f"{str(e).partition(chr(10))[0]}",
            f"leave out `opset`, which is then {OPSET}",
        ) from e


def _complete(path: Path, shape: tuple[int, ...], metadata: Mapping[str, str]) -> None:
    """Add the metadata and the output's shape, which Deepness looks at and tracing may lose."""
    import onnx

    graph = onnx.load(str(path))
    dims = graph.graph.output[0].type.tensor_type.shape
    del dims.dim[:]
    for n in shape:
        dims.dim.add().dim_value = n
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))


def _difference(model: Checkpoint, path: Path, size: int) -> float:
    """Largest difference of the probabilities to torch's, over a tile of noise."""
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, model.bands, size, size, generator=generator)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as e:  # its errors have no public base class
        raise ConfigError(
            f"ONNX Runtime {onnxruntime.__version__} does not read the file: {e}",
            f"give `opset` {OPSET}, or a newer onnxruntime",
        ) from e
    (scores,) = session.run(None, {"image": image.numpy()})
    with torch.inference_mode():
        expected = TileProbabilities(model).eval()(image).numpy()
    difference = float(np.abs(scores - expected).max())
    if difference > TOLERANCE:
        raise CheckpointError(
            f"ONNX Runtime's probabilities differ from torch's by {difference:.1e}, more than "
            f"{TOLERANCE:g}",
            "give another `opset`",
        )
    return difference
