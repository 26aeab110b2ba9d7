"""The STAC item of a model, with the machine learning model extension (MLM) 1.4.0."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from odc.geo.geobox import GeoBox

from geopipe.checkpoint.checkpoint import Checkpoint
from geopipe.checkpoint.model_file import ModelFile
from geopipe.files import atomic_file
from geopipe.nets import SegmentationModel
from geopipe.raster.footprint import footprint
from geopipe.raster.stac import class_objects, relative_href

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
_ODBL = "https://opendatacommons.org/licenses/odbl/1-0/"
_PLANS = ("base", "refinement", "finetune", "design", "transfer")
"""What in a model's provenance says how it was trained."""


def model_item_path(model_path: Path) -> Path:
    """Where the item of a model is: ``town.stac.json`` beside ``town.safetensors``."""
    return model_path.with_suffix(".stac.json")


def write_model_item(
    model_path: Path,
    *,
    place: GeoBox | None = None,
    training_data: Mapping[str, str] | None = None,
    derived_from: Sequence[Path] = (),
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Write the item of the model at `model_path` beside it and return its path.

    All but the arguments is taken from the Checkpoint. `place`: the grid of the scene that it was
    trained on; `training_data`: names of scenes and labels by what they are; `derived_from`: the
    models that it was made from; `metrics`: its accuracy on an area that it was not trained on.
    Raises CheckpointError where it cannot be written.
    """
    file, path = ModelFile.open(model_path), model_item_path(model_path)
    model = file.checkpoint
    stat = model_path.stat()
    bands = [{"name": name, "data_type": model.dtype} for name in _band_names(model.bands)]
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, _FILE],
        "id": f"{model_path.stem}-{file.sha256[:12]}",
        "geometry": None,
        "properties": {
            "datetime": datetime.fromtimestamp(int(stat.st_mtime), UTC).isoformat()[:19] + "Z",
            "title": f"{', '.join(model.scheme.names)} at {model.gsd:g} m",
            "license": "other",
            "gsd": model.gsd,
            "bands": bands,
            **_mlm(model, model_path),
        },
        "links": _links(model, path.parent, derived_from),
        "assets": {
            "model": {
                "href": relative_href(model_path, path.parent),
                "title": "Weights, classes, normalization and provenance (safetensors)",
                "type": "application/octet-stream; application=safetensors",
                "roles": ["mlm:model", "mlm:weights", "data"],
                "bands": bands,  # STAC wants them here where the item has them
                "mlm:artifact_type": "safetensors.torch.save_file",
                "file:size": stat.st_size,
                "file:checksum": f"1220{file.sha256}",  # a multihash: sha256, 32 bytes
            }
        },
    }
    properties = item["properties"]
    if place is not None:
        item["geometry"], item["bbox"] = footprint(place)
    if training_data:
        properties["geopipe:training_data"] = dict(training_data)
    if credit := model.provenance.get("credit"):
        properties["geopipe:credit"] = credit
    if metrics:
        properties["geopipe:metrics"] = dict(metrics)
    text = json.dumps(item, indent=2, ensure_ascii=False) + "\n"
    if path.is_file() and path.read_bytes() == text.encode():
        return path
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _mlm(model: Checkpoint, model_path: Path) -> dict[str, Any]:
    """The properties of the extension."""
    tasks = ["classification" if model.net.patchwise else "semantic-segmentation"]
    plans = {key: model.provenance[key] for key in _PLANS if key in model.provenance}
    order = ["batch", "channel", "height", "width"]
    images, start = model.net.base.pretrained_on, model.provenance.get("derived_from")
    pretrained = [images] if images else []
    if isinstance(start, dict):
        pretrained.append(f"the geopipe model of sha256 {start.get('sha256')}")
    properties: dict[str, Any] = {
        "mlm:name": f"geopipe {_plain(model_path.stem)} model",
        "mlm:architecture": _architecture(model.net),
        "mlm:framework": "PyTorch",
        "mlm:framework_version": torch.__version__.partition("+")[0],
        "mlm:tasks": tasks,
        "mlm:total_parameters": sum(p.numel() for p in model.net.parameters()),
        "mlm:pretrained": bool(pretrained),
        "mlm:pretrained_source": " and ".join(pretrained) or None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [
            {
                "name": "image",
                "description": f"Pixels of {model.gsd:g} m, of the scenes' {model.dtype} units, "
                f"with {model.net.halo} pixels of context; sizes are multiples of "
                f"{model.net.stride}",
                "bands": _band_names(model.bands),
                "input": {
                    "shape": [-1, model.bands, -1, -1],
                    "dim_order": order,
                    "data_type": "float32",
                },
                "value_scaling": [
                    {"type": "z-score", "mean": mean, "stddev": std}
                    for mean, std in zip(model.mean, model.std, strict=True)
                ],
                "resize_type": None,
            }
        ],
        "mlm:output": [
            {
                "name": "scores",
                "tasks": tasks,
                "result": {
                    "shape": [-1, len(model.scheme), -1, -1],
                    "dim_order": order,
                    "data_type": "float32",
                },
                "description": "A score of each class; the highest decides, softmax makes "
                "probabilities of them",
                "classification:classes": class_objects(model.scheme),
            }
        ],
    }
    if plans:
        properties["mlm:hyperparameters"] = plans
    return properties


def _architecture(net: SegmentationModel) -> str:
    parts = [type(net.base).__name__]
    if net.postprocessor is not None:
        parts.append(type(net.postprocessor).__name__)
    return " + ".join(parts)


def _band_names(count: int) -> list[str]:
    return ["red", "green", "blue"] if count == 3 else [f"band{i}" for i in range(1, count + 1)]


def _plain(name: str) -> str:
    """The letters of a name that the extension allows."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)


def _links(model: Checkpoint, folder: Path, derived_from: Sequence[Path]) -> list[dict[str, str]]:
    links = [
        {
            "rel": "derived_from",
            "href": relative_href(model_item_path(parent), folder),
            "type": "application/geo+json",
        }
        for parent in derived_from
    ]
    if "OpenStreetMap" in str(model.provenance.get("credit", "")):
        title = "Licence of the labels that it was trained on"
        links.append({"rel": "license", "href": _ODBL, "title": title})
    return links
