"""Where to draw: IoU against the number of drawn windows, ranked ones and random ones.

    python -m reproduce.real.ask --sites massachusetts banepa

Needs the folder GEOPIPE_DATA. The starter model maps a site that it has not learnt from (for
Banepa `python -m reproduce.starter.run --without banepa` makes it). The site is cut into
stripes from west to east, by turns to draw in and to test. Windows of the former are ranked by
`geopipe ask` or chosen at random, and all true outlines in them are "drawn". The starter model is
fine-tuned on these and tested on the other stripes. A run that was stopped goes on. Writes
``docs/results/real/ask.json`` and ``ask.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.windows import Window

from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.checkpoint.starter import STARTER
from geopipe.errors import SceneError
from geopipe.files import atomic_file
from geopipe.labels.drawn import OUTLINES, WINDOWS, DrawingWindow, write_drawing_file
from geopipe.mapping import Engine
from geopipe.mapping.where_to_draw import DrawingPlan, ask_where_to_draw
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle
from geopipe.workflow.run import train_workflow
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.train import TrainingSettings
from reproduce.facts import facts
from reproduce.gid.data import data_folder
from reproduce.starter.run import SITES as LEARNT
from reproduce.starter.run import model_without

OUT = Path("outputs/reproduce/real-ask")
RESULTS = Path("docs/results/real")
SITES = {
    "massachusetts": ("sites/massachusetts", "buildings.gpkg", 100.0, None),
    "banepa": ("banepa", "osm_buildings.geojson", 40.0, (1790, 1800, 1040, 1500)),
}
"""Folder, true outlines, metres of a window, and the part of the scene where outlines are complete:
row, column, height, width."""
STRIPE = 3
"""Width of a stripe, in windows; half a window to each side is neither drawn in nor tested."""
COMMAND = "python -m reproduce.real.ask"


@dataclass(frozen=True, eq=False)
class Site:
    """A place and its truth."""

    name: str
    scene: Path
    truth: gpd.GeoDataFrame
    metres: float
    start: Path
    """The starter model, without what it learnt here."""
    out: Path

    @classmethod
    def open(cls, name: str, out: Path) -> Site:
        """A site of the real data, its outlines in the scene's CRS."""
        place, outlines, metres, box = SITES[name]
        folder = data_folder(place)
        scene = folder / "scene.tif"
        if box:
            scene = _part(scene, box, out / name / "scene.tif")
        with rasterio.open(scene) as src:
            truth = gpd.read_file(folder / outlines).to_crs(src.crs)
        start = model_without(name) if name in LEARNT else STARTER
        return cls(name, scene, truth, metres, start, out / name)

    def stripe(self, x: np.ndarray) -> np.ndarray:
        """Of each x in the scene's CRS, the place in its pair of stripes: [0, 1) is to draw in."""
        with rasterio.open(self.scene) as src:
            return np.asarray((x - src.bounds.left) / (STRIPE * self.metres) % 2)

    def to_draw_in(self, window: DrawingWindow) -> bool:
        """Whether all of a window lies in a stripe to draw in."""
        left, _, right, _ = window.shape.bounds
        start, end = self.stripe(np.array([left + 1e-3, right - 1e-3]))
        return bool(start < end < 1)

    def mapped(self, model: Path, folder: Path) -> Path:
        """The map by a model, made once."""
        if not (folder / "item.json").is_file():
            write_bundle(Scene.open(str(self.scene)), model, folder, MapOptions(Engine("cpu")))
        return folder

    def random(self, pool: Sequence[DrawingWindow], count: int, seed: int) -> list[DrawingWindow]:
        """Windows at random, drawn again where there is no building in any."""
        rng = np.random.default_rng(seed)
        while True:
            some = [pool[i] for i in rng.permutation(len(pool))[:count].tolist()]
            if any(self.truth.intersects(w.shape).any() for w in some):
                return some

    def iou(self, folder: Path) -> float:
        """Percent, of buildings in the stripes to test."""
        with rasterio.open(folder / "classes.tif") as src:
            ids, transform = src.read(1), src.transform
        truth = rasterize(self.truth.geometry, ids.shape, transform=transform, dtype="uint8") == 1
        place = self.stripe(transform.c + (np.arange(ids.shape[1]) + 0.5) * transform.a)
        margin = 0.5 / STRIPE
        known = (ids != 255) & ((place > 1 + margin) & (place < 2 - margin))[None]
        built = ids == 1
        union = ((built | truth) & known).sum()
        return 100 * float((built & truth & known).sum() / union)

    def trained(self, windows: Sequence[DrawingWindow], steps: int) -> float:
        """IoU after fine-tuning the starter model on what is true in the windows."""
        made_of = [file_hash(self.start), steps, *(w.shape.wkt for w in windows)]
        folder = self.out / hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
        if (folder / "map" / "item.json").is_file():
            return self.iou(folder / "map")
        folder.mkdir(parents=True, exist_ok=True)
        drawn = folder / "drawn.gpkg"
        scheme = Checkpoint.load(self.start).scheme
        write_drawing_file(drawn, windows, Scene.open(str(self.scene)).geobox, scheme)
        layer = gpd.read_file(drawn, layer=WINDOWS).assign(drawn=True)
        layer.to_file(drawn, layer=WINDOWS, mode="w")
        inside = self.truth[self.truth.intersects(layer.geometry.union_all())]
        outlines = inside[["geometry"]].assign(**{"class": "building"})
        outlines.to_file(drawn, layer=OUTLINES, mode="a")
        labelled = LabelledScene(scene=str(self.scene), labels=drawn)
        settings = TrainingSettings(
            "buildings", steps=0, refinement="finetune", refinement_steps=steps, device="cpu",
            start=self.start,
        )  # fmt: skip
        workflow = settings.workflow(labelled, labelled, folder / "work")
        quick = workflow.refinement.model_copy(update={"calibrate": False})
        model = train_workflow(workflow.model_copy(update={"refinement": quick}))
        return self.iou(self.mapped(model, folder / "map"))


