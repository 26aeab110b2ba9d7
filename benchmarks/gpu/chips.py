"""Part d: chips of UC Merced with the papers' schedule, 40 epochs at 224 px."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from benchmarks.gpu.samples import tiny_chips
from benchmarks.gpu.setting import Figures, Setting, SkippedError
from reproduce.chips import run

ROWS = ("finetune:resnet18", "ResNet-18 + AM + CL", "finetune:efficientnet_lite0")
"""In this order, as far as the time goes."""
TINY_ROWS = ("finetune:alexnet",)


def measure(setting: Setting, figures: Figures) -> None:
    """Row by row; what a row has learnt stays, so that a run that was stopped goes on with it."""
    tiny = setting.size == "tiny"
    chips = tiny_chips(setting.folder) if tiny else data_folder("ucmerced")
    arguments = ["--chips", chips, "--seeds", 1, "--device", setting.device]
    arguments += ["--out", setting.folder / f"chips-{setting.size}"]
    arguments += ["--weights", *(["alexnet=random:0"] if tiny else setting.weights)]
    if tiny:
        arguments += ["--share", 0.75, "--epochs", 1, "--side", 64, "--batch", 8]
    figures.put(rows=[], left_out={})
    for name in TINY_ROWS if tiny else ROWS:
        figures.put(at_work=name)
        results = setting.folder / "chips-results"
        part_arguments = [
            "--parts",
            "b",
            "d",
            "--only",
            f"^{re.escape(name)}$",
            "--results",
            results,
        ]
        run.main([str(word) for word in [*arguments, *part_arguments]])
        report = json.loads((results / "scenes.json").read_text())
        rows = [
            {
                "name": row["name"],
                "paper": row["paper"],
                "seconds": round(row["seconds"], 1),
                "overall_accuracy": round(row["overall_accuracy"]["mean"], 4),
            }
            for row in report["rows"]
        ]
        if not rows:
            figures.put(left_out={**figures.found["left_out"], name: "no weights at hand"})
        figures.put(rows=[*figures.found["rows"], *rows], settings=report["settings"])
    figures.put(at_work=None)


def data_root() -> Path:
    """Where the real data lie, if they do."""
    return Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))


def data_folder(name: str) -> Path:
    """A folder of the real data; SkippedError where it is not at hand."""
    folder = data_root() / name
    if not folder.is_dir():
        raise SkippedError(f"no folder {name} in GEOPIPE_DATA")
    return folder
