"""Small inputs, and the commands that are run on them."""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.child import run

ROOT = Path(__file__).resolve().parents[2]
_CHIPS = [
    "--model",
    "finetune:alexnet",
    "--frozen",
    "--epochs",
    "1",
    "--weights",
    "random:0",
    "--side",
    "64",
    "--device",
    "cpu",
]


@dataclass(frozen=True)
class Case:
    """A command; in its words OUT is the folder of the run, IN that of the inputs."""

    name: str
    words: str
    share: int
    """How many of 100 faults are its."""
    old: tuple[str, ...] = ()
    """Files that are there before, which it replaces."""

    def command(self, inputs: Path, out: Path) -> list[str]:
        """The words."""
        places = {"IN": str(inputs), "OUT": str(out)}
        return [re.sub(r"\b(IN|OUT)\b", lambda m: places[m[1]], w) for w in self.words.split()]


CASES = (
    Case(
        "labels",
        "labels IN/test.tif IN/test.gpkg -o OUT/labels.tif --overwrite",
        22,
        ("labels.tif", "labels.tif.aux.xml"),
    ),
    Case(
        "assess plan",
        "assess plan IN/classes.tif -o OUT/p.gpkg --per-class 10 --overwrite",
        26,
        ("p.gpkg",),
    ),
    Case("assess report", "assess report IN/classes.tif IN/points.gpkg -o OUT/report.md", 26),
    Case(
        "map",
        "map IN/wide.tif IN/model.safetensors -o OUT/map --device cpu --tile-size 256 --threads 2 "
        "--scores --vectors",
        6,
    ),
    Case(
        "index build",
        "index build IN/chips IN/test.tif -o OUT/index --size 32 --side 32 --weights random:0 "
        "--device cpu --threads 1",
        8,
    ),
    Case("chips", "chips classify IN/chips.safetensors IN/chips -o OUT/table --device cpu", 8),
    Case(
        "patches",
        "map IN/test.tif IN/patches.safetensors -o OUT/map --device cpu --threads 1",
        2,
    ),
    Case("run", "run IN/tiny.toml --set out=OUT/made", 2),
)


def geopipe(*words: str | Path) -> None:
    """Run a command in a child of this process."""
    with tempfile.TemporaryDirectory() as folder:
        done = run([str(w) for w in words], Path(folder) / "run")
    if done.code:
        raise RuntimeError(f"{words}: {done.err}")


def make_inputs(folder: Path, *, small: bool = False) -> None:
    """Draw the inputs, and train or make the models, all on a few hundred pixels.

    `small`: only those of `labels` and `assess`.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    place: Any = importlib.import_module("tiny_place")
    folder.mkdir(parents=True, exist_ok=True)
    place.draw_place(folder, "test", (170, 150), east=2000, seed=2)
    classes, points = folder / "classes.tif", folder / "points.gpkg"
    geopipe("labels", folder / "test.tif", folder / "test.gpkg", "-o", classes)
    geopipe("assess", "plan", classes, "-o", points, "--per-class", "10")
    _fill(points)
    if small:
        return
    place.draw_place(folder, "train", (180, 200))
    place.draw_place(folder, "enhance", (160, 160), east=1000, seed=1)
    place.draw_place(folder, "wide", (270, 280), east=3000, seed=3)
    (folder / "tiny.toml").write_text(place.ROLES + _WORKFLOW)
    make_model: Any = importlib.import_module("conftest").make_model.__wrapped__()
    place.lively(make_model(seed=3)).save(folder / "model.safetensors")
    chips: Any = importlib.import_module("chips.scene_world")
    chips.write_chips(folder / "chips", each=3)
    geopipe("chips", "train", folder / "chips", "-o", folder / "chips.safetensors", *_CHIPS)
    patches: Any = importlib.import_module("patches.patch_world")
    spec: Any = importlib.import_module("geopipe.learn.patches.model")
    design = spec.PatchModelSpec(gsd=0.5, segments=False, **patches.SMALL)
    scheme = spec.named_scheme(patches.NAMES)
    patches.untrained(design, scheme).save(folder / "patches.safetensors")


def _fill(points: Path) -> None:
    """As an analyst who sees background everywhere."""
    import pyogrio

    table = pyogrio.read_dataframe(points, layer="points")
    metadata = pyogrio.read_info(points, layer="points")["dataset_metadata"]
    table["truth"] = "background"
    pyogrio.write_dataframe(table, points, layer="points", driver="GPKG", dataset_metadata=metadata)


_WORKFLOW = """
[map]
scenes = ["test.tif"]
[base]
steps = 4
batch = 3
precision = "float32"
[refinement]
steps = 4
batch = 3
iterations = 2
precision = "float32"
[report]
closeups = 1
closeup_px = 64
"""
