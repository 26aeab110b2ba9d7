"""Train a patch model from folders of chips, or from scenes with labels."""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.weights import load_backbone, weights_hash
from geopipe.classes import IGNORE, ClassScheme, load_scheme
from geopipe.colors import default_colors
from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.files import check_new_file
from geopipe.labels import open_labels, warn_of_unknown_classes
from geopipe.learn.patches import (
    ChipRaster,
    PatchGrid,
    PatchPlan,
    PatchRaster,
    SceneRaster,
    embed,
    patch_net,
    train_patches,
)
from geopipe.metrics import Metrics
from geopipe.nets import PatchNet, SegmentationModel, SegmentVote
from geopipe.nets.backbones import backbone
from geopipe.raster import Scene
from geopipe.raster.chips import SUFFIXES, Chip, ChipFolder, require_bytes
from geopipe.raster.cog import read_scheme
from geopipe.raster.undeclared import warn_of_nodata

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchModelSpec:
    """The net to be trained."""

    backbone: str = "efficientnet_lite0"
    weights: str = "auto"
    """As for `load_backbone`."""
    sizes: tuple[int, ...] = (56, 112, 224)
    cell: int = 56
    side: int = 128
    gsd: float = 1.0
    """Metres per pixel of the patches."""
    size_weights: tuple[float, ...] | None = None
    """Weights of the sizes' probabilities; None: all alike."""
    segments: bool = True
    """Segments of the image outline the classes of the map."""

    def model(self, scheme: ClassScheme) -> Checkpoint:
        """The pretrained model before its first step.

        Raises ConfigError for sizes that make no net, CheckpointError without weights.
        """
        spec = backbone(self.backbone)
        try:
            net = PatchNet(
                3,
                len(scheme),
                backbone=self.backbone,
                sizes=self.sizes,
                cell=self.cell,
                side=self.side,
                weights=self.size_weights,
            )
        except ValueError as e:
            raise ConfigError(str(e)) from e
        net.backbone = load_backbone(self.backbone, self.weights, last_layer="pooled")
        with torch.no_grad():  # every class as likely at first
            net.head.weight.zero_()
            net.head.bias.zero_()
        vote = SegmentVote(len(scheme)) if self.segments else None
        return Checkpoint(
            SegmentationModel(net.eval(), vote),
            scheme,
            spec.mean,
            spec.std,
            "uint8",
            self.gsd,
            {"pretrained": {"backbone": self.backbone, "sha256": weights_hash(net.backbone)}},
        )


