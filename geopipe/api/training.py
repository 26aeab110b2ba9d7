"""Training: the steps of a workflow up to its model."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from geopipe.api.labels import Labels, as_labels
from geopipe.api.model import Model, as_model, load_model
from geopipe.api.scene import as_scene
from geopipe.errors import ConfigError
from geopipe.learn.schedule import Schedule
from geopipe.networks import BaseNetworkName, InitialWeights
from geopipe.raster import scene as raster_scene
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.train import TrainingSettings, train_model

_Scene = raster_scene.Scene | str | Path


def train(
    scene: _Scene,
    labels: Labels | str | Path,
    *,
    accurate: tuple[_Scene, Labels | str | Path] | None = None,
    also: Sequence[tuple[_Scene, Labels | str | Path]] = (),
    start: InitialWeights | Model | str | Path = "auto",
    out: str | Path | None = None,
    net: BaseNetworkName | Literal["auto"] = "auto",
    refinement: Literal["auto", "rnn", "finetune"] = "auto",
    steps: int | None = None,
    refinement_steps: int | None = None,
    batch: int | None = None,
    gsd: float | Literal["auto"] = "auto",
    schedule: Schedule = "short",
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> Model:
    """Train the base network and, with an accurate tile, its refinement, as ``geopipe run``.

    Args:
        scene: What is trained on.
        labels: Its labels, which may be wrong in places; they are taken as they are (see
            `align_labels`).
        accurate: A small scene and its accurate labels, which the refinement learns from. Without
            them the outlines of the map are less exact.
        also: Further scenes with their labels, which the base network learns from too.
        start: A model to go on from: its base network and weights; classes are matched by name,
            bands must be as many, and the other settings that are "auto" take its network and GSD.
            "auto": the starter model where it suits a "lite-unet"; "imagenet": weights of ImageNet.
        out: The model's file; default a temporary one that lives as long as the model (see
            `Model.save`). A training that was stopped goes on from ``OUT.work``.
        net: "auto", the best on real scenes; "cnn", "unet" or "lite-unet".
        refinement: "rnn", a recurrent network; "finetune", all weights trained on; "auto", as suits
            the network.
        steps: Of the base network; default by network and schedule. With `start` 0 keeps it.
        refinement_steps: Of the refinement; default by its kind and schedule.
        batch: Patches of a step of either; default by network and schedule.
        gsd: Metres on the ground per pixel of the networks; "auto": as suits the scene.
        schedule: "short", for a CPU, or as in the "paper".
        seed: Equal inputs and seeds give equal models.
        device: "auto", "cpu" or "cuda:N".
        overwrite: Replace `out` where it exists.

    Raises:
        LabelError: Labels do not overlap their scene, or lack a class.
        SceneError: A scene is smaller than a training patch, or has other bands.
        ConfigError: An impossible setting.
        CheckpointError: `start` has another network or other bands, or is no segmentation model.
    """
    source = as_labels(labels)
    choice, *others = (_choice(source, *pair) for pair in ((scene, source), *also))
    tile_choice = _choice(source, *accurate) if accurate is not None else None
    settings = TrainingSettings(
        classes=str(source.classes),
        gsd=gsd,
        net=net,
        steps=steps,
        refinement=refinement,
        refinement_steps=refinement_steps,
        batch=batch,
        schedule=schedule,
        seed=seed,
        device=device,
        start=_start(start),
    )
    folder = None if out is not None else TemporaryDirectory(prefix="geopipe-model-")
    target = Path(folder.name) / "model.safetensors" if folder else Path(str(out)).absolute()
    train_model(choice, target, settings, accurate=tile_choice, also=others, overwrite=overwrite)
    return Model(load_model(target).file, folder)


def _start(start: InitialWeights | Model | str | Path) -> InitialWeights | Path:
    if start in get_args(InitialWeights):
        return start  # type: ignore[return-value]
    return as_model(start).path


def _choice(first: Labels, scene: _Scene, labels: Labels | str | Path) -> LabelledScene:
    """A scene and its labels, not to be aligned; ConfigError for other classes than `first` has."""
    source = as_labels(labels, first.classes)
    if source.scheme.names != first.scheme.names:
        raise ConfigError(
            f"the labels have the classes {', '.join(first.scheme.names)}, others "
            f"{', '.join(source.scheme.names)}",
            "open both with the same classes",
        )
    return source.choice(as_scene(scene)).model_copy(update={"align": False})
