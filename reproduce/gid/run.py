"""Tong et al. 2020 (arXiv 1807.05713) on crops of the Gaofen Image Dataset.

    python -m reproduce.gid.run --seeds 0 1 2 --parts A B C D E F

Parts: A sizes of patches and segments; B transfer to other scenes; C to another sensor; D control,
the same domain; E a foreign domain; F thresholds and neighbours (first seed). Needs the folders
``gid`` and, for E, ``ucmerced`` below GEOPIPE_DATA. What is made lies below
``outputs/reproduce/gid``, and a run that was stopped goes on; writes ``docs/results/gid/``: JSON,
Markdown and figures of the parts asked for.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.errors import GeopipeError
from geopipe.mapping import choose_device
from reproduce.facts import facts
from reproduce.gid import cost, data, figures
from reproduce.gid.ablations import METHODS, PARTS, Study, ablations, scales, transfer_part
from reproduce.gid.experiment import Experiment, Settings
from reproduce.gid.page import KINDS, groups, write_page

OUT = Path("outputs/reproduce/gid")
RESULTS = Path("docs/results/gid")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, then write what that gave."""
    args = _parsed(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.captureWarnings(capture=True)
    try:
        _run(args)
    except GeopipeError as e:
        raise SystemExit(f"{e.message}; {e.hint}" if e.hint else e.message) from e


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the paper's experiments on crops")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--tuning-steps", type=int, default=Settings.tuning_steps)
    parser.add_argument(
        "--source-crops",
        type=int,
        default=Settings.source_crops,
        help="of each class, asked for neighbours",
    )
    parser.add_argument(
        "--photographs", type=int, default=Settings.photographs, help="of each class, part E"
    )
    parser.add_argument("--backbone", default=Settings.backbone)
    parser.add_argument("--weights", default=Settings.weights, help="a file, or auto")
    parser.add_argument("--train-ablations", action="store_true", help="train models in part F")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--no-page", action="store_true", help="only run")
    return parser.parse_args(arguments)


def _run(args: argparse.Namespace) -> None:
    settings = Settings(
        args.steps,
        args.tuning_steps,
        args.source_crops,
        args.photographs,
        choose_device(args.device),
        args.backbone,
        args.weights,
    )
    foreign = data.data_folder("ucmerced") if "E" in args.parts else None
    study = Study(args.out, data.data_folder("gid"), foreign, settings.photographs)
    labs = [Experiment(seed, args.out, study.source, settings) for seed in args.seeds]
    _say_cost(args, study, settings, labs[0])
    parts: dict[str, Any] = {}
    for lab in labs:
        for part in (p for p in PARTS if p in args.parts and (p != "F" or lab is labs[0])):
            print(f"seed {lab.seed}, part {part}: {PARTS[part]}", flush=True)
            if part == "A":
                parts.setdefault(part, []).append(scales(study, lab))
            elif part != "F":
                methods = list(METHODS) if part in "BC" else ["none", "both"]
                results = {"seed": lab.seed, **transfer_part(part, study, lab, methods)}
                parts.setdefault(part, []).append(results)
            else:
                parts[part] = ablations(study, lab, train=args.train_ablations)
    if not args.no_page:
        _write(args, study, labs[0], {p: parts[p] for p in PARTS if p in parts})


def _say_cost(args: argparse.Namespace, study: Study, settings: Settings, lab: Experiment) -> None:
    """What the run takes at most, from nothing."""
    classes = len(data.scheme())
    images = cost.Counts(
        len(lab.crops[1]),
        min(len(lab.crops[0]), settings.source_crops * classes),
        len(study.target.rasters),
        settings.photographs * classes,
    )
    rate = cost.per_second(settings)
    each = [
        cost.patches(images, settings, args.parts, first=i == 0, train=args.train_ablations)
        for i in range(len(args.seeds))
    ]
    print(
        f"{images.held} source crops held out, {images.target} target crops; about {sum(each)} "
        f"patches, {rate:.0f} a second: {each[0] / rate / 60:.0f} minutes for the first seed and "
        f"{sum(each) / rate / 60:.0f} in all, less what is there already",
        flush=True,
    )


def _write(args: argparse.Namespace, study: Study, lab: Experiment, parts: dict[str, Any]) -> None:
    settings = {k: v for k, v in asdict(lab.settings).items() if k not in ("device", "weights")}
    tables: dict[str, Any] = {
        **facts(_command()),
        "seeds": args.seeds,
        "settings": settings,
        "sensor": asdict(study.sensor),
        "parts": parts,
        "figures": {},
    }
    figures_written = {}
    if "A" in parts:
        figures.bars(
            args.results / "sizes.png",
            {
                title: {KINDS[k]: [s[w][k]["overall_accuracy"] for s in parts["A"]] for k in KINDS}
                for w, title in (("source", "held-out source"), ("target", "target"))
            },
        )
        figures.examples(args.results / "examples.png", lab, study.target)
        figures_written["sizes.png"] = "Overall accuracy by patches of each size, all, and segments"
        figures_written["examples.png"] = "Target crops, their labels, and maps by the source model"
    if by_part := groups(tables, lambda part: PARTS[part]):
        figures.bars(args.results / "transfer.png", by_part)
        figures_written["transfer.png"] = "Overall accuracy of the methods of transfer, all sizes"
    tables["figures"] = figures_written
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "gid.json").write_text(
        json.dumps(_without_nan(tables), indent=1) + "\n", encoding="utf-8"
    )
    write_page(args.results / "README.md", tables)


def _command() -> str:
    return " ".join(["python -m reproduce.gid.run", *sys.argv[1:]])


def _without_nan(x: Any) -> Any:
    """Plain values with null for nan, which is no JSON."""
    if isinstance(x, dict):
        return {k: _without_nan(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_without_nan(v) for v in x]
    return None if isinstance(x, float) and not np.isfinite(x) else x


if __name__ == "__main__":
    main()