def _part(scene: Path, box: tuple[int, int, int, int], out: Path) -> Path:
    """`out`: the pixels of `scene` in row, column, height and width."""
    row, col, height, width = box
    with rasterio.open(scene) as src:
        window = Window(col, row, width, height)
        profile = {
            "driver": "GTiff", "count": src.count, "dtype": src.dtypes[0], "height": height,
            "width": width, "crs": src.crs, "transform": src.window_transform(window),
        }  # fmt: skip
        with atomic_file(out, parents=True) as part, rasterio.open(part, "w", **profile) as dst:
            dst.write(src.read(window=window))
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sites that are asked for, and write the page."""
    parser = argparse.ArgumentParser(description="ranked against random windows")
    parser.add_argument("--sites", nargs="+", default=list(SITES), choices=list(SITES))
    parser.add_argument("--windows", nargs="+", type=int, default=[2, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    tables: dict[str, Any] = {**facts(COMMAND), "steps": args.steps, "sites": {}}
    for name in args.sites:
        tables["sites"][name] = _site(Site.open(name, args.out), args)
        args.results.mkdir(parents=True, exist_ok=True)
        (args.results / "ask.json").write_text(json.dumps(tables, indent=1) + "\n")
        (args.results / "ask.md").write_text(page(tables))


def _site(site: Site, args: argparse.Namespace) -> dict[str, Any]:
    folder = site.mapped(site.start, site.out / f"starter-{file_hash(site.start)[:16]}")
    before = site.iou(folder)
    plan = DrawingPlan(10_000, site.metres)
    ranked = ask_where_to_draw(
        folder,
        site.out / "ask.gpkg",
        plan,
        model=site.start,
        scene=[str(site.scene)],
        overwrite=True,
    ).windows
    pool = [w for w in ranked if site.to_draw_in(w)]
    rows = []
    for count in args.windows:
        if count > len(pool) // 2:
            raise SceneError(f"{site.name} has {len(pool)} windows to draw in, too few for {count}")
        best = site.trained(pool[:count], args.steps)
        print(f"{site.name}, {count} windows: ranked {best:.1f}", flush=True)
        draws = []
        for seed in args.seeds:
            draws.append(site.trained(site.random(pool, count, seed), args.steps))
            print(f"{site.name}, {count} windows: random {draws[-1]:.1f}", flush=True)
        rows.append({"windows": count, "ranked": best, "random": draws})
    return {"before": before, "pool": len(pool), "metres": site.metres, "rows": rows}


def page(tables: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Where to draw",
        "",
        "IoU of buildings in stripes of a site, after the starter model, which has not learnt from",
        f"it, was fine-tuned ({tables['steps']} steps, not calibrated) on all true outlines in",
        "windows of the stripes between: the first that `geopipe ask` ranks there, or random ones",
        "(mean and range of the seeds).",
        "",
        "| site | drawn ha | windows (of) | ranked | random |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, site in tables["sites"].items():
        lines.append(f"| {name} | 0 | 0 | {site['before']:.1f} | {site['before']:.1f} |")
        for row in site["rows"]:
            draws, area = row["random"], row["windows"] * site["metres"] ** 2 / 1e4
            lines.append(
                f"| {name} | {area:.2g} | {row['windows']} ({site['pool']}) | {row['ranked']:.1f} |"
                f" {np.mean(draws):.1f} ({min(draws):.1f} to {max(draws):.1f}) |"
            )
    return "\n".join([*lines, "", f"Made by `{tables['command']}`.", ""])


if __name__ == "__main__":
    main()
