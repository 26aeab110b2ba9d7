"""Training on its own: the steps of a workflow up to its model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geopipe.checkpoint import Checkpoint
from geopipe.errors import CheckpointError
from geopipe.files import check_new_file, copy_file, work_folder
from geopipe.learn.schedule import Schedule
from geopipe.networks import BaseNetworkName, InitialWeights
from geopipe.workflow.model_items import describe_model
from geopipe.workflow.run import train_workflow
from geopipe.workflow.schema import LabelledScene, Workflow, parse_workflow


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a base network and its refinement are trained; defaults as in new-scene.toml."""

    classes: str = "buildings-roads"
    """A scheme that ships with geopipe, or a TOML file."""
    gsd: float | Literal["auto"] = "auto"
    """Metres on the ground per pixel of the networks; ``auto``: as suits the scene."""
    net: BaseNetworkName | Literal["auto"] = "auto"
    """``auto``: the best on real scenes."""
    steps: int | None = None
    """Training steps of the base network; None: as the network and the schedule say."""
    refinement: Literal["auto", "rnn", "finetune"] = "auto"
    """A recurrent network, or all weights of the base network trained on; ``auto``: as suits it."""
    refinement_steps: int | None = None
    batch: int | None = None
    """Patches of a step of either; None: as the network and the schedule say."""
    schedule: Schedule = "short"
    seed: int = 0
    device: str = "auto"
    start: InitialWeights | Path = "auto"
    """As `TrainingScenes.start`; of a model given here, ``auto`` takes network and GSD."""

    def workflow(
        self,
        train: LabelledScene,
        accurate: LabelledScene | None,
        folder: Path,
        also: Sequence[LabelledScene] = (),
    ) -> Workflow:
        """The workflow that trains so in `folder`; raises ConfigError for impossible values."""
        tables: dict[str, Any] = {
            "name": "training",
            "out": folder,
            "classes": self.classes,
            "gsd": self.gsd,
            "seed": self.seed,
            "schedule": self.schedule,
            "device": self.device,
            "train": train.model_dump(exclude_none=True),
            "base": {"net": self.net, "steps": self.steps, "batch": self.batch},
            "refinement": {
                "kind": self.refinement,
                "steps": self.refinement_steps,
                "batch": self.batch,
            },
        }
        if accurate:
            tables["enhance"] = accurate.model_dump(exclude_none=True)
        if also:
            tables["train"]["also"] = [part.model_dump(exclude_none=True) for part in also]
        tables["train"]["start"] = self.start
        return parse_workflow(tables, "settings of the training")


def train_model(
    train: LabelledScene,
    out: Path,
    settings: TrainingSettings,
    *,
    accurate: LabelledScene | None = None,
    also: Sequence[LabelledScene] = (),
    overwrite: bool = False,
) -> Checkpoint:
    """Train a base network and, with an accurate tile, its refinement; write the model `out`.

    By the code of a workflow, so equal settings give equal weights. What is made on the way lies in
    the folder ``OUT.work``; it is kept when the training is stopped, and the same call goes on from
    there.

    Args:
        train: The scene that the base network is trained on, and its labels, which may have errors.
        out: The file of the model (safetensors); it appears complete.
        settings: How to train.
        accurate: A tile with accurate labels, which the refinement is trained on.
        also: Further scenes of the base network with their labels.
        overwrite: Replace `out` where it exists.

    Raises:
        OutputError: `out` exists, or its folder does not.
        SceneError: A scene cannot be read, or is smaller than a training patch.
        LabelError: Labels cannot be read, do not overlap their scene, or lack a class.
        ConfigError: An impossible setting.
        CheckpointError: The model to start from has another network or other bands.
    """
    parts = [part for part in (train, *also, accurate) if part]
    read = [Path(x) for part in parts for x in (part.scene, part.labels)]
    read += [settings.start] if isinstance(settings.start, Path) else []
    check_new_file(out, overwrite=overwrite, sources=read)
    out = out.absolute()
    with work_folder(out, None) as work:
        workflow = settings.workflow(train, accurate, work, also)
        made = train_workflow(workflow)
        try:
            copy_file(made, out)
            describe_model(out, workflow, refined=accurate is not None)
        except OSError as e:
            raise CheckpointError(f"cannot write {out}: {e}", "is the folder writable?") from e
    return Checkpoint.load(out)
