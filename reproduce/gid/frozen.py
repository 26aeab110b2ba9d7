"""Frozen backbones and ways to adapt without labels, over class mixes, on the clean split.

    python -m reproduce.gid.frozen --dinov2 vit_s_focus.onnx --seeds 0 1 2

Heads on features of EfficientNet-Lite0, of DINOv2 and of both, learnt from source crops and judged
on other scenes, on another sensor and on an aerial image. Needs the folders ``gid`` and
``sites/baker_lake`` below GEOPIPE_DATA, and a file of DINOv2's weights. What is computed lies below
``outputs/reproduce/gid/frozen``; writes ``frozen.json`` and ``frozen.md`` in ``docs/results/gid``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.errors import GeopipeError
from geopipe.files import atomic_file
from reproduce.facts import facts
from reproduce.gid import aerial, data, features
from reproduce.gid.adaptation import METHODS, World, choose, measure
from reproduce.gid.clean_split import LEARNT, CropFolders, adaptation_cells, training_cells
from reproduce.gid.frozen_page import write_page
from reproduce.gid.metrics import precision
from reproduce.gid.mixes import class_mixes, draw, over_mixes, recalls

OUT = Path("outputs/reproduce/gid/frozen")
RESULTS = Path("docs/results/gid")
BACKBONES = ("lite", "dino 5-7", "dino 6-8", "lite + dino 6-8")
ADAPTED = ("lite", "lite + dino 6-8")
"""Kinds of features that adaptation is measured on."""
DOMAINS = {"target": "other scenes", "shifted": "another sensor", "aerial": "Baker Lake, 0.5 m"}


@dataclass(frozen=True)
class Domain:
    """Cells of crops, what backbones see in them, and which crops share pixels."""

    features: features.DomainFeatures
    groups: np.ndarray
    """(n,) of each cell"""


@dataclass(frozen=True)
class Inputs(CropFolders):
    """Where data and weights lie."""

    site: Path
    weights: str

    @cached_property
    def source(self) -> Domain:
        """Source crops, as many of each class."""
        return self._domain("source")

    @cached_property
    def target(self) -> Domain:
        """Target crops that share nothing with the source."""
        return self._domain("target")

    @cached_property
    def shifted(self) -> Domain:
        """The same as another sensor would see them."""
        return self._domain("shifted")

    @cached_property
    def aerial(self) -> Domain:
        """The aerial image, whose cells halves of are drawn by quarters of the image."""
        patches = aerial.patches(self.site, self.out / "aerial")
        seen = features.compute(patches, self._weights, self.out, "aerial")
        quarter = 2 * (patches.positions[:, 1] // 3) + patches.positions[:, 2] // 5
        return Domain(seen, quarter)

    @property
    def _weights(self) -> dict[str, str]:
        return {features.DINO: self.weights}

    def _domain(self, name: str) -> Domain:
        crops = self.crops(name)
        cells = features.spread_cells(crops.patches)
        seen = features.compute(cells, self._weights, self.out, name)
        return Domain(seen, crops.groups[cells.positions[:, 0]])


def world(inputs: Inputs, name: str, kind: str, seed: int, *, standardize: bool = True) -> World:
    """A seed's source and target; crops that share pixels lie on one side of each cut."""
    source, target = inputs.source, getattr(inputs, name)
    train = training_cells(source.features.ids, source.groups, seed)
    look = adaptation_cells(target.features.ids, target.groups, seed)
    classes = len(data.scheme())
    return World(
        source.features, target.features, kind, classes, train, look, ~look, seed, standardize
    )


