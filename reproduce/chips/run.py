"""Iftene et al. and Li et al. (DDRL-AM) on UC Merced.

    python -m reproduce.chips.run --parts a b c d --seeds 3

Parts: a frozen features, b fine-tuned nets, c fusions, d attention and center loss. Needs the
folder ``ucmerced`` below GEOPIPE_DATA, or ``--chips``; weights of further nets are given with
``--weights NET=FILE``. What is made lies below ``outputs/reproduce/scenes``, and a run that was
stopped goes on with its last epoch; writes ``docs/results/chips/``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from geopipe.errors import GeopipeError, LabelError, SceneError
from geopipe.learn.chips.cross_validation import Protocol, evaluate_chips
from geopipe.mapping import choose_device
from geopipe.validation import read_json
from geopipe.workflow.steps import Step, run_step
from reproduce.chips.page import PARTS, write_page
from reproduce.chips.paired import compare
from reproduce.chips.rows import NETS, SHIPPED, Row, Settings, pairs, rows
from reproduce.facts import facts
from reproduce.results import ChipEvaluationResult

OUT = Path("outputs/reproduce/scenes")
RESULTS = Path("docs/results/chips")
_SHOWN = ("confusion.png", "classes.png", "tsne.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, then write what that gave."""
    args = _parsed(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _run(args)
    except GeopipeError as e:
        raise SystemExit(f"{e.message}; {e.hint}" if e.hint else e.message) from e


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the papers' experiments on UC Merced")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3, help="random splits")
    parser.add_argument("--share", type=float, default=0.8, help="to learn from")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--side", type=int, default=Settings.side)
    parser.add_argument("--frozen-side", type=int, help="of part a  [default: as --side]")
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--weights", nargs="*", default=[], metavar="NET=SOURCE")
    parser.add_argument("--only", default="", help="rows whose name this expression finds")
    parser.add_argument("--chips", type=Path, help="a folder for each class")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def _run(args: argparse.Namespace) -> None:
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    chips = args.chips or data / "ucmerced"
    if not chips.is_dir():
        raise SceneError(f"there is no folder {chips}", "set GEOPIPE_DATA or give --chips")
    settings = Settings(
        args.epochs,
        args.side,
        args.frozen_side or args.side,
        args.batch,
        choose_device(args.device),
        _weights(args.weights, data / "weights"),
        args.out / "cache",
    )
    selected = [r for r in rows(settings, args.parts) if re.search(args.only, r.name)]
    results: list[dict[str, Any]] = []
    for number, row in enumerate(selected, 1):
        print(f"{number} of {len(selected)}: {PARTS[row.part]}: {row.name}", flush=True)
        results.append(_row(row, chips, Protocol(0, args.share, args.seeds, tsne=False), args.out))
        print(f"  {results[-1]['overall_accuracy']['mean']:.2%}", flush=True)
    _write(args, settings, results)


def _weights(arguments: Sequence[str], folder: Path) -> dict[str, str]:
    """Net -> source: what is given, files of the data's folder, and the package's net."""
    weights = {"efficientnet_lite0": "auto"}
    weights |= {n: str(folder / f) for n, f in SHIPPED.items() if (folder / f).is_file()}
    return weights | {n: source for n, _, source in (w.partition("=") for w in arguments)}


def _row(row: Row, chips: Path, protocol: Protocol, out: Path) -> dict[str, Any]:
    """The figures of a row, computed unless they are there."""
    folder = out / "rows" / re.sub(r"[^\w.+-]+", "-", f"{row.part}-{row.name}")
    has_figure = (
        row.training.plan.center > 0
    )  # its pair without is a row too, so this costs nothing
    row_protocol = Protocol(
        protocol.folds, protocol.share, protocol.repeats, protocol.seed, tsne=has_figure
    )
    row_key = {"row": repr(row), "protocol": asdict(row_protocol)}

    def action(_: str) -> None:
        evaluate_chips(chips, row.training, row_protocol, folder, overwrite=True)

    step = Step(folder.name, [chips], row_key, [folder], action)
    _, seconds = run_step(step, out / "steps")
    evaluation = read_json(
        folder / "evaluation.json",
        ChipEvaluationResult,
        LabelError,
        f"remove {folder}; it is made again",
    ).model_dump()
    return {
        "part": row.part,
        "name": row.name,
        "paper": row.paper,
        "seconds": seconds,
        "folder": str(folder),
        **evaluation,
    }


def _write(args: argparse.Namespace, settings: Settings, results: list[dict[str, Any]]) -> None:
    trained_rows = {r["name"]: r for r in results if not r["frozen"]}
    tables = {
        name: pd.read_csv(Path(r["folder"]) / "predictions.csv") for name, r in trained_rows.items()
    }
    accuracy = {name: r["overall_accuracy"]["mean"] for name, r in trained_rows.items()}
    compared = [asdict(compare(a, tables[a], b, tables[b])) for a, b in pairs(accuracy)]
    args.results.mkdir(parents=True, exist_ok=True)
    figures = {}
    best = max(results, key=lambda r: r["overall_accuracy"]["mean"], default=None)
    for row in (r for r in results if r is best or r["plan"]["center"]):
        for file in _SHOWN:
            source = Path(row["folder"]) / file
            if source.is_file():
                target = f"{Path(row['folder']).name}-{file}"
                shutil.copy(source, args.results / target)
                figures[target] = f"{row['name']}: {file.removesuffix('.png')}"
    test_share = (1 - args.share) * results[0]["chips"] if results else 1
    page = {
        **facts(" ".join(["python -m reproduce.chips.run", *sys.argv[1:]])),
        "settings": {
            "epochs": settings.epochs,
            "side": settings.side,
            "frozen_side": settings.frozen_side,
            "batch": settings.batch,
            "share": args.share,
            "weights": {n: Path(w).name for n, w in settings.weights.items()},
        },
        "seeds": list(range(args.seeds)),
        "one_chip": 100 / test_share,
        "missing": [n for n in NETS if n not in settings.weights],
        "rows": results,
        "pairs": compared,
        "figures": figures,
    }
    text = json.dumps(page, indent=1, ensure_ascii=False) + "\n"
    (args.results / "scenes.json").write_text(text, encoding="utf-8")
    write_page(args.results / "README.md", page)


if __name__ == "__main__":
    main()
