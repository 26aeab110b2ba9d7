"""Where to draw: IoU against the number of drawn windows, ranked ones and random ones.

    python -m reproduce.real.ask --sites massachusetts kampala

Needs the folder GEOPIPE_DATA. The starter model maps a site; windows of its western half are
ranked by `geopipe ask` or chosen at random, and all true outlines in them are "drawn". The starter
model is fine-tuned on these and judged on the eastern half, from which windows keep a distance of
their own side. Kampala's starter model is one that has not learnt from Kampala (`python -m
reproduce.starter.run --without kampala`). A run that was stopped goes on. Writes
``docs/results/real/ask.json`` and ``ask.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.features import rasterize

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.starter import STARTER
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
    "massachusetts": ("scene.tif", "buildings.gpkg", 100.0),
    "kampala": ("scene.tif", "buildings.geojson", 50.0),
}
"""Scene, true outlines, metres of a window."""
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
        scene, outlines, metres = SITES[name]
        folder = data_folder("sites") / name
        with rasterio.open(folder / scene) as src:
            truth = gpd.read_file(folder / outlines).to_crs(src.crs)
        start = model_without(name) if name in LEARNT else STARTER
        return cls(name, folder / scene, truth, metres, start, out / name)

    @property
    def middle(self) -> float:
        """x that parts the halves."""
        with rasterio.open(self.scene) as src:
            return float(src.bounds.left + src.bounds.right) / 2

    def mapped(self, model: Path, folder: Path) -> Path:
        """The map by a model, made once."""
        if not (folder / "item.json").is_file():
            write_bundle(Scene.open(str(self.scene)), model, folder, MapOptions(Engine("cpu")))
        return folder

    def iou(self, folder: Path) -> float:
        """Percent, of buildings in the eastern half."""
        with rasterio.open(folder / "classes.tif") as src:
            ids, transform = src.read(1), src.transform
        truth = rasterize(self.truth.geometry, ids.shape, transform=transform, dtype="uint8") == 1
        east = transform.c + (np.arange(ids.shape[1]) + 0.5) * transform.a > self.middle
        known = (ids != 255) & east[None]
        built = ids == 1
        union = ((built | truth) & known).sum()
        return 100 * float((built & truth & known).sum() / union)

    def trained(self, windows: Sequence[DrawingWindow], name: str, steps: int) -> float:
        """IoU after fine-tuning the starter model on what is true in the windows."""
        folder = self.out / name
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
    folder = site.mapped(site.start, site.out / "starter")
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
    pool = [w for w in ranked if w.shape.bounds[2] <= site.middle - site.metres]
    rows = []
    for count in args.windows:
        best = site.trained(pool[:count], f"ranked-{count}", args.steps)
        print(f"{site.name}, {count} windows: ranked {best:.1f}", flush=True)
        draws = []
        for seed in args.seeds:
            some = np.random.default_rng(seed).permutation(len(pool))[:count]
            random = [pool[i] for i in some.tolist()]
            draws.append(site.trained(random, f"random-{count}-{seed}", args.steps))
            print(f"{site.name}, {count} windows: random {draws[-1]:.1f}", flush=True)
        rows.append({"windows": count, "ranked": best, "random": draws})
    return {"before": before, "pool": len(pool), "metres": site.metres, "rows": rows}


def page(tables: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Where to draw",
        "",
        "IoU of buildings in the eastern half of a site, after the starter model was fine-tuned",
        f"({tables['steps']} steps) on all true outlines in windows of the western half: the first",
        "that `geopipe ask` ranks, or random ones (mean and range of the seeds). The starter model",
        "has not learnt from the site; windows keep a distance of their side from the other half.",
        "",
        "| site | drawn ha | windows | ranked | random |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, site in tables["sites"].items():
        lines.append(f"| {name} | 0 | 0 | {site['before']:.1f} | {site['before']:.1f} |")
        for row in site["rows"]:
            draws, area = row["random"], row["windows"] * site["metres"] ** 2 / 1e4
            lines.append(
                f"| {name} | {area:.2g} | {row['windows']} | {row['ranked']:.1f} |"
                f" {np.mean(draws):.1f} ({min(draws):.1f} to {max(draws):.1f}) |"
            )
    return "\n".join([*lines, "", f"Made by `{tables['command']}`.", ""])


if __name__ == "__main__":
    main()
