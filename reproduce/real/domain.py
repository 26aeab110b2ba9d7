"""How well a model knows an image that is foreign to it: ``docs/results/out-of-domain.md``.

    python -m reproduce.real.domain MODEL --site massachusetts --out outputs/reproduce/real

MODEL was trained on the training part of the site. Held-out parts of the site, transformed copies
of them, and other places of ``reproduce/real/*.toml`` are compared with what it learned from. Needs
the folder GEOPIPE_DATA.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from scipy.ndimage import gaussian_filter

from geopipe.checkpoint import Checkpoint
from geopipe.learn.domain import scene_windows
from geopipe.mapping.tile import cell_features
from geopipe.nets.features import FeatureObserver
from geopipe.raster import Scene
from reproduce.facts import facts
from reproduce.real.place import FOLDER, Place

log = logging.getLogger(__name__)

RESULTS = Path("docs/results")
_MAX_WINDOWS = 6
_VALID = 0.3
"""Share of a window that is an image."""
_KNOWN = "held-out part of the training scene"
_CHANGED = "the test part, changed"

Image = np.ndarray
"""(3, h, w) float32, 0 to 255"""


def night(image: Image, rng: np.random.Generator) -> Image:
    """A sixth of the light, and the sensor's noise."""
    return image / 6 + rng.normal(0, 4, image.shape)


def haze(image: Image, rng: np.random.Generator) -> Image:
    """Two thirds of a bright veil over a slightly blurred image."""
    del rng
    result: Image = 0.35 * gaussian_filter(image, (0, 1, 1)) + 0.65 * 225
    return result


def radar(image: Image, rng: np.random.Generator) -> Image:
    """Grey, with the multiplicative speckle of two looks."""
    grey = image.mean(0) * rng.gamma(2, 0.5, image.shape[1:])
    return np.stack([grey] * 3)


def paper_map(image: Image, rng: np.random.Generator) -> Image:
    """Flat tints between thin dark lines on paper."""
    levels = np.digitize(gaussian_filter(image.mean(0), 6), (60, 80, 100, 120, 140))
    tints = np.array([[236, 228, 205], [205, 222, 188], [240, 214, 180], [225, 225, 225]] * 2)
    result = tints[levels].transpose(2, 0, 1).astype(np.float32)
    lines = (
        np.abs(np.diff(levels, axis=0, prepend=0)) + np.abs(np.diff(levels, axis=1, prepend=0))
    ) > 0
    result[:, lines] = 60
    printed: Image = gaussian_filter(result, (0, 0.6, 0.6)) + rng.normal(0, 3, image.shape)
    return printed


def false_colour(image: Image, rng: np.random.Generator) -> Image:
    """Near infrared, red, green as red, green, blue: vegetation is bright where it was dark."""
    del rng
    red, green, blue = image
    infrared = np.clip(60 + 2.2 * green - 0.7 * red - 0.7 * blue, 0, 255)
    return np.stack([infrared, red, green])


def coarser(image: Image, rng: np.random.Generator) -> Image:
    """As a sensor of four times the pixel size saw it, brought to the same pixels again."""
    del rng
    result: Image = gaussian_filter(image, (0, 2.5, 2.5))
    return result


TRANSFORMS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "night": night,
    "haze": haze,
    "radar, simulated": radar,
    "scanned paper map, simulated": paper_map,
    "false colour, simulated": false_colour,
    "resolution four times coarser": coarser,
}


def transformed(source: Path, target: Path, change: Callable[..., Image]) -> Path:
    """`source` as `change` makes it."""
    with rasterio.open(source) as src:
        image, profile = src.read([1, 2, 3]).astype(np.float32), src.profile
    pixels = change(image, np.random.default_rng(0)).clip(0, 255).astype(np.uint8)
    profile.update(count=3, dtype="uint8", driver="GTiff")
    with rasterio.open(target, "w", **profile) as dst:
        dst.write(pixels)
    return target


