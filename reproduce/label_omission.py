"""Whether label QC sees houses that were removed on purpose.

    python -m reproduce.label_omission

Houses are removed at random; the check of what is left estimates how many are missing. It
writes ``docs/results/label-omission.{json,md}``. The scenes are looked for in $GEOPIPE_DATA.
"""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd
import numpy as np
import shapely

from geopipe.classes import load_scheme
from geopipe.labels import open_labels
from geopipe.labels.extent import Extent, reproject
from geopipe.raster import Scene
from geopipe.register.label_qc import LabelQC
from reproduce.facts import facts

RESULTS = Path("docs/results/label-omission")
PLACES = {"massachusetts": "buildings.gpkg", "kampala": "buildings.geojson"}
SHARES = (0.0, 0.2, 0.5)


def measure(folder: Path, labels: str, share: float, seed: int = 0) -> dict[str, float | int | str]:
    """What is estimated where `share` of the houses was removed."""
    scene, scheme = Scene.open(str(folder / "scene.tif")), load_scheme("buildings")
    houses = gpd.read_file(folder / labels)[["geometry"]]
    gone = np.random.default_rng(seed).random(len(houses)) < share
    with TemporaryDirectory() as work:
        path = Path(work) / "kept.gpkg"
        houses[~gone].to_file(path)
        source = open_labels(path, scheme, scene.geobox, all_are="building")
        qc = LabelQC(scene, source)
        (omission,) = qc.examine().omissions
    crs = Extent(scene.geobox).crs
    removed = reproject(np.asarray(houses.geometry[gone].array, object), houses.crs, crs)
    removed = removed[shapely.intersects(scene.geobox.extent.geom, removed)]
    outlines = np.array([shapely.Polygon(qc.grid.from_px(s.rings)) for s in omission.spots], object)
    hits = shapely.intersects(outlines, shapely.union_all(removed)) if len(outlines) else outlines
    return {
        "place": folder.name,
        "share": share,
        "removed": len(removed),
        "kept": sum(source.counts[1:]),  # type: ignore[attr-defined]  # vectors
        "estimated": round(omission.expected, 1),
        "listed": len(omission.spots),
        "right": int(np.sum(hits)),
    }


def main() -> None:
    """Measure all places and write the table."""
    data = Path(os.environ.get("GEOPIPE_DATA", "../shared/data")) / "sites"
    rows = [measure(data / p, file, s) for p, file in PLACES.items() for s in SHARES]
    lines = [
        "# Houses that were removed on purpose, and what label QC sees",
        "",
        "; ".join(facts("`python -m reproduce.label_omission`").values()),
        "",
        "| place | houses kept | removed | estimated | listed | of these removed houses |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['place']} | {r['kept']} | {r['removed']} | {r['estimated']} | {r['listed']} | "
        f"{r['right']} |"
        for r in rows
    ]
    RESULTS.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
