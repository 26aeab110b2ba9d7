"""Cross-validated accuracy of a scene classifier: folds or repeated random splits."""

import hashlib
import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import save_file

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import weights_hash
from geopipe.errors import ConfigError, SceneError
from geopipe.files import atomic_file, atomic_folder, refuse_existing, work_folder
from geopipe.learn.chips import ChipTrainingPlan, Predictions, Split, folds, predict, shares
from geopipe.learn.chips.figures import class_bars, confusion, scatter, tsne
from geopipe.learn.chips.model import ChipLabels, ChipTraining, open_labels_of, path_of
from geopipe.metrics import Metrics
from geopipe.nets.chips import ChipNet
from geopipe.progress import progress
from geopipe.tensors import TensorFile

_FILES = (
    "evaluation.json",
    "evaluation.md",
    "predictions.csv",
    "confusion.png",
    "classes.png",
    "tsne.png",
)


@dataclass(frozen=True)
class Protocol:
    """How chips are divided."""

    folds: int = 5
    """Cross-validation; 0: random splits instead."""
    share: float = 0.8
    """Of random splits, what is learnt from."""
    repeats: int = 5
    """Random splits."""
    seed: int = 0
    tsne: bool = True
    """Draw the features of the first split's held-out chips."""

    def splits(self, labels: ChipLabels) -> list[Split]:
        """The divisions; LabelError where classes are too small for them."""
        if self.folds:
            return folds(labels.division, self.folds, self.seed)
        if self.repeats < 1:
            raise ConfigError(f"{self.repeats} repeats", "at least 1")
        return shares(labels.division, self.share, self.seeds)

    @property
    def seeds(self) -> list[int]:
        """Of each split: what the nets start from and in which order they see chips."""
        return [self.seed + (0 if self.folds else i) for i in range(self.folds or self.repeats)]

    def __str__(self) -> str:
        if self.folds:
            return f"{self.folds}-fold cross-validation, seed {self.seed}"
        seeds = ", ".join(map(str, self.seeds))
        return f"{self.repeats} random splits, {self.share:.0%} to learn from, seeds {seeds}"


@dataclass(frozen=True, eq=False)
class Fold:
    """What a model said of the chips it did not learn from."""

    test: np.ndarray
    ids: np.ndarray
    predictions: Predictions

    def metrics(self, names: Sequence[str]) -> Metrics:
        """Right and wrong, by class."""
        return Metrics.of(names, self.ids, self.predictions.best)


@dataclass(frozen=True, eq=False)
class ChipEvaluation:
    """The figures of all folds."""

    names: tuple[str, ...]
    folds: tuple[Metrics, ...]

    @property
    def pooled(self) -> Metrics:
        """All folds in one matrix."""
        total = Metrics.empty(self.names)
        for fold in self.folds:
            total += fold
        return total

    def mean_std(self, figure: str) -> tuple[float, float]:
        """Mean and standard deviation over the folds of `overall_accuracy` or `kappa`."""
        values = [float(getattr(fold, figure)) for fold in self.folds]
        return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    def by_class(self) -> np.ndarray:
        """(folds, classes): share of each class's chips that are right; nan where it has none."""
        return np.array([fold.producers_accuracy for fold in self.folds])


def evaluate_chips(
    root: Path, training: ChipTraining, protocol: Protocol, out: Path, *, overwrite: bool = False
) -> ChipEvaluation:
    """Train and judge a model on every split of the chips below `root`.

    Writes into `out`: ``evaluation.json`` and ``.md``, ``predictions.csv``, ``confusion.png``,
    ``classes.png`` and ``tsne.png``. A run that was killed goes on with the fold it was in.
    """
    refuse_existing(out, _FILES, overwrite=overwrite)
    design = training.design
    parts = design.backbones()
    with work_folder(out, training.cache) as work:
        labels = open_labels_of(root, design.side, work, skip_bad=training.skip_bad)
        splits = protocol.splits(labels)

        def start(seed: int) -> Checkpoint:
            return design.start(
                labels.scheme, parts, labels.sizes, frozen=training.frozen, seed=seed
            )

        done = []
        with progress("folds", len(splits)) as advance:
            for split, seed in zip(splits, protocol.seeds, strict=True):
                plan = replace(training.plan, seed=seed)
                done.append(_fold(labels, training, start(seed), split, plan, work))
                advance()
        evaluation = ChipEvaluation(
            labels.scheme.names, tuple(f.metrics(labels.scheme.names) for f in done)
        )
        embeddings = {}
        if protocol.tsne:
            seed = protocol.seeds[0]
            first, plan = start(seed), replace(training.plan, seed=seed)
            embeddings = dict(_features(labels, training, first, splits[0], plan, work, done[0]))
        with atomic_folder(out, _FILES, overwrite=overwrite) as part:
            _write(part, evaluation, labels, training, protocol, done, embeddings)
    return evaluation


def _fold(
    labels: ChipLabels,
    training: ChipTraining,
    start: Checkpoint,
    split: Split,
    plan: ChipTrainingPlan,
    work: Path,
) -> Fold:
    """One split; what it gave is kept in `work` under the name of all that decides it."""
    net = start.net.base
    assert isinstance(net, ChipNet)
    samples, truth = labels.rows(split.train), labels.rows(split.test)
    key = hashlib.sha256(
        json.dumps(
            [
                weights_hash(net),
                net.architecture,
                asdict(plan),
                training.frozen,
                samples.key(),
                truth.key(),
                training.device.partition(":")[0],
            ],
            sort_keys=True,
        ).encode()
    ).hexdigest()
    file, ids = work / f"fold-{key[:32]}.safetensors", labels.all.ids[split.test]
    with suppress(SceneError):  # none, or a damaged one: computed again
        cached = TensorFile.open(file, SceneError).arrays(
            {
                "features": ("F32", (len(ids), None)),
                "probabilities": ("F32", (len(ids), len(labels.scheme))),
            }
        )
        return Fold(split.test, ids, Predictions(cached["features"], cached["probabilities"]))
    model = training.model(start, samples, plan, work)
    known_ids = labels.all.ids if plan.attention == "true" else None
    predictions = predict(model, labels.all.decoded, split.test, known_ids, training.device)
    with atomic_file(file, SafetensorError) as part:
        save_file(
            {"features": predictions.features, "probabilities": predictions.probabilities}, part
        )
    return Fold(split.test, ids, predictions)


