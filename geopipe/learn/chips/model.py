"""Train a scene classifier on a folder of labelled chips."""

import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.stac_item import write_model_item
from geopipe.checkpoint.weights import load_backbone, weights_hash
from geopipe.classes import IGNORE, ClassScheme
from geopipe.colors import default_colors
from geopipe.errors import ConfigError, LabelError
from geopipe.files import check_new_file, work_folder
from geopipe.learn.chips import (
    ChipTrainingPlan,
    DecodedChips,
    LabelledChips,
    Samples,
    chip_net,
    frozen_features,
    predict,
    shares,
    train_network,
    zero,
)
from geopipe.metrics import Metrics
from geopipe.nets import SegmentationModel
from geopipe.nets.backbones import BackboneNet
from geopipe.nets.chips import AttentionNet, BackboneFeature, ChipNet, ModelSpec
from geopipe.raster.chip_location import ground_sample_distance
from geopipe.raster.chips import Chip, ChipFolder

log = logging.getLogger(__name__)

_HIDDEN = 1024
"""Units of the fully connected layer behind two fused nets."""


@dataclass(frozen=True)
class ChipModelSpec:
    """The net to be trained."""

    model: str = "finetune:efficientnet_lite0"
    """See `ModelSpec`."""
    weights: tuple[str, ...] = ("auto",)
    """As for `load_backbone`: one for all, or ``NET=SOURCE`` each."""
    side: int = 224
    """Pixels that a chip is resized to."""
    chip: int | None = None
    """Pixels of a chip of a scene; None: the median side of the training chips."""
    step: int | None = None
    """Pixels from a chip of a scene to the next; None: as many."""
    gsd: float | None = None
    """Metres per pixel of the chips; None: by their places, if they have any."""
    flat: bool = False
    """DDRL-AM classifies all values of the product of its streams, not their means."""

    def __post_init__(self) -> None:
        if self.flat and self.model_spec.kind != "ddrl-am":
            raise ConfigError(
                f"{self.model} has no product of streams to take flat", "`flat` is for ddrl-am"
            )

    @property
    def model_spec(self) -> ModelSpec:
        """What it is made of; ConfigError for a word that says nothing."""
        return ModelSpec.parse(self.model)

    def backbones(self) -> dict[BackboneFeature, BackboneNet]:
        """The pretrained parts; raises CheckpointError where weights cannot be had."""
        weights_by_backbone = {k: v for k, s, v in (w.partition("=") for w in self.weights) if s}
        plain = [w for w in self.weights if "=" not in w]
        parts = self.model_spec.parts
        if len(plain) > 1:
            raise ConfigError(
                f"{' and '.join(plain)} are weights of which net?", "give each as NET=SOURCE"
            )
        if unknown := set(weights_by_backbone) - {p.backbone for p in parts}:
            raise ConfigError(f"weights of {', '.join(sorted(unknown))}: {self.model} has no such")
        return {
            p: load_backbone(
                p.backbone,
                weights_by_backbone.get(p.backbone, plain[-1] if plain else "auto"),
                last_layer=p.feature,
            )
            for p in parts
        }

    def start(
        self,
        scheme: ClassScheme,
        parts: Mapping[BackboneFeature, BackboneNet],
        sizes: tuple[int, float | None],
        *,
        frozen: bool = False,
        seed: int = 0,
    ) -> Checkpoint:
        """The model before its first step; `sizes`: pixels and GSD of the training chips."""
        chip = self.chip or sizes[0]
        model_spec, spec = self.model_spec, parts[self.model_spec.parts[0]].spec
        hidden = _HIDDEN if model_spec.kind == "fusion" and not frozen else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                net = ChipNet(
                    3,
                    len(scheme),
                    model=str(model_spec),
                    chip=chip,
                    step=self.step or chip,
                    side=self.side,
                    hidden=hidden,
                    flat=self.flat,
                )
            except ValueError as e:
                raise ConfigError(str(e)) from e
        for branch in net.backbone.pretrained:
            branch.net.load_state_dict(parts[branch.part].state_dict())
        if isinstance(net.backbone, AttentionNet):
            net.backbone.attention_backbone.net.load_state_dict(net.backbone.rgb.net.state_dict())
            zero(net.backbone.looker_head)
        zero(net.backbone.head)
        gsd = self.gsd or sizes[1]
        provenance = {
            "pretrained": {p.backbone: weights_hash(b) for p, b in parts.items()},
            "gsd_known": gsd is not None,
        }
        return Checkpoint(
            SegmentationModel(net.eval()),
            scheme,
            spec.mean,
            spec.std,
            "uint8",
            gsd or 1.0,
            provenance,
        )