@dataclass(frozen=True)
class PatchSource:
    """Images to learn from or to look at: folders of chips, scenes, or both."""

    paths: tuple[str, ...]
    labels: Path | None = None
    """Of the only scene: vectors or a raster."""
    masks: Path | None = None
    """A folder with an image of class ids for each chip, at the same place within."""
    unlabelled: int = IGNORE
    """Id that says "not known" in masks."""
    skip_bad: bool = False
    bands: tuple[int, ...] | None = None
    """1-based numbers of those to read."""
    nodata: float | None = None
    """Of scenes."""

    def scheme(self) -> ClassScheme:
        """The classes that the images themselves tell: names of folders, or of a label raster."""
        names = [name for path in self.paths for name in _folder_names(path)]
        if names:
            return named_scheme(sorted({_plain(n): n for n in names}.values()))
        scheme = read_scheme(self.labels) if self.labels and self.labels.is_file() else None
        if scheme is None and any(Path(p).is_dir() for p in self.paths) and not self.masks:
            raise ConfigError(
                f"chips lie in {', '.join(self.paths)} itself, in no folder of a class",
                "give the folder above, or `masks` and `classes`",
            )
        if scheme is None:
            raise ConfigError(
                "nothing tells which classes there are",
                "give `classes`, and of a scene `labels`" if not self.labels else "give `classes`",
            )
        return scheme

    def rasters(self, scheme: ClassScheme, gsd: float, *, labelled: bool) -> list[PatchRaster]:
        """The images on the net's grid; of chips and scenes each is a plane.

        Raises SceneError for what cannot be read (`skip_bad`: chips are left out), LabelError for
        folders that are no class where `labelled`.
        """
        folders = [path for path in self.paths if Path(path).is_dir()]
        if self.labels and (folders or len(self.paths) > 1):
            raise LabelError(
                f"{self.labels} cannot belong to {', '.join(self.paths)}",
                "`labels` are of a single scene; chips have `masks`, or a folder per class",
            )
        rasters: list[PatchRaster] = []
        for path in self.paths:
            if path in folders:
                rasters += self._chips(Path(path), scheme, labelled=labelled)
            else:
                rasters.append(self._scene(path, scheme, gsd, labelled=labelled))
        return rasters

    def _scene(self, path: str, scheme: ClassScheme, gsd: float, *, labelled: bool) -> SceneRaster:
        scene = Scene.open(path, self.bands, self.nodata)
        require_bytes(path, scene.dtype)
        if len(scene.bands) != 3:
            raise SceneError(
                f"{path} gives {len(scene.bands)} bands, a pretrained net sees 3",
                "choose 3 with `bands`",
            )
        if labelled:
            warn_of_nodata([scene])
        source = open_labels(self.labels, scheme, scene.geobox) if self.labels else None
        if source:
            warn_of_unknown_classes(source, str(self.labels))
        if labelled and source is None:
            raise LabelError(f"{path} is a scene without labels", "give its `labels`")
        return SceneRaster(scene, gsd, source)

    def _chips(self, root: Path, scheme: ClassScheme, *, labelled: bool) -> list[ChipRaster]:
        masked = labelled and self.masks is not None

        def check(chip: Chip) -> None:
            require_bytes(chip.path, str(chip.read().dtype))
            if masked:
                Chip(self._mask(chip, root)).read(1)

        folder = ChipFolder.open(root, self.bands).readable(check, skip_bad=self.skip_bad).unique()
        ids = {_plain(name): i for i, name in enumerate(scheme.names)}
        unknown = [n for n in folder.class_names if _plain(n) not in ids]
        if labelled and not masked and (unknown or not folder.class_names):
            raise LabelError(
                f"{root} has folders that are no class of '{scheme.name}': "
                f"{', '.join(unknown) or 'chips without a folder'}",
                f"classes: {', '.join(scheme.names)}",
            )
        return [
            ChipRaster(
                c,
                3,
                ids.get(_plain(c.class_name), IGNORE) if labelled else IGNORE,
                self._mask(c, root) if masked else "",
                self.unlabelled,
            )
            for c in folder.chips
        ]

    def _mask(self, chip: Chip, root: Path) -> str:
        assert self.masks is not None
        base_path = self.masks / Path(chip.path).relative_to(root)
        kinds = sorted(SUFFIXES | {base_path.suffix})
        mask_paths = [p for kind in kinds if (p := base_path.with_suffix(kind)).is_file()]
        if len(mask_paths) != 1:
            raise LabelError(
                f"{len(mask_paths)} masks {base_path.with_suffix('')}.* for {chip.path}",
                "give one image of class ids for each chip, in folders of the same names",
            )
        return str(mask_paths[0])


def _folder_names(path: str) -> tuple[str, ...]:
    return ChipFolder.open(Path(path)).class_names if Path(path).is_dir() else ()


