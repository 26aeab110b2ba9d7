"""The command: see the package."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import __doc__ as about
from benchmarks.gpu.page import markdown
from benchmarks.gpu.parts import PARTS, run_part
from benchmarks.gpu.setting import ROOT, SIZES, Setting
from benchmarks.machine import describe_machine
from geopipe.errors import GeopipeError
from geopipe.mapping import choose_device

PACKAGES = ("geopipe", "torch", "numpy", "rasterio")
RESULTS = ROOT / "docs" / "results" / "gpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts and write what they found; 1 where one failed or was stopped."""
    args = parse(argv)
    try:
        device = choose_device(args.device)
    except GeopipeError as e:
        raise SystemExit(f"{e.message}; --size tiny --device cpu runs all of it small") from e
    setting = Setting(
        device, args.size, args.folder, 0.0, str(args.torchgeo_python), tuple(args.weights)
    )
    report: dict[str, Any] = {"command": command_line(args), **facts(device), "size": args.size}
    report["parts"] = {}
    for letter in PARTS:
        part = replace(PARTS[letter], limit_s=args.limits.get(letter, PARTS[letter].limit_s))
        if letter in args.only and letter not in args.skip:
            print(f"{letter}: {part.title}, at most {part.limit_s:g} s", flush=True)
            done = run_part(letter, part, setting)
            print(f"   {done['status']} after {done['seconds']:g} s", flush=True)
        else:
            done = {
                "title": part.title,
                "limit_s": part.limit_s,
                "seconds": 0.0,
                "figures": None,
                "status": "skipped",
                "reason": "not asked for",
            }
        report["parts"][letter] = done
        write(args.results, report)
    print((args.results / "README.md").read_text(encoding="utf-8"))
    return int(any(p["status"] in ("failed", "stopped") for p in report["parts"].values()))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default in (("only", list(PARTS)), ("skip", [])):
        parser.add_argument(f"--{name}", nargs="+", choices=PARTS, default=default, metavar="PART")
    parser.add_argument("--limit", nargs="+", default=[], metavar="PART=SECONDS", type=limit)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--weights", nargs="+", default=[], metavar="NET=FILE")
    parser.add_argument("--torchgeo-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "gpu")
    parser.add_argument("--results", type=Path, help="default: docs/results/gpu, of a CPU FOLDER")
    args = parser.parse_args(argv)
    args.limits, args.folder = dict(args.limit), args.folder.resolve()
    if args.results is None:
        args.results = args.folder / "results" if args.device == "cpu" else RESULTS
    return args


def limit(text: str) -> tuple[str, float]:
    """``c=900``: the part and its seconds."""
    letter, _, seconds = text.partition("=")
    if letter not in PARTS:
        raise argparse.ArgumentTypeError(f"no part '{letter}': one of {', '.join(PARTS)}")
    try:
        return letter, float(seconds)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"'{seconds}' is no number of seconds") from e


def command_line(args: argparse.Namespace) -> str:
    """The command as it can be repeated anywhere: without paths of this machine."""
    arguments = ["python -m benchmarks.gpu", "--size", args.size, "--device", args.device]
    if args.only != list(PARTS):
        arguments += ["--only", *args.only]
    if args.skip:
        arguments += ["--skip", *args.skip]
    if args.limits:
        arguments += ["--limit", *(f"{k}={v:g}" for k, v in args.limits.items())]
    return " ".join(arguments)


def facts(device: str) -> dict[str, Any]:
    """When and on what."""
    versions: dict[str, str | None] = {name: version(name) for name in PACKAGES}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "device": device_facts(device),
        "versions": versions | {"cuda": torch.version.cuda},
    }


def device_facts(device: str) -> dict[str, Any]:
    """The device's kind, name, and memory."""
    if device == "cpu":
        return {"kind": "cpu", "name": describe_machine()["cpu"]}
    properties = torch.cuda.get_device_properties(device)
    return {
        "kind": "cuda",
        "name": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "processors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
    }


def write(folder: Path, report: dict[str, Any]) -> None:
    """JSON, and the page that is written from it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    (folder / "gpu.json").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(markdown(json.loads(text)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