@dataclass(frozen=True)
class ChipTraining:
    """How scene classifiers are trained."""

    design: ChipModelSpec = field(default_factory=ChipModelSpec)
    plan: ChipTrainingPlan = field(default_factory=ChipTrainingPlan)
    frozen: bool = False
    """Pretrained parts stay as they are; a logistic regression classifies their features."""
    skip_bad: bool = False
    device: str = "cpu"
    cache: Path | None = None
    """Where decoded chips, features and trained nets are kept."""

    def __post_init__(self) -> None:
        if self.frozen and (self.plan.center or self.plan.attention != "predicted"):
            raise ConfigError(
                "a net with a center loss or attention maps learns, it cannot stay frozen",
                "leave one of the two out",
            )

    def model(
        self, start: Checkpoint, samples: Samples, plan: ChipTrainingPlan, folder: Path
    ) -> Checkpoint:
        """`start`, trained on the samples."""
        if self.frozen:
            return frozen_features(
                start, samples, folder=folder, device=self.device, seed=plan.seed
            )
        return train_network(start, samples, plan, folder=folder, device=self.device)


@dataclass(frozen=True, eq=False)
class ChipLabels:
    """The chips below a folder and their classes."""

    root: Path
    scheme: ClassScheme
    all: Samples
    gsd: float | None

    @property
    def division(self) -> LabelledChips:
        """What a split goes by."""
        return LabelledChips(self.all.ids, self.all.decoded.digests, self.scheme.names)

    @property
    def sizes(self) -> tuple[int, float | None]:
        """Median side of the chips, rounded to an even number, and their GSD."""
        return max(2, round(float(np.median(self.all.decoded.shapes)) / 2) * 2), self.gsd

    def rows(self, rows: np.ndarray) -> Samples:
        """Some of the chips."""
        return Samples(self.all.decoded, self.all.ids, rows)


def open_labels_of(root: Path, side: int, folder: Path, *, skip_bad: bool) -> ChipLabels:
    """The chips below `root`, each of the class whose name the folder it lies in bears.

    Decodes all, into `folder`. Raises LabelError for chips without a folder, fewer than two
    classes, or names that are no text; SceneError for chips that cannot be read.
    """
    chip_folder = ChipFolder.open(root)
    unlabelled = [c.path for c in chip_folder.chips if not c.class_name]
    if unlabelled:
        raise LabelError(
            f"{len(unlabelled)} of {len(chip_folder.chips)} chips lie in {root} itself, such as "
            f"{Path(unlabelled[0]).name}: they have no class",
            "give a folder that holds a folder for each class, and nothing else",
        )
    names = sorted({_name(n) for n in chip_folder.class_names})
    if len(names) < 2:
        raise LabelError(
            f"all {len(chip_folder.chips)} chips in {root} are of one class, {names[0]}",
            "give a folder that holds a folder for each of two classes or more",
        )
    for empty in sorted(p.name for p in root.iterdir() if p.is_dir() and not any(p.iterdir())):
        log.warning("the folder %s in %s is empty, so it is no class", empty, root)
    scheme = scheme_of(names)
    decoded = DecodedChips.of(chip_folder.chips, side, folder, skip_bad=skip_bad)
    ids = np.array([names.index(_name(c.class_name)) for c in decoded.chips], np.uint8)
    empty_classes = [name for i, name in enumerate(names) if not (ids == i).any()]
    if empty_classes:
        raise LabelError(
            f"no chip of {', '.join(empty_classes)} can be read", "leave the folder out"
        )
    _warn_of_duplicates(decoded, ids, names)
    samples = Samples(decoded, ids, np.arange(len(ids)))
    return ChipLabels(root, scheme, samples, ground_sample_distance(decoded.chips))


