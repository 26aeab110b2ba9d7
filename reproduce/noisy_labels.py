"""What helps a base network that learns from wrong labels: an ignored band, alignment, a robust
loss.

    python -m reproduce.noisy_labels --sites forez banepa --seeds 0 1 2

Every option trains the same net for the same number of steps on the same scene and is judged on the
test scene. Writes ``docs/results/noisy-labels.{json,md}``; what was done before is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.errors import LabelError
from geopipe.grid import ground_gsd
from geopipe.labels import IgnoreBufferLabels, RasterLabels, open_labels
from geopipe.learn import BaseNetworkPlan
from geopipe.metrics import Metrics
from geopipe.raster import Scene
from geopipe.raster.scene import opened
from geopipe.register.label_qc import LabelQC
from geopipe.register.qc_tiles import QCTile
from geopipe.validation import read_json
from geopipe.workflow.sources import label_files, label_source
from reproduce.facts import facts, mean_std_text
from reproduce.site import Site

OUT = Path("outputs/reproduce")
RESULTS = Path("docs/results/noisy-labels")
ALIGNED_BAND_M = 1.0
"""One pixel of the nets: aligned labels are not known better."""
ROBUST_Q = 0.7
"""As Zhang and Sabuncu 2018 have it throughout."""


@dataclass(frozen=True)
class Option:
    """One way to learn from the labels."""

    description: str
    align: bool = False
    buffered: bool = False
    robust: float = 0.0


OPTIONS = {
    "raw": Option("OSM as it is"),
    "band": Option(
        "a band along outlines ignored, as wide as `geopipe labels check` says", buffered=True
    ),
    "aligned": Option("OSM aligned to the image", align=True),
    "aligned-band": Option(f"aligned, and {ALIGNED_BAND_M:g} m ignored", align=True, buffered=True),
    "robust": Option(f"generalised cross-entropy, q = {ROBUST_Q:g}", robust=ROBUST_Q),
}


def main() -> None:
    """Run what is asked for and write what is there."""
    parser = argparse.ArgumentParser(description="ways to learn from noisy labels")
    parser.add_argument("--sites", nargs="+", default=["forez", "banepa"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--options", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument("--steps", type=int, default=BaseNetworkPlan.steps)
    parser.add_argument("--only-done", action="store_true", help="run nothing, show what is done")
    parser.add_argument("--no-page", action="store_true", help="only run")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for name in args.sites:
        site = Site.open(name, OUT / name, only_done=args.only_done)

        def run(option: str, seed: int, site: Site = site) -> Metrics:
            return evaluate_option(site, option, seed, args.steps)

        runs = {o: site.each(args.seeds, partial(run, o)) for o in args.options}
        runs = {o: of_seeds for o, of_seeds in runs.items() if of_seeds}
        results[name] = {
            "band_m": buffer_of(site),
            "labels": {option: label_quality(site, option) for option in runs},
            "options": {
                o: {str(seed): m.to_dict() for seed, m in ms.items()} for o, ms in runs.items()
            },
        }
    if not args.no_page:
        write(results, args.seeds, args.steps)


def labels_of(site: Site, option: str) -> Path:
    """The training labels of an option, burned."""
    selected = OPTIONS[option]
    settings = site.role("train").model_copy(update={"align": selected.align})
    files = label_files(settings, site.scheme)
    name = "train-aligned" if selected.align else "train"
    base = site.rasterized_labels(
        name, "train", lambda: label_source(settings, site.scheme, site.scene("train")), files
    )
    if not selected.buffered:
        return base
    metres = ALIGNED_BAND_M if selected.align else buffer_of(site)
    source = IgnoreBufferLabels(RasterLabels.open(base, site.scheme), metres)
    return site.rasterized_labels(f"{name}-band-{metres:g}", "train", lambda: source, [base])


def buffer_of(site: Site) -> float:
    """As wide as three quarters of the training labels are off by at most, metres."""
    path = site.out / "labels" / "band.json"
    settings = site.role("train")

    def measure(_: str) -> None:
        scene = site.scene("train")
        qc = LabelQC(scene, label_source(settings, site.scheme, scene))
        path.write_text(json.dumps(_typical_shift(qc.tiles(), scene)))

    site.done("band", label_files(settings, site.scheme), {"scene": settings.scene}, path, measure)
    return read_json(path, float, LabelError, f"remove {path}; it is made again")


def _typical_shift(tiles: Sequence[QCTile], scene: Scene) -> float:
    lengths = [b.length for b in tiles if b.features and not b.rejected for _ in range(b.features)]
    minimum = max(0.5, *ground_gsd(scene.geobox))
    upper_quartile = float(np.percentile(lengths, 75)) if lengths else 0.0
    return round(max(minimum, upper_quartile) * 2) / 2


def evaluate_option(site: Site, option: str, seed: int, steps: int) -> Metrics:
    """The test metrics of a base network trained with an option."""
    name = f"{option}-{seed}" if steps == BaseNetworkPlan.steps else f"{option}-{seed}-{steps}"
    plan = replace(BaseNetworkPlan(seed=seed), robust=OPTIONS[option].robust, steps=steps)
    model = site.coarse(name, labels_of(site, option), plan)
    return site.evaluated(name, model).steps[0]


def label_quality(site: Site, option: str) -> list[float]:
    """IoU of each class of the training labels with what is right there."""
    right = Path("sample_tiles/truth.gpkg") if site.name == "forez" else site.role("test").labels
    scene = site.scene("train")
    truth = open_labels(right, site.scheme, scene.geobox).read(scene.geobox)
    with opened(labels_of(site, option)) as src:
        ids = src.read(1)
    return list(Metrics.of(site.scheme.names, truth, ids).iou)


def write(results: dict[str, Any], seeds: list[int], steps: int) -> None:
    """The figures as JSON and Markdown."""
    tables = {
        **facts("python -m reproduce.noisy_labels"),
        "seeds": seeds,
        "steps": steps,
        **results,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.with_suffix(".json").write_text(json.dumps(tables, indent=1) + "\n")
    lines = [
        "# Learning from noisy labels",
        "",
        f"`{tables['command']}`; {tables['machine']}; {tables['software']}; seeds "
        + ", ".join(map(str, seeds)),
        "",
        f"The base network alone, {steps} steps, evaluated on the test scene; mean ± standard "
        "deviation over the seeds, percent. Gain: in mean IoU over raw labels with the same seed, "
        "points.",
    ]
    for name, site in results.items():
        lines += ["", f"## {name}", "", f"Band that the check suggests: {site['band_m']:g} m.", ""]
        lines += _table(site)
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(site: dict[str, Any]) -> list[str]:
    runs = {
        o: {seed: Metrics.from_dict(t) for seed, t in ts.items()}
        for o, ts in site["options"].items()
    }
    names = next(iter(runs["raw"].values())).names
    lines = [
        "| labels | seeds | mean IoU | gain | overall accuracy | "
        + " | ".join(f"IoU {n}" for n in names)
        + " | IoU of the labels themselves |",
        "|---|" + "---:|" * (len(names) + 5),
    ]
    for option, of_seeds in runs.items():
        ms = list(of_seeds.values())
        gains = [m.mean_iou - runs["raw"][seed].mean_iou for seed, m in of_seeds.items()]
        row = [
            f"{OPTIONS[option].description}",
            f"{len(ms)}",
            mean_std_text([m.mean_iou for m in ms]),
            "" if option == "raw" else _signed(gains),
            mean_std_text([m.overall_accuracy for m in ms]),
            *(mean_std_text([m.iou[k] for m in ms]) for k in range(len(names))),
            ", ".join(f"{100 * x:.1f}" for x in site["labels"].get(option) or []),
        ]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _signed(gains: list[float]) -> str:
    mean = f"{100 * statistics.mean(gains):+.1f}"
    return f"{mean} ± {100 * statistics.stdev(gains):.1f}" if len(gains) > 1 else mean


if __name__ == "__main__":
    main()
