"""Training: the steps of a workflow up to its model."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from geopipe.api.labels import Labels, as_labels
from geopipe.api.model import Model, load_model
from geopipe.api.scene import as_scene
from geopipe.config import parse
from geopipe.errors import CheckpointError, ConfigError
from geopipe.learn.schedule import Schedule
from geopipe.nets import BaseNetworkName
from geopipe.raster import scene as raster_scene
from geopipe.workflow.run import train_workflow
from geopipe.workflow.schema import Workflow

_Scene = raster_scene.Scene | str | Path


def train(
    scene: _Scene,
    labels: Labels | str | Path,
    *,
    accurate: tuple[_Scene, Labels | str | Path] | None = None,
    out: str | Path | None = None,
    net: BaseNetworkName = "cnn",
    refinement: Literal["rnn", "finetune"] = "rnn",
    steps: int | None = None,
    refinement_steps: int | None = None,
    batch: int | None = None,
    gsd: float = 1.0,
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
            them the outlines of the map are blunt.
        out: The model's file; default a temporary one that lives as long as the model (see
            `Model.save`). A training that was stopped goes on from ``OUT.training``.
        net: "cnn", "unet" or "lite-unet".
        refinement: "rnn", a recurrent network, or "finetune", all weights trained on.
        steps: Of the base network; default by network and schedule.
        refinement_steps: Of the refinement; default by its kind and schedule.
        batch: Patches of a step of either; default by network and schedule.
        gsd: Metres on the ground per pixel of the networks.
        schedule: "short", for a CPU, or as in the "paper".
        seed: Equal inputs and seeds give equal models.
        device: "auto", "cpu" or "cuda:N".
        overwrite: Replace `out` where it exists.

    Raises:
        LabelError: Labels do not overlap their scene, or lack a class.
        SceneError: A scene is smaller than a training patch, or has other bands.
        ConfigError: An impossible setting.
    """
    if out is not None and Path(out).exists() and not overwrite:
        raise CheckpointError(f"{out} exists already", "give another name, or set overwrite")
    known = as_labels(labels)
    tables: dict[str, Any] = {
        "name": "train",
        "classes": str(known.classes),
        "gsd": gsd,
        "seed": seed,
        "schedule": schedule,
        "device": device,
        "train": _table(scene, known) | {"align": False},
        "base": _given(net=net, steps=steps, batch=batch),
        "refinement": _given(kind=refinement, steps=refinement_steps, batch=batch),
    }
    if accurate is not None:
        tile, outlines = accurate
        exact = as_labels(outlines, known.classes)
        if exact.scheme.names != known.scheme.names:
            raise ConfigError(
                f"the labels know {', '.join(known.scheme.names)}, the accurate ones "
                f"{', '.join(exact.scheme.names)}",
                "open both with the same classes",
            )
        tables["enhance"] = _table(tile, exact)
    if out is not None:
        target = Path(out).absolute()
        work = target.with_name(target.name + ".training")
        made = train_workflow(parse({**tables, "out": work}, Workflow, "train"))
        model = Model(made, load_model(made).checkpoint).save(target)
        shutil.rmtree(work, ignore_errors=True)
        return model
    folder = TemporaryDirectory(prefix="geopipe-model-")
    made = train_workflow(parse({**tables, "out": folder.name}, Workflow, "train"))
    return Model(made, load_model(made).checkpoint, folder)


def _table(scene: _Scene, labels: Labels) -> dict[str, Any]:
    return labels.choice(as_scene(scene)).model_dump(exclude_none=True)


def _given(**settings: Any) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if v is not None}