def _plain(name: str) -> str:
    """Names of folders and classes are compared without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", name.casefold())


def named_scheme(names: Sequence[str]) -> ClassScheme:
    """Classes of these names; as the shipped scheme ``land-cover`` where they are its own."""
    shipped = load_scheme("land-cover")
    if {_plain(n) for n in names} == {_plain(n) for n in shipped.names}:
        return shipped
    if len(names) < 2:
        raise LabelError(
            f"all chips are of one class, {names[0]}",
            "give a folder for each of two or more",
        )
    colors = zip(names, default_colors(names), strict=True)
    classes = [{"name": name, "color": color} for name, color in colors]
    return ClassScheme.from_dict({"name": "folders", "classes": classes})


@dataclass(frozen=True)
class PatchTraining:
    """How a patch model is trained, and judged on cells held out."""

    design: PatchModelSpec = field(default_factory=PatchModelSpec)
    plan: PatchPlan = field(default_factory=PatchPlan)
    hold_out: float = 0.2
    """Share of the images (of a single scene: of its rows) that is not learnt from."""
    device: str = "cpu"
    cache: Path | None = None
    """Where features are kept."""


@dataclass(frozen=True)
class PatchEvaluation:
    """What a model says of labelled cells."""

    sizes: dict[int, Metrics]
    """Size of patch -> cells right and wrong by it alone."""
    summed: Metrics
    """By all sizes together."""

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "sizes": {str(size): m.to_dict() for size, m in self.sizes.items()},
            "all": self.summed.to_dict(),
        }


def train_patch_model(
    source: PatchSource,
    scheme: ClassScheme,
    training: PatchTraining,
    out: Path,
    *,
    overwrite: bool = False,
) -> PatchEvaluation:
    """Train a patch model, save it as `out` (a Checkpoint) and judge it on held-out cells.

    A training that was killed goes on when the same command is given again.
    """
    check_new_file(out, overwrite=overwrite)
    design, plan = training.design, training.plan
    patches = PatchGrid.of(source.rasters(scheme, design.gsd, labelled=True), design.cell)
    patches = patches.subset(patches.ids != IGNORE)
    train, test = split(patches, training.hold_out, plan.seed, design)
    model = design.model(scheme)
    provenance = {
        "design": asdict(design),
        "hold_out": training.hold_out,
        "hold_out_seed": plan.seed,
        "source": source_digest(patches),
        "bands": source.bands,
        "nodata": source.nodata,
    }
    key = key_of(
        provenance, asdict(plan), model.provenance, patches.positions[train], patches.ids[train]
    )
    trained, _ = train_patches(
        model,
        patches.subset(train),
        plan,
        out=out,
        key=key,
        device=training.device,
        provenance=provenance,
    )
    trained.net.to(training.device)
    return evaluate_patch_model(trained, file_hash(out), patches.subset(test), training)


def split(
    patches: PatchGrid, share: float, seed: int, design: PatchModelSpec
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool each: cells to learn from and cells held out; LabelError when either is empty."""
    train, test = patches.split(share, seed, max(design.sizes))
    if not train.any() or not test.any():
        raise LabelError(
            f"{len(patches)} labelled cells leave {train.sum()} to learn from and {test.sum()} to "
            "judge by",
            "give more images, or a smaller `cell` where chips are smaller than half of one",
        )
    return train, test


def evaluate_patch_model(
    model: Checkpoint, digest: str, patches: PatchGrid, training: PatchTraining
) -> PatchEvaluation:
    """Compare what the model, on its device, says of labelled cells with their classes."""
    embeddings = embed(model, digest, patches, cache=training.cache, device=training.device)
    net, names = patch_net(model), model.scheme.names
    by_size = embeddings.probabilities.argmax(2)
    sizes = {
        size: Metrics.of(names, patches.ids, by_size[:, i].astype(np.uint8))
        for i, size in enumerate(net.sizes)
    }
    best = embeddings.summed(net.weights).argmax(1).astype(np.uint8)
    return PatchEvaluation(sizes, Metrics.of(names, patches.ids, best))


def source_digest(patches: PatchGrid) -> str:
    """sha256 over names and places of labelled cells: whether two runs saw the same source."""
    names = "\n".join("/".join(Path(p.path).parts[-2:]) for p in patches.rasters)
    return key_of(names, patches.positions, patches.ids)


def key_of(*values: object) -> str:
    """sha256 of JSON values and arrays."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
        else:
            digest.update(json.dumps(value, sort_keys=True, default=str).encode())
    return digest.hexdigest()