def _features(
    labels: ChipLabels,
    training: ChipTraining,
    start: Checkpoint,
    split: Split,
    plan: ChipTrainingPlan,
    work: Path,
    first: Fold,
) -> Iterator[tuple[str, np.ndarray]]:
    """t-SNE (n, 2) of the first split's held-out chips; with a center loss, without it too."""
    if plan.center:
        plain_plan = replace(plan, center=0.0, center_lr=0.5)
        plain_fold = _fold(labels, training, start, split, plain_plan, work)
        yield "without center loss", tsne(plain_fold.predictions.features, plan.seed)
        yield "with center loss", tsne(first.predictions.features, plan.seed)
    else:
        yield "features", tsne(first.predictions.features, plan.seed)


def _write(
    part: Path,
    evaluation: ChipEvaluation,
    labels: ChipLabels,
    training: ChipTraining,
    protocol: Protocol,
    done: Sequence[Fold],
    embeddings: dict[str, np.ndarray],
) -> None:
    confusion(part / "confusion.png", evaluation.pooled)
    class_bars(part / "classes.png", evaluation.names, evaluation.by_class())
    if embeddings:
        scatter(part / "tsne.png", embeddings, done[0].ids, labels.scheme)
    _predictions(labels, done).to_csv(part / "predictions.csv", index=False, float_format="%.4f")
    report = to_dict(evaluation, training, protocol, labels)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    (part / "evaluation.json").write_text(text, encoding="utf-8")
    (part / "evaluation.md").write_text(
        to_markdown(evaluation, report, has_figures=bool(embeddings)), "utf-8"
    )


def _predictions(labels: ChipLabels, done: Sequence[Fold]) -> pd.DataFrame:
    names = np.array(labels.scheme.names, dtype=object)
    chips = labels.all.decoded.chips
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "fold": number,
                    "chip": [path_of(chips[i], labels.root) for i in fold.test],
                    "class": names[fold.ids],
                    "predicted": names[fold.predictions.best],
                    "probability": fold.predictions.probabilities.max(1),
                }
            )
            for number, fold in enumerate(done, 1)
        ]
    )


def to_dict(
    evaluation: ChipEvaluation, training: ChipTraining, protocol: Protocol, labels: ChipLabels
) -> dict[str, Any]:
    """Plain values, for JSON."""
    accuracy, kappa = evaluation.mean_std("overall_accuracy"), evaluation.mean_std("kappa")
    by_class = evaluation.by_class()
    return {
        "model": str(training.design.model_spec),
        "frozen": training.frozen,
        "design": asdict(training.design),
        "plan": asdict(training.plan),
        "protocol": asdict(protocol) | {"says": str(protocol)},
        "chips": len(labels.all.ids),
        "different_chips": len(set(labels.all.decoded.digests)),
        "left_out": list(labels.all.decoded.bad),
        "overall_accuracy": {
            "mean": accuracy[0],
            "deviation": accuracy[1],
            "folds": [m.overall_accuracy for m in evaluation.folds],
        },
        "kappa": {"mean": kappa[0], "deviation": kappa[1]},
        "classes": {
            name: {"accuracy": float(np.nanmean(column)), "chips": int(count)}
            for name, column, count in zip(
                evaluation.names,
                by_class.T,
                np.bincount(labels.all.ids, minlength=len(evaluation.names)),
                strict=True,
            )
        },
        "matrix": evaluation.pooled.matrix.tolist(),
    }


def to_markdown(evaluation: ChipEvaluation, report: dict[str, Any], *, has_figures: bool) -> str:
    """A page of the figures; percent."""
    (mean, deviation), (kappa, kappa_deviation) = (
        evaluation.mean_std("overall_accuracy"),
        evaluation.mean_std("kappa"),
    )
    plan, side = report["plan"], report["design"]["side"]
    training_text = f"{plan['epochs']} epochs, batches of {plan['batch']}"
    if report["frozen"]:
        training_text = "pretrained nets as they are, logistic regression"
    lines = [
        f"# {report['model']}",
        "",
        f"Chips at {side} px; {training_text}.",
        "",
        f"{report['chips']} chips ({report['different_chips']} different), {len(evaluation.names)} "
        "classes; "
        f"{report['protocol']['says']}.",
        "",
        "| overall accuracy | kappa |",
        "|---:|---:|",
        f"| {100 * mean:.2f} ± {100 * deviation:.2f} % | {kappa:.4f} ± {kappa_deviation:.4f} |",
        "",
        f"Mean ± standard deviation over {len(evaluation.folds)} splits: "
        + ", ".join(f"{100 * m.overall_accuracy:.2f}" for m in evaluation.folds)
        + " %.",
        "",
        "| class | chips | accuracy |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name.replace('|', '/')} | {c['chips']} | {100 * c['accuracy']:.1f} % |"
        for name, c in report["classes"].items()
    ]
    lines += ["", "![Confusion matrix](confusion.png)", "", "![Accuracy by class](classes.png)"]
    if has_figures:
        lines += ["", "![Features by t-SNE](tsne.png)"]
    return "\n".join(lines) + "\n"
