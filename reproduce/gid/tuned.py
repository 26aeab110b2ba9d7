"""Ways to adapt a fine-tuned network without labels, over class mixes, on the clean split.

    python -m reproduce.gid.tuned --seeds 0 1 2

EfficientNet-Lite0 is fine-tuned on source crops. Its batch norm, the colours of the images or its
weights are adapted to other scenes and to another sensor. Needs the folder ``gid`` below
GEOPIPE_DATA. What is computed lies below ``outputs/reproduce/gid/tuned``, and a run that was
stopped goes on; writes ``tuned.json`` and ``tuned.md`` in ``docs/results/gid``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geopipe.checkpoint import Checkpoint
from geopipe.classes import IGNORE
from geopipe.errors import GeopipeError
from geopipe.files import atomic_file
from geopipe.learn.patches import PatchGrid, PatchPlan, patch_net, train_patches
from geopipe.learn.patches.model import PatchModelSpec
from geopipe.learn.patches.rasters import read_patch
from geopipe.nets.patches import BATCH, resized
from reproduce.facts import facts
from reproduce.gid import data, features, tuned_methods
from reproduce.gid.clean_split import CropFolders, adaptation_cells, training_cells
from reproduce.gid.frozen_page import adaptation_table
from reproduce.gid.mixes import class_mixes, draw, over_mixes, recalls
from reproduce.gid.tuned_methods import (
    METHODS,
    STATISTICS_PATCHES,
    STEPS,
    TRAINED,
    Images,
    Method,
    Tuned,
)

OUT = Path("outputs/reproduce/gid/tuned")
RESULTS = Path("docs/results/gid")
DOMAINS = {"target": "other scenes", "shifted": "another sensor"}
TRAINED_MIXES = 5
"""The balanced one and the first skewed ones, for methods that train a network for each mix."""


def images_of(folders: CropFolders, name: str, side: int) -> Images:
    """Two cells of each crop."""
    crops = folders.crops(name)
    cells = features.spread_cells(crops.patches)
    patches = torch.zeros(len(cells), len(features.SIZES), 3, side, side, dtype=torch.float16)
    for index in range(len(cells)):
        raster = cells.rasters[cells.positions[index, 0]]
        for k, size in enumerate(features.SIZES):
            image, _ = read_patch(raster, cells.window(index, size))
            patches[index, k] = resized(image[None], side)[0]
    numbers = cells.positions[:, 0]
    return Images(patches, cells.ids, numbers, crops.groups[numbers])


def source_model(folders: CropFolders, seed: int) -> Checkpoint:
    """EfficientNet-Lite0, trained as `geopipe patches train` does it; made once."""
    plan = PatchPlan(seed=seed)
    key = _digest(asdict(plan))
    out = folders.out / f"seed-{seed}-{key}.safetensors"
    if not out.exists():
        crops = folders.crops("source")
        known = crops.patches.subset(crops.patches.ids != IGNORE)
        cells = features.spread_cells(crops.patches)
        groups = crops.groups[cells.positions[:, 0]]
        own = np.unique(groups[training_cells(cells.ids, groups, seed)])
        cells_learnt: PatchGrid = known.subset(np.isin(crops.groups[known.positions[:, 0]], own))
        design = PatchModelSpec(cell=data.CELL, gsd=data.GSD)
        model = design.model(data.scheme())
        out.parent.mkdir(parents=True, exist_ok=True)
        train_patches(model, cells_learnt, plan, out=out, key=key, provenance={})
    return Checkpoint.load(out)


def of_domain(t: Tuned, methods: Mapping[str, Method], mixes: int | None) -> dict[str, Any]:
    """Method -> balanced accuracy, and that of each mix, percent."""
    classes = len(data.scheme())
    rows = class_mixes(classes, t.seed)[:mixes]
    ids = t.target.ids
    drawn = [
        draw(mix, ids, t.target.crops, t.look, 100 * t.seed + number)
        for number, mix in enumerate(rows)
    ]

    def adapted(method: Method, cells: np.ndarray) -> np.ndarray:
        return recalls(method(t, cells), ids[~t.look], classes)

    return {
        name: over_mixes(partial(adapted, method), drawn, rows, once=name == "none")
        for name, method in methods.items()
    }


def _digest(*made_of: Any) -> str:
    """Of these and of the settings of the methods."""
    settings = {k: v for k, v in vars(tuned_methods).items() if isinstance(v, int | float)}
    return hashlib.sha256(repr((made_of, settings)).encode()).hexdigest()[:8]


def measured(folders: CropFolders, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The tables of each seed; those that are there already are read."""
    kept: dict[str, Images] = {}
    for seed in seeds:
        tables = {}
        for name in DOMAINS:
            for kind, methods, mixes in (("", METHODS, None), ("-trained", TRAINED, TRAINED_MIXES)):
                digest = _digest(list(methods), mixes, asdict(PatchPlan(seed=seed)))
                file = folders.out / f"seed-{seed}-{name}{kind}-{digest}.json"
                if not file.exists():
                    model = source_model(folders, seed)
                    for wanted in ("source", name):
                        if wanted not in kept:
                            kept[wanted] = images_of(folders, wanted, patch_net(model).side)
                    source, target = kept["source"], kept[name]
                    t = Tuned(
                        model, source, target, training_cells(source.ids, source.groups, seed),
                        adaptation_cells(target.ids, target.groups, seed), seed,
                    )  # fmt: skip
                    table = of_domain(t, methods, mixes)
                    with atomic_file(file) as part:
                        part.write_text(json.dumps(table))
                    print(f"seed {seed}, {DOMAINS[name]}{kind}", flush=True)
                tables[name + kind] = json.loads(file.read_text())
        yield tables


def page(tables: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Fine-tuned networks, and adaptation without labels, on the clean split",
        "",
        f"`{tables['command']}` (`make reproduce-gid`); {tables['machine']}; "
        f"{tables['software']}; seeds {', '.join(map(str, tables['seeds']))}.",
        "",
        "EfficientNet-Lite0, fine-tuned on all cells of 55 source crops a class for 300 steps. "
        "Target, halves, mixes and figures as in [frozen.md](frozen.md). Adaptive batch norm takes "
        f"the statistics of {STATISTICS_PATCHES} patches of the target. What learns on does so for "
        f"{STEPS} steps of {BATCH} patches: of the source, half of them in the target's colours, "
        "or half the source's and half the target's. There *none* is the network that learns on "
        "from the source alone for as many steps. It does so for the balanced mix and "
        f"{TRAINED_MIXES - 1} skewed ones, as a network is trained for each.",
    ]
    for name, title in DOMAINS.items():
        for kind, what in (("", "statistics and colours"), ("-trained", "trained on the target")):
            lines += ["", f"## {title.capitalize()}: {what}", ""]
            lines += adaptation_table([seed[name + kind] for seed in tables["tables"]])
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is missing, and write the page."""
    parser = argparse.ArgumentParser(description="adaptation of fine-tuned networks on crops")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        folders = CropFolders(data.data_folder("gid"), args.out)
        seeds = list(measured(folders, args.seeds))
    except GeopipeError as e:
        raise SystemExit(f"{e.message}; {e.hint}" if e.hint else e.message) from e
    command = "python -m reproduce.gid.tuned --seeds " + " ".join(map(str, args.seeds))
    tables = {**facts(command), "seeds": args.seeds, "tables": seeds}
    args.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tables, indent=1)
    (args.results / "tuned.json").write_text(text + "\n", encoding="utf-8")
    (args.results / "tuned.md").write_text(page(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