def enlarged(source: Path, target: Path) -> Path:
    """`source` with pixels that are said to be three times as large as they are."""
    with rasterio.open(source) as src:
        pixels, profile = src.read(), src.profile
    profile["transform"] *= Affine.scale(3)
    with rasterio.open(target, "w", **profile) as dst:
        dst.write(pixels)
    return target


def row(name: str, kind: str, model: Checkpoint, scene: Scene) -> dict[str, Any] | None:
    """Scores of the cells of at most _MAX_WINDOWS windows, spread over the scene."""
    assert model.domain is not None
    observer = FeatureObserver(model.net.base)
    windows = [w for w in scene_windows(scene, model) if scene.read(w).valid.mean() > _VALID]
    picked = np.linspace(0, len(windows) - 1, min(len(windows), _MAX_WINDOWS)).round().astype(int)
    taken = [cell_features(model, observer, scene, windows[index]) for index in picked]
    scores = [model.domain.scores(t.features[t.known]) for t in taken if t]
    values = np.concatenate([*scores, np.zeros(0)])
    if not len(values):
        log.warning("%s has no cell with enough of an image", scene.path)
        return None
    log.info("%s: %.0f %%", name, 100 * (values > 1).mean())
    return {
        "image": name,
        "kind": kind,
        "cells": len(values),
        "median_score": float(np.median(values)),
        "out_of_domain": float((values > 1).mean()),
    }


def rows(
    model: Checkpoint, place: Place, data: Path, work: Path
) -> Iterator[dict[str, Any] | None]:
    """Every image: held-out parts, changed copies of one, other places."""
    for role in ("test", "select"):
        yield row(f"{place.name}, {role}", _KNOWN, model, Scene.open(place.scene(role)))
    test = place.scene("test")
    for number, (name, change) in enumerate(TRANSFORMS.items()):
        path = transformed(test, work / f"changed-{number}.tif", change)
        yield row(name, _CHANGED, model, Scene.open(path))
    path = enlarged(test, work / "enlarged.tif")
    yield row("pixels three times as large as they were", _CHANGED, model, Scene.open(path))
    for site in sorted(p.stem for p in FOLDER.glob("*.toml")):
        if site == place.name:
            continue
        other = Place.open(site, data, work)
        scene = Scene.open(data / other.spec["scene"], nodata=other.nodata)
        if len(scene.bands) == model.bands and scene.dtype == model.dtype:
            yield row(other.spec["title"], "another place", model, scene)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score every image and write the table."""
    parser = argparse.ArgumentParser(description="what a model takes for foreign")
    parser.add_argument("model", type=Path)
    parser.add_argument("--site", default="massachusetts")
    parser.add_argument("--out", type=Path, default=Path("outputs/reproduce/real"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    model = Checkpoint.load(args.model)
    place = Place.open(args.site, data, args.out / "places")
    work = args.out / "domain"
    work.mkdir(parents=True, exist_ok=True)
    made = [each for each in rows(model, place, data, work) if each]
    command = f"python -m reproduce.real.domain {args.model.name} --site {args.site}"
    message = {**facts(command), "site": args.site, "rows": made}
    (args.results / "out-of-domain.json").write_text(json.dumps(message, indent=1) + "\n")
    (args.results / "out-of-domain.md").write_text(_page(message))


def _page(message: dict[str, Any]) -> str:
    lines = [
        "# Images that a model does not know",
        "",
        f"A model trained on the training part of {message['site']}. A cell of 128 network pixels",
        "is out of domain where its score is above 1, the limit that 99 % of held-out training",
        "cells stay below. A map is warned of from 10 % on.",
        "",
        "| image | kind | cells | median score | out of domain |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r['image']} | {r['kind']} | {r['cells']} | {r['median_score']:.2f} "
        f"| {100 * r['out_of_domain']:.0f} % |"
        for r in message["rows"]
    ]
    return "\n".join([*lines, "", f"Made by `{message['command']}`."]) + "\n"


if __name__ == "__main__":
    main()
