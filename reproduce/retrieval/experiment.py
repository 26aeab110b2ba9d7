"""Images of a folder per class, the networks whose weights are here, and features kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from geopipe.errors import ConfigError
from geopipe.nets.backbones import BACKBONES
from geopipe.raster.chips import ChipFolder
from geopipe.retrieve import EmbeddingConfig, EmbeddingModel
from geopipe.retrieve.batches import (
    FILES,
    Batch,
    BatchJob,
    FileItem,
    load_vectors,
    read_file,
    stamp,
)
from geopipe.validation import read_json

FILES_OF = {
    "googlenet": "googlenet*.safetensors",
    "resnet18": "resnet18*.safetensors",
    "alexnet": "alexnet*.*",
    "vgg16": "vgg16*.*",
    "vgg19": "vgg19*.*",
    "caffenet": "caffenet*.*",
    "cnn_m": "cnn_m*.*",
    "mobilenet_v2": "mobilenetv2*.pt",
    "resnet50": "resnet50*.*",
}
"""Names that weights have in the folders that are looked into."""
_KINDS = (".safetensors", ".pth", ".pt", ".ckpt")
PAPERS = ("pool5", "fc6", "fc7")
_TIMED = 8
"""Images whose way through a net is timed."""


@dataclass(frozen=True)
class Net:
    """A network whose weights are here."""

    backbone: str
    weights: str

    def features(self) -> Iterator[EmbeddingConfig]:
        """The features its weights hold: the paper's, and of nets without them the last ones."""
        from geopipe.checkpoint.weights import load_backbone

        available = load_backbone(self.backbone, self.weights).features
        published = [f for f in PAPERS if f in available]
        yield from (EmbeddingConfig(self.backbone, f) for f in published)
        yield EmbeddingConfig(self.backbone, "pooled")
        if not published:
            yield EmbeddingConfig(self.backbone, "c5")


def nets(folders: list[Path]) -> list[Net]:
    """Those of the table that a package, or a file in one of `folders`, has the weights of."""
    result = [Net("efficientnet_lite0", "auto")]
    for name in BACKBONES:
        files = [
            p
            for folder in folders
            for p in sorted(folder.glob(FILES_OF.get(name, "-")))
            if p.suffix in _KINDS
        ]
        if files:
            result.append(Net(name, str(files[0])))
    return result


def data_folder(name: str) -> Path:
    """A folder of the real data."""
    return Path(os.environ.get("GEOPIPE_DATA", "../shared/data")) / name


@dataclass(frozen=True)
class Images:
    """Images in a folder per class."""

    root: Path
    max_per_class: int | None = None
    """Of each class, where not all."""

    @cached_property
    def items(self) -> list[FileItem]:
        """The files, in order."""
        counts: dict[str, int] = {}
        selected = []
        for chip in ChipFolder.open(self.root).chips:
            counts[chip.class_name] = counts.get(chip.class_name, 0) + 1
            if chip.class_name and (
                self.max_per_class is None or counts[chip.class_name] <= self.max_per_class
            ):
                selected.append(FileItem(chip.path, stamp(chip.path), chip.class_name))
        return selected

    @property
    def classes(self) -> list[str]:
        """The class of each."""
        return [i.class_name for i in self.items]


@dataclass(frozen=True)
class Described:
    """The vectors of images, and what they cost."""

    vectors: np.ndarray
    ms: float
    """Of a processor core per image, without reading it."""


def embed_images(images: Images, recipe: EmbeddingConfig, weights: str, cache: Path) -> Described:
    """Vectors of all images, piece by piece; what is in `cache` is not computed again."""
    cache.mkdir(parents=True, exist_ok=True)
    model = EmbeddingModel(recipe, weights).loaded()
    job = BatchJob(model, str(cache))
    parts = []
    for number in range(0, len(images.items), FILES):
        done = job(Batch(number, files=tuple(images.items[number : number + FILES])))
        vectors = load_vectors(Path(done.file), len(done.rows))
        assert vectors is not None
        parts.append(vectors)
    return Described(np.concatenate(parts), _cost(model, images, cache))


def _cost(model: EmbeddingModel, images: Images, cache: Path) -> float:
    """Milliseconds of a core that an image takes; measured once, whatever else the machine does."""
    identity = json.dumps(model.identity(), sort_keys=True).encode()
    cost_file = cache / f"{hashlib.sha256(identity).hexdigest()}.core-ms"
    if not cost_file.exists():
        pixels = [read_file(item)[1] for item in images.items[:_TIMED]]
        model.embed(pixels[:1])  # what is loaded and made once
        took = []
        for _ in range(3):
            start = time.process_time()
            model.embed(pixels)
            took.append(time.process_time() - start)
        cost_file.write_text(str(1e3 * min(took) / len(pixels)))
    return read_json(cost_file, float, ConfigError, "remove it; it is measured again")
