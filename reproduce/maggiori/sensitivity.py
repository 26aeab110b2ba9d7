"""What the result depends on: the size of the enhancement tile, label noise, iterations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from odc.geo.geobox import GeoBox

from geopipe.labels import Area, ClippedLabels, RasterLabels, open_labels
from geopipe.learn import BaseNetworkPlan
from geopipe.metrics import Metrics
from reproduce.maggiori import methods
from reproduce.site import Site

SHARES = (0.25, 0.5)
ITERATIONS = (2, 10)
SAMPLES = Path("sample_tiles")


@dataclass(frozen=True)
class Case:
    """One change of one thing."""

    name: str
    does: Callable[[Site, int], tuple[Metrics, ...]]


def _smaller_tile(share: float) -> Case:
    def run(site: Site, seed: int) -> tuple[Metrics, ...]:
        label_path, scene = site.labels("enhance"), site.scene("enhance")
        part = site.rasterized_labels(
            f"enhance-{share:g}",
            "enhance",
            lambda: ClippedLabels(
                RasterLabels.open(label_path, site.scheme), _west(scene.geobox, share)
            ),
            [label_path],
        )
        name = f"tile-{share:g}-{seed}"
        model = methods.coarse_model(site, seed)
        refined = site.refined(name, model, site.refine_plan(seed), part)
        return site.evaluated(name, refined).steps

    return Case(f"{100 * share:.0f} % of the enhancement tile", run)


def _west(geobox: GeoBox, share: float) -> Area:
    """The western `share` of a plane."""
    left, bottom, right, top = geobox.extent.boundingbox
    box = shapely.box(left, bottom, left + share * (right - left), top)
    return Area(np.array([box], object), "the western part")


def _noise(times: int) -> Case:
    def run(site: Site, seed: int) -> tuple[Metrics, ...]:
        labels = site.rasterized_labels(
            f"train-noise-{times}",
            "train",
            lambda: open_labels(
                _noisier(site.out / f"noise-{times}.gpkg", times),
                site.scheme,
                site.scene("train").geobox,
            ),
            [SAMPLES / "osm.gpkg", SAMPLES / "truth.gpkg"],
        )
        name = f"noise-{times}-{seed}"
        model = site.coarse(name, labels, BaseNetworkPlan(seed=seed))
        refined = site.refined(name, model, site.refine_plan(seed))
        return site.evaluated(name, refined).steps

    return Case("no label noise" if not times else f"{times} times the label noise", run)


def _noisier(path: Path, times: int) -> Path:
    """The truth (0), or the map moved once more by its own shift and a fifth of it left out (2)."""
    if not times:
        return SAMPLES / "truth.gpkg"
    sys.path.insert(0, str(SAMPLES))
    from _osm import LEFT_OUT, ROADS_MISSING, _road_shift, osm_shift

    rng = np.random.default_rng(0)
    path.unlink(missing_ok=True)
    shifts = {"buildings": (osm_shift, LEFT_OUT), "roads": (_road_shift, ROADS_MISSING)}
    for layer, (shift, missing_share) in shifts.items():
        frame: gpd.GeoDataFrame = pyogrio.read_dataframe(SAMPLES / "osm.gpkg", layer=layer)
        kept_features = frame[rng.random(len(frame)) >= missing_share]

        def move(
            xy: np.ndarray, shift: Callable[..., tuple[np.ndarray, np.ndarray]] = shift
        ) -> np.ndarray:
            return np.asarray(xy + np.column_stack(shift(xy[:, 0], xy[:, 1])))

        shapes = shapely.transform(np.asarray(kept_features.geometry.array, object), move)
        pyogrio.write_dataframe(
            kept_features.set_geometry(shapes), path, layer=layer, driver="GPKG"
        )
    return path


def _iterations(count: int) -> Case:
    def run(site: Site, seed: int) -> tuple[Metrics, ...]:
        name = f"iterations-{count}-{seed}"
        plan = replace(site.refine_plan(seed), iterations=count)
        model = site.refined(name, methods.coarse_model(site, seed), plan)
        return site.evaluated(name, model).steps

    return Case(f"{count} iterations", run)


CASES = {
    **{f"tile-{s:g}": _smaller_tile(s) for s in SHARES},
    **{f"noise-{n}": _noise(n) for n in (0, 2)},
    **{f"iterations-{n}": _iterations(n) for n in ITERATIONS},
}
