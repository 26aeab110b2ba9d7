"""Frozen backbones and ways to adapt without labels, over class mixes, on the clean split.

    python -m reproduce.gid.frozen --dinov2 vit_s_focus.onnx --seeds 0 1 2

Heads on features of EfficientNet-Lite0, of DINOv2 and of both, learnt from source crops and judged
on other scenes, on another sensor and on an aerial image. Needs the folders ``gid`` and
``sites/baker_lake`` below GEOPIPE_DATA, and a file of DINOv2's weights. What is computed lies below
``outputs/reproduce/gid/frozen``; writes ``frozen.json`` and ``frozen.md`` in ``docs/results/gid``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.classes import IGNORE
from geopipe.errors import GeopipeError
from geopipe.learn.patches import PatchGrid
from geopipe.learn.patches.model import PatchSource
from reproduce.facts import facts
from reproduce.gid import aerial, data, features
from reproduce.gid.adaptation import METHODS, World, choose, measure
from reproduce.gid.frozen_page import write_page
from reproduce.gid.metrics import precision
from reproduce.gid.mixes import Accuracy, class_mixes, draw, main_classes, recalls
from reproduce.gid.overlap import shared_with_source
from reproduce.gid.sensor import Sensor, write_simulated

OUT = Path("outputs/reproduce/gid/frozen")
RESULTS = Path("docs/results/gid")
BACKBONES = ("lite", "dino 3-5", "dino 5-7", "dino 6-8", "lite + dino 5-7", "lite + dino 6-8")
ADAPTED = ("lite", "lite + dino 6-8")
"""Kinds of features that adaptation is measured on."""
DOMAINS = {"target": "other scenes", "shifted": "another sensor", "aerial": "Baker Lake, 0.5 m"}
SOURCE_CROPS = 70
"""Of each class that features are computed of."""
LEARNT = 55
"""Of each class that a seed's head learns from; the others are held out."""


@dataclass(frozen=True)
class Domain:
    """Cells of crops, what backbones see in them, and which crops share pixels."""

    features: features.DomainFeatures
    groups: np.ndarray
    """(n,) of each cell"""