def scheme_of(names: list[str]) -> ClassScheme:
    """Classes of these names, each with a colour of its own that fits its name."""
    if len(names) > IGNORE:
        raise LabelError(f"{len(names)} classes", f"at most {IGNORE}")
    colors = zip(names, default_colors(names), strict=True)
    classes = [{"name": name, "color": color} for name, color in colors]
    return ClassScheme.from_dict({"name": "scenes", "classes": classes})


def path_of(chip: Chip, root: Path) -> str:
    """Where a chip lies below `root`, with slashes."""
    return Path(chip.path).relative_to(root).as_posix()


def _name(folder: str) -> str:
    """A folder's name as text: composed letters, so that é is é on every file system."""
    try:
        folder.encode()
    except UnicodeEncodeError:
        display_name = folder.encode(errors="surrogateescape").decode(errors="replace")
        raise LabelError(
            f"the name of the folder {display_name} is no text (UTF-8)", "rename it"
        ) from None
    return unicodedata.normalize("NFC", folder).strip() or "(blank)"


def _warn_of_duplicates(decoded: DecodedChips, ids: np.ndarray, names: list[str]) -> None:
    classes: dict[str, set[str]] = {}
    for digest, i in zip(decoded.digests, ids.tolist(), strict=True):
        classes.setdefault(digest, set()).add(names[i])
    conflicts = [sorted(c) for c in classes.values() if len(c) > 1]
    if conflicts:
        log.warning(
            "%d chips lie, with equal pixels, in folders of several classes, such as %s",
            len(conflicts),
            " and ".join(conflicts[0]),
        )


def train_chip_model(
    root: Path,
    training: ChipTraining,
    out: Path,
    *,
    hold_out: float = 0.0,
    overwrite: bool = False,
) -> tuple[Checkpoint, Metrics | None]:
    """Train on the chips below `root` and save the model as `out`.

    `hold_out`: share of each class that is not learnt from; the model is judged by it. A training
    that was killed goes on when the same command is given again.
    """
    check_new_file(out, overwrite=overwrite)
    design, plan = training.design, training.plan
    parts = design.backbones()
    with work_folder(out, training.cache) as work:
        labels = open_labels_of(root, design.side, work, skip_bad=training.skip_bad)
        rows, test_rows = labels.all.rows, None
        if hold_out:
            (split,) = shares(labels.division, 1 - hold_out, [plan.seed])
            rows, test_rows = split.train, split.test
        start = design.start(
            labels.scheme, parts, labels.sizes, frozen=training.frozen, seed=plan.seed
        )
        samples = labels.rows(rows)
        model = training.model(start, samples, plan, work)
        counts = np.bincount(labels.all.ids[rows], minlength=len(labels.scheme)).tolist()
        provenance = {
            "design": asdict(design),
            "samples": samples.key(),
            "hold_out": hold_out,
            "chips": dict(zip(labels.scheme.names, counts, strict=True)),
        }
        model = model.with_net(model.net, provenance)
        model.save(out)
        write_model_item(out)
        metrics = None
        if test_rows is not None:
            predictions = predict(model, labels.all.decoded, test_rows, device=training.device)
            metrics = Metrics.of(labels.scheme.names, labels.all.ids[test_rows], predictions.best)
    return model, metrics


def load_chip_model(path: Path) -> Checkpoint:
    """A Checkpoint whose net classifies chips; raises ConfigError for another."""
    model = Checkpoint.load(path, "geopipe chips train")
    chip_net(model)
    return model