def of_seed(inputs: Inputs, seed: int, only: Sequence[str] = ()) -> dict[str, Any]:
    """All tables of one seed, or these; what was measured on the same features is read again."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "backbones": lambda: {
            kind + ("" if standardize else ", not standardised"): backbone_accuracy(
                inputs, kind, seed, standardize=standardize
            )
            for kind in BACKBONES
            for standardize in (True, False)
        },
        "aerial": lambda: {kind: aerial_accuracy(inputs, kind, seed) for kind in ADAPTED},
    }
    for kind in ADAPTED:
        for name in ("target", "shifted"):
            parts[f"{kind} | {name}"] = partial(_of_world, inputs, name, kind, seed)
    digest = _digest(inputs)
    tables = {}
    for part, compute in parts.items():
        if only and part not in only:
            continue
        words = re.sub(r"\W+", "-", part)
        file = inputs.out / f"seed-{seed}-{words}-{digest}.json"
        if not file.exists():
            table = compute()
            with atomic_file(file, parents=True) as stream:
                stream.write_text(json.dumps(table))
        tables[part] = json.loads(file.read_text())
    return tables


def _digest(inputs: Inputs) -> str:
    """Of the features and of what is done with them."""
    digest = hashlib.sha256(repr((list(METHODS), BACKBONES, ADAPTED, LEARNT)).encode())
    for name in ("source", *DOMAINS):
        seen = getattr(inputs, name).features
        digest.update(seen.lite.tobytes() + seen.dino.tobytes() + seen.ids.tobytes())
    return digest.hexdigest()[:16]


def _of_world(inputs: Inputs, name: str, kind: str, seed: int) -> dict[str, Any]:
    w = world(inputs, name, kind, seed)
    return {"adaptation": adaptation(w), "precision": pseudo_label_precision(w)}


def backbone_accuracy(
    inputs: Inputs, kind: str, seed: int, *, standardize: bool
) -> dict[str, float]:
    """Domain -> balanced accuracy without adaptation, percent; and accuracy on held-out source."""
    row = {}
    for name in ("target", "shifted"):
        w = world(inputs, name, kind, seed, standardize=standardize)
        predicted = w.head(w.target_x[w.test]).argmax(1)
        row[name] = 100 * float(np.nanmean(recalls(predicted, w.target.ids[w.test], w.classes)))
        held = w.head(w.source_x[~w.train]).argmax(1) == w.source.ids[~w.train]
        row["held-out source"] = 100 * float(held.mean())
    return row


def aerial_accuracy(inputs: Inputs, kind: str, seed: int) -> dict[str, float]:
    """Method -> accuracy in the aerial image's merged classes, percent.

    Methods look at the cells that they are judged on, without labels, as a user's would.
    """
    w = world(inputs, "aerial", kind, seed)
    everything = np.ones(len(w.target.ids), bool)
    w = replace(w, look=everything, test=everything)
    truth, row = aerial.merged(w.target.ids), {}
    for method, predict in METHODS.items():
        predicted = aerial.merged(predict(w, np.arange(len(truth))).argmax(1))
        row[method] = 100 * float((predicted == truth).mean())
    return row


def adaptation(w: World) -> dict[str, Any]:
    """Method -> balanced accuracy, and that of each mix, percent."""
    mixes = class_mixes(w.classes, w.seed)
    cells = [
        draw(mix, w.target.ids, w.target.crops, w.look, 100 * w.seed + number)
        for number, mix in enumerate(mixes)
    ]
    return {
        method: over_mixes(partial(measure, w, method), cells, mixes, once=method == "none")
        for method in METHODS
    }


def pseudo_label_precision(w: World) -> dict[str, Any]:
    """Stage -> class or "all" -> samples, and the share of labels that are right."""
    selection, drawn = choose(w, np.flatnonzero(w.look))
    return precision(selection, w.target.ids[drawn], data.scheme().names)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is missing, measure, write the page."""
    parser = argparse.ArgumentParser(description="frozen backbones and adaptation on crops")
    parser.add_argument("--dinov2", required=True, help="a file of DINOv2's weights")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--no-page", action="store_true", help="only run")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        gid, site = data.data_folder("gid"), data.data_folder("sites") / "baker_lake"
        inputs = Inputs(gid, args.out, site, args.dinov2)
        seeds = [of_seed(inputs, seed) for seed in args.seeds]
        cells = {
            name: np.bincount(getattr(inputs, name).features.ids, minlength=5).tolist()
            for name in ("source", *DOMAINS)
        }
    except GeopipeError as e:
        raise SystemExit(f"{e.message}; {e.hint}" if e.hint else e.message) from e
    if args.no_page:
        return
    command = f"python -m reproduce.gid.frozen --dinov2 {Path(args.dinov2).name} --seeds "
    tables = {
        **facts(command + " ".join(map(str, args.seeds))),
        "seeds": args.seeds,
        "cells": cells,
        "tables": seeds,
    }
    text = json.dumps(tables, indent=1)
    (args.results / "frozen.json").write_text(text + "\n", encoding="utf-8")
    write_page(args.results / "frozen.md", tables)


if __name__ == "__main__":
    main()