@dataclass(frozen=True)
class Inputs:
    """Where data and weights lie."""

    gid: Path
    site: Path
    weights: str
    out: Path

    @cached_property
    def source(self) -> Domain:
        """Source crops, as many of each class."""
        images, masks = (self.gid / "source" / name for name in ("image", "label"))
        rasters = self._rasters(images, masks)
        names = [Path(r.path).parent.name for r in rasters]
        chosen = data.balanced(names, np.arange(len(rasters)), SOURCE_CROPS, 0)
        return self._domain("source", PatchGrid.of([rasters[i] for i in chosen], data.CELL))

    @cached_property
    def target(self) -> Domain:
        """Target crops that share nothing with the source."""
        folder = self.gid / "target"
        rasters = self._rasters(folder / "image", folder / "label")
        return self._domain("target", PatchGrid.of(rasters, data.CELL))

    @cached_property
    def shifted(self) -> Domain:
        """The same as another sensor would see them."""
        folder = self.out / "shifted"
        if not folder.exists():
            write_simulated(self.gid / "target" / "image", folder, Sensor())
        rasters = self._rasters(folder, self.gid / "target" / "label")
        return self._domain("shifted", PatchGrid.of(rasters, data.CELL))

    @cached_property
    def aerial(self) -> Domain:
        """The aerial image, whose cells halves of are drawn by quarters of the image."""
        patches = aerial.patches(self.site, self.out / "aerial")
        seen = features.compute(patches, self._weights, self.out, "aerial")
        quarter = 2 * (patches.positions[:, 1] // 3) + patches.positions[:, 2] // 5
        return Domain(seen, quarter)

    def _rasters(self, images: Path, masks: Path) -> list[Any]:
        source = PatchSource((str(images),), masks=masks, unlabelled=data.UNLABELLED)
        rasters = source.rasters(data.scheme(), data.GSD, labelled=True)
        shared = shared_with_source(self.gid) if "source" not in images.parts else frozenset()
        return [r for r in rasters if data.class_name_of(Path(r.path)) not in shared]

    @property
    def _weights(self) -> dict[str, str]:
        return {features.DINO: self.weights}

    def _domain(self, name: str, patches: PatchGrid) -> Domain:
        cells = features.spread_cells(patches)
        seen = features.compute(cells, self._weights, self.out, name)
        return Domain(seen, data.groups(patches)[cells.positions[:, 0]])


def world(inputs: Inputs, name: str, kind: str, seed: int, *, standardize: bool = True) -> World:
    """A seed's source and target; crops that share pixels lie on one side of each cut."""
    source, target = inputs.source, getattr(inputs, name)
    train = np.zeros(len(source.groups), bool)
    main = main_classes(source.features.ids, source.groups)
    for class_id in range(len(data.scheme())):
        own = sorted(g for g, k in main.items() if k == class_id)
        shuffled = np.random.default_rng([seed, 5, class_id]).permutation(own)
        train |= np.isin(source.groups, shuffled[:LEARNT])
    look = np.zeros(len(target.groups), bool)
    main = main_classes(target.features.ids, target.groups)
    for class_id in range(len(data.scheme())):
        own = sorted(g for g, k in main.items() if k == class_id)
        shuffled = np.random.default_rng([seed, class_id]).permutation(own)
        look |= np.isin(target.groups, shuffled[: len(own) // 2])
    classes = len(data.scheme())
    return World(
        source.features, target.features, kind, classes, train, look, ~look, seed, standardize
    )


def backbones(inputs: Inputs, seeds: Sequence[int]) -> dict[str, Any]:
    """Kind of features -> domain -> balanced accuracy of each seed, without adaptation."""
    results: dict[str, Any] = {}
    for kind in BACKBONES:
        for standardize in (True, False):
            row = results.setdefault(kind + ("" if standardize else ", not standardised"), {})
            for seed in seeds:
                for name in ("target", "shifted"):
                    w = world(inputs, name, kind, seed, standardize=standardize)
                    right = recalls(METHODS["none"](w, _NONE).argmax(1), w.target.ids[w.test], 5)
                    row.setdefault(name, []).append(100 * float(np.nanmean(right)))
                held = w.head(w.source_x[~w.train]).argmax(1) == w.source.ids[~w.train]
                row.setdefault("held-out source", []).append(100 * float(held.mean()))
    return results


def aerial_accuracy(inputs: Inputs, seeds: Sequence[int]) -> dict[str, Any]:
    """Kind -> method -> accuracy of each seed in the aerial image's merged classes, percent."""
    results: dict[str, Any] = {}
    for kind in ADAPTED:
        for seed in seeds:
            w = world(inputs, "aerial", kind, seed)
            everything = np.ones(len(w.target.ids), bool)  # as a user would: learn where it maps
            w = World(w.source, w.target, kind, w.classes, w.train, everything, everything, seed)
            truth = aerial.merged(w.target.ids)
            for method in METHODS:
                predicted = METHODS[method](w, np.arange(len(truth))).argmax(1)
                right = float((aerial.merged(predicted) == truth).mean())
                results.setdefault(kind, {}).setdefault(method, []).append(100 * right)
    return results


_NONE = np.empty(0, np.int64)


def adaptation(inputs: Inputs, seeds: Sequence[int]) -> dict[str, Any]:
    """Kind -> domain -> method -> balanced accuracy and that of each mix, of each seed."""
    results: dict[str, Any] = {}
    for kind in ADAPTED:
        for name in ("target", "shifted"):
            rows = results.setdefault(kind, {}).setdefault(name, {})
            for seed in seeds:
                for method, accuracy in _adapted(world(inputs, name, kind, seed)).items():
                    rows.setdefault(method, []).append(
                        {"balanced": accuracy.balanced, "mixes": list(accuracy.mixes)}
                    )
                print(f"{kind}, {name}, seed {seed}", flush=True)
    return results


def _adapted(w: World) -> dict[str, Accuracy]:
    mixes = class_mixes(w.classes, w.seed)
    cells = [
        draw(mix, w.target.ids, w.target.crops, w.look, 100 * w.seed + number)
        for number, mix in enumerate(mixes)
    ]
    out = {}
    for method in METHODS:
        drawn = cells if method != "none" else cells[:1]
        found = [measure(w, method, c) for c in drawn]
        out[method] = Accuracy.of(found * (len(cells) // len(found)), mixes)
    return out


def pseudo_label_precision(inputs: Inputs, seeds: Sequence[int]) -> dict[str, Any]:
    """Kind -> domain -> of each seed, stage -> class or "all" -> share of labels that are right."""
    results: dict[str, Any] = {}
    for kind in ADAPTED:
        for name in ("target", "shifted"):
            for seed in seeds:
                w = world(inputs, name, kind, seed)
                selection, drawn = choose(w, np.flatnonzero(w.look))
                row = precision(selection, w.target.ids[drawn], data.scheme().names)
                results.setdefault(kind, {}).setdefault(name, []).append(row)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is missing, measure, write the page."""
    parser = argparse.ArgumentParser(description="frozen backbones and adaptation on crops")
    parser.add_argument("--dinov2", required=True, help="a file of DINOv2's weights")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        gid, site = data.data_folder("gid"), data.data_folder("sites") / "baker_lake"
        inputs = Inputs(gid, site, args.dinov2, args.out)
        shown = [Path(a).name if i and sys.argv[i] == "--dinov2" else a for i, a in enumerate(sys.argv[1:])]
        tables = {
            **facts(" ".join(["python -m reproduce.gid.frozen", *shown])),
            "seeds": args.seeds,
            "cells": {
                name: np.bincount(getattr(inputs, name).features.ids, minlength=5).tolist()
                for name in ("source", *DOMAINS)
            },
            "backbones": backbones(inputs, args.seeds),
            "precision": pseudo_label_precision(inputs, args.seeds),
            "aerial": aerial_accuracy(inputs, args.seeds),
            "adaptation": adaptation(inputs, args.seeds),
        }
    except GeopipeError as e:
        raise SystemExit(f"{e.message}; {e.hint}" if e.hint else e.message) from e
    (args.results / "frozen.json").write_text(json.dumps(tables, indent=1) + "\n")
    write_page(args.results / "frozen.md", tables)


if __name__ == "__main__":
    main()
