"""The schema of workflow files."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from geopipe.checkpoint.header import MAX_GSD, MIN_GSD
from geopipe.checkpoint.starter import NAME
from geopipe.config import Section, parse, read_toml
from geopipe.errors import ConfigError
from geopipe.labels.fetched import FETCH, is_fetched
from geopipe.learn.schedule import Schedule
from geopipe.learn.start import StartModel
from geopipe.limits import parse_megabytes
from geopipe.networks import DEFAULT_NET, DISPLAY_NAMES, BaseNetworkName, InitialWeights
from geopipe.parallel import MOST_AT_ONCE
from geopipe.validation import Nodata, Text

__all__ = ["FETCH", "LabelledScene", "SceneSettings", "Workflow", "load_workflow"]

Bands = Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(min_length=1)]
"""1-based numbers."""
Steps = Annotated[int, Field(gt=0, le=10**7)]
Rate = Annotated[float, Field(gt=0, le=10**30)]
SquareMetres = Annotated[float, Field(ge=0, le=10**9)]


class SceneSettings(Section):
    """A raster and how to read it."""

    scene: Text
    """A file, or an address that GDAL opens (https://..., /vsicurl/...)."""
    bands: Bands | None = None
    """1-based; default red, green, blue where the file names them, else the first three."""
    nodata: Nodata | None = None
    """Pixels with this value in all bands are not valid (for files that do not declare it)."""


class LabelledScene(SceneSettings):
    """A scene with labels: vectors, a class raster, or a service (``"fetch"``: OSM)."""

    labels: Path
    layer: Text | None = None
    all_are: Text | None = None
    """The class of every feature, of vectors that do not say it."""
    area: Path | None = None
    """Polygons outside which absence of a label means nothing: ignored there."""
    align: bool = False
    """Move the vectors to where the image shows them, first."""
    max_shift: float = Field(default=8.0, ge=1, le=30)
    """Metres: by no more than this."""
    ignore_buffer: float = Field(default=0.0, ge=0, le=50)
    """Metres on each side of an outline in which nothing is known; 0: none."""


class MapSettings(Section):
    """Which scenes to map, and what to add to the bundle."""

    scenes: tuple[Text, ...] = ()
    """Default: the test scene, or without one the training scene."""
    bands: Bands | None = None
    nodata: Nodata | None = None
    """Both by default as where the scene is trained on, else as in [train]."""
    min_area: Literal["auto"] | SquareMetres | dict[str, SquareMetres] = "auto"
    """Square metres, of all classes or by name; smaller areas take a neighbour's class. ``auto``:
    the 1 % quantile of the training labels, where there are enough of them."""
    mosaic: bool = False
    """The scenes are files of one delivery and make one map; the first listed is on top."""
    scores: bool = False
    confidence: bool | None = None
    """Default: with a model of patches, and with `vectors`."""
    vectors: bool = False
    orthogonalize: bool = True
    """Footprints of `vectors` get right angles where the map has them."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    flips: Literal[1, 2, 4] = 1
    """Of the image; their probabilities are averaged."""
    skip_bad: bool = False
    """Scenes and tiles that cannot be read are left out."""
    inexact: bool = False
    """Allow layers that leave seams between tiles."""
    threads: int | None = Field(default=None, gt=0)
    """Tiles computed at once; default: the cores."""
    scheduler: str | None = None
    """A dask cluster, tcp://HOST:PORT, instead of `workers`."""
    ram: int | None = None
    """MB (or text such as "4GB") that all processes on this machine may take together."""
    vram: int | None = None
    """MB (or text) of the GPU to stay below."""
    tile_size: int = Field(default=1024, gt=0, le=16384)
    """Scene pixels a side of a tile."""

    @field_validator("scenes", mode="before")
    @classmethod
    def _one_scene(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("ram", "vram", mode="before")
    @classmethod
    def _megabytes(cls, value: Any) -> Any:
        return parse_megabytes(value) if isinstance(value, str) else value


class BaseNetworkSettings(Section):
    """Training of the base network; defaults as in Maggiori et al. 2017, section III."""

    net: BaseNetworkName = "cnn"
    """The paper's fully convolutional network, a U-Net, or one whose encoder is
    EfficientNet-Lite0; or ``"auto"``, which is DEFAULT_NET."""
    steps: Annotated[int, Field(ge=0, le=10**7)] | None = None
    """0: the weights of the model that is started from stay as they are. Default 600, where less
    than 4 million net pixels are labelled down to 200 (`schedule =
    "paper"`: 1200), of a U-Net 600, of a lite-unet 300 (from ImageNet 400, "paper": 200)."""
    batch: int | None = Field(default=None, gt=0, le=4096)
    """Default 4 patches of 256 px ("paper": 64 of 64 px), of a U-Net 16 of 64, of a lite-unet 2 of
    256 ("paper": 4)."""
    lr: Rate | None = None
    """Default 0.002 (AdamW; "paper": 0.01, SGD), of a U-Net 0.001, of a lite-unet 0.001
    ("paper": 0.0005)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=2e-4, ge=0, le=1)
    augment: bool = True
    """Random flips and transpositions."""
    jitter: float = Field(default=0.2, ge=0, le=2)
    """Random changes of light, in deviations of the image."""
    robust: float = Field(default=0.0, ge=0, le=1)
    """q of the generalised cross-entropy, for labels with many errors; 0: the cross-entropy."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @field_validator("net", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        return DEFAULT_NET if value == "auto" else value


class RefinementSettings(Section):
    """Training of the refinement; defaults as in Maggiori et al. 2017, section III."""

    kind: Literal["auto", "rnn", "finetune"] = "rnn"
    """The paper's recurrent net, or all weights of the net before it trained on (its U-Net gains
    most); ``auto``: the recurrent net for the CNN, else ``finetune``. Of what follows ``finetune``
    takes steps, batch, lr, augment, jitter, balanced."""
    steps: Steps | None = None
    """Default 500 (`schedule = "paper"`: 1500), of fine-tuning 300, of a lite-unet from
    ImageNet 400 ("paper": 150)."""
    batch: int | None = Field(default=None, gt=0, le=4096)
    """Default 4 patches of 128 px ("paper": 16 of 64 px), of fine-tuning 16 of 64, of a lite-unet 2
    of 256 ("paper": 8 of 128)."""
    lr: Rate | None = None
    """Default 0.01 (Adam; "paper": AdaGrad), of fine-tuning 0.0003 (AdamW), of a
    lite-unet 0.001 ("paper": 0.0003)."""
    calibrate: Literal["auto"] | bool = "auto"
    """Choose, by training on halves of the accurate tile, how far fine-tuned weights go, and the
    temperature with which confidence.tif is a probability. ``auto``: with ``finetune``."""
    iterations: int = Field(default=5, ge=1, le=50)
    class_agnostic: bool = False
    recurrent: bool = True
    augment: bool = True
    """Random flips and transpositions."""
    jitter: float = Field(default=0.1, ge=0, le=2)
    """Random changes of light, in deviations of the image."""
    balanced: bool = False
    """Patches around each class in turn; else anywhere on labelled ground."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class ReportSettings(Section):
    """What the report shows."""

    closeups: int = Field(default=4, ge=0, le=20)
    closeup_px: int = Field(default=240, ge=16, le=2000)
    """Scene pixels a side."""


class NoisyScene(LabelledScene):
    """A scene that the base network learns from, with labels that may be wrong."""

    align: bool = True
    """Move the vectors to where the image shows them, first."""


class TrainingScenes(NoisyScene):
    """The scenes that the base network learns from, and the model that it starts from.

    ``scenes = ["a.tif", "b.tif"]`` instead of `scene` is short for `also`: with one file of
    `labels` for all, or a list of one each; the other keys hold for all of them.
    """

    also: tuple[NoisyScene, ...] = ()
    """Further scenes, each with labels and settings of its own."""
    start: InitialWeights | Path = "auto"
    """The weights that the base network has at first: those of a model; ``"imagenet"``; or
    ``"auto"``: on ``schedule = "short"`` a lite-unet goes on from the starter model where it suits
    (three bands of 8 bits, buildings among the classes, at most 0.6 m), else from ImageNet. Other
    networks start from random weights."""

    @model_validator(mode="before")
    @classmethod
    def _several(cls, tables: Any) -> Any:
        if not isinstance(tables, dict) or "scenes" not in tables:
            return tables
        shared = {k: v for k, v in tables.items() if k not in ("scenes", "also", "start")}
        scenes, labels = tables["scenes"], shared.get("labels")
        if "scene" in tables or "also" in tables:
            raise ValueError("give `scenes`, or `scene` and `also`")
        if not isinstance(scenes, list | tuple) or not scenes:
            raise ValueError("`scenes` is a list of files")
        if not isinstance(labels, list | tuple):
            labels = [labels] * len(scenes)
        if len(labels) != len(scenes):
            raise ValueError(
                f"{len(scenes)} scenes and {len(labels)} labels: give one file for all, or one each"
            )
        each = [
            {**shared, "scene": scene, **({"labels": of} if of else {})}
            for scene, of in zip(scenes, labels, strict=True)
        ]
        return {**each[0], "also": each[1:], **{k: tables[k] for k in ("start",) if k in tables}}

    @property
    def parts(self) -> tuple[LabelledScene, ...]:
        """All scenes with their labels, the first one first."""
        return (self, *self.also)


class Workflow(Section):
    """labels -> train coarse -> train refinement -> map -> evaluate -> report."""

    name: str = Field(min_length=1, max_length=1000)
    out: Path
    classes: str = "buildings-roads"
    """A scheme that ships with geopipe, or a TOML file."""
    gsd: float | None = Field(default=1.0, ge=MIN_GSD, le=MAX_GSD)
    """Metres on the ground per pixel of the nets. ``"auto"`` (None): about 0.3, of a scene of 0.6 m
    or coarser half its own."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    schedule: Schedule = "short"
    """How the CNN and the RNN are trained: ``short``, for a CPU, or as in the ``paper``. [base]
    and [refinement] change single values of it."""
    remote: bool = False
    """Whether a local VRT may refer to files on a network."""
    device: str = "auto"
    workers: int = Field(default=0, ge=0, le=MOST_AT_ONCE)
    train: TrainingScenes
    enhance: LabelledScene | None = None
    test: LabelledScene | None = None
    map: MapSettings = MapSettings()
    base: BaseNetworkSettings = BaseNetworkSettings()
    refinement: RefinementSettings = RefinementSettings()
    report: ReportSettings = ReportSettings()

    @field_validator("refinement")
    @classmethod
    def _suited(cls, value: RefinementSettings, info: ValidationInfo) -> RefinementSettings:
        if value.kind != "auto" or "base" not in info.data:
            return value
        kind = "rnn" if info.data["base"].net == "cnn" else "finetune"
        return value.model_copy(update={"kind": kind})

    @property
    def calibrates(self) -> bool:
        """Whether the accurate tile also serves to calibrate."""
        if self.refinement.calibrate == "auto":
            return self.refinement.kind == "finetune"
        return self.refinement.calibrate

    @field_validator("gsd", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        return None if value == "auto" else value

    @model_validator(mode="after")
    def _test_is_not_trained_on(self) -> Self:
        if self.test is None:
            return self
        for other in (*self.train.parts, self.enhance):
            if other and other.scene == self.test.scene and not (other.area and self.test.area):
                raise ValueError(
                    "the test scene is also trained on: give both an `area`, the two apart"
                )
        return self

    @model_validator(mode="after")
    def _is_trained(self) -> Self:
        if self.train.start == "imagenet" and self.base.net != "lite-unet":
            raise ValueError("train.start: only a lite-unet starts from weights of ImageNet")
        if self.base.steps == 0 and not isinstance(self.train.start, Path):
            raise ValueError("base.steps: give a number greater than 0, or a model to `start` from")
        return self

    @property
    def names(self) -> tuple[str, str]:
        """Of the base network, and of what the accurate tile makes of it."""
        net = DISPLAY_NAMES[self.base.net]
        refined_name = {"rnn": f"{net}+RNN", "finetune": f"{net} fine-tuned"}[self.refinement.kind]
        return net, refined_name

    def map_scenes(self) -> tuple[SceneSettings, ...]:
        """The scenes to map."""
        if self.map.scenes:
            return tuple(self._mapped(path) for path in self.map.scenes)
        default_scene = self.test or self.train
        return (
            SceneSettings(
                scene=default_scene.scene, bands=default_scene.bands, nodata=default_scene.nodata
            ),
        )

    def _mapped(self, path: str) -> SceneSettings:
        """A scene read as [map] says, else as where it is trained on, else as [train]."""
        labelled = (*self.train.parts, self.enhance, self.test)
        roles = [role for role in labelled if role and role.scene == path]
        read = (roles or [self.train])[0]
        return SceneSettings(
            scene=path,
            bands=self.map.bands or read.bands,
            nodata=read.nodata if self.map.nodata is None else self.map.nodata,
        )


_PATHS = {"scene", "labels", "area", "out", "scenes", "start"}


def load_workflow(path: Path, overrides: dict[str, str] | None = None) -> Workflow:
    """Read a workflow file; its relative paths start at its own folder.

    `overrides`: dotted key -> value as on the command line (``train.scene=my.tif``,
    ``train.bands=[3, 2, 1]``), whose paths start at the current folder. Raises ConfigError.
    """
    tables = _anchored(read_toml(path), path.parent)
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        table = tables
        for part in parents:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {key}: '{part}' is a value, not a table")
        table[last] = _anchor(last, _value(value), Path.cwd())
    return parse_workflow(tables, str(path))


def parse_workflow(tables: dict[str, Any], source: str) -> Workflow:
    """`tables` as a Workflow.

    Network and GSD, where they are left open, are those of the model that it starts from. Raises
    ConfigError, and CheckpointError for a model that cannot be started from.
    """
    train, base = tables.get("train"), tables.get("base", {})
    start = train.get("start") if isinstance(train, dict) else None
    words = ("", *get_args(InitialWeights))
    if isinstance(start, str | Path) and start not in words and isinstance(base, dict):
        model = StartModel.open(Path(start))
        if base.get("net", "auto") == "auto":
            tables = {**tables, "base": {**base, "net": model.net}}
        if tables.get("gsd", "auto") == "auto":
            tables = {**tables, "gsd": model.model.gsd}
    return parse(tables, Workflow, source)


def _value(text: str) -> Any:
    """A list or quoted text as TOML; other text as it is, since its key knows the type.

    (As TOML, ``name=2024`` would be a number and ``out=2024-05-31`` a date.)
    """
    if not text.startswith(("[", '"', "'")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def _anchored(table: dict[str, Any], base: Path) -> dict[str, Any]:
    return {
        k: _anchored(v, base) if isinstance(v, dict) else _anchor(k, v, base)
        for k, v in table.items()
    }


def _anchor(key: str, value: Any, base: Path) -> Any:
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        return [_anchored(v, base) for v in value]
    if key == "classes" and isinstance(value, str) and value.endswith(".toml"):
        return str(base / value)
    if (
        key not in _PATHS
        or (key == "start" and value in (NAME, *get_args(InitialWeights)))
        or (key == "labels" and is_fetched(value))
    ):
        return value
    if value == "":
        raise ConfigError(f"'{key}' is empty", "give a path, or leave it out")
    if isinstance(value, list):
        return [_anchor(key, v, base) for v in value]
    if not isinstance(value, str):
        return value
    # Addresses that GDAL opens itself (https://, /vsicurl/...) are no paths of this machine.
    return value if "://" in value else str((base / value).resolve())
