"""What a case of bad input is made of.

Each writes its files into `box.inputs` and gives the words of a command that would write into
`box.out`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from tiny_place import LEFT, TOP, write_scene


class Cases(dict):
    """Name of a case -> what gives its words, a pattern in the line of the error, options."""

    def __call__(self, expected, **options):
        """A decorator that puts a function in as a case."""

        def put(make):
            self[make.__name__] = (make, expected, options)
            return make

        return put


@dataclass(frozen=True)
class Box:
    """Where a case puts its files, and a place that is in order."""

    inputs: Path
    out: Path
    scene: Path
    osm: Path
    model: Path

    def image(self, name="bad.tif", bands=3, shape=(80, 90), **options):
        data = np.random.default_rng(0).integers(1, 255, (bands, *shape)).astype(np.uint8)
        return write_scene(self.inputs / name, data, **options)

    def text(self, name, text):
        path = self.inputs / name
        path.write_text(text)
        return path

    def cut(self, path, share=0.6):
        target = self.inputs / f"cut{path.suffix}"
        target.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return target

    def vectors(self, name="bad.gpkg", *, crs="EPSG:2154", east=0.0, **columns):
        columns = columns or {"building": ["yes"]}
        box = shapely.box(LEFT + east + 10, TOP - 30, LEFT + east + 30, TOP - 10)
        frame = gpd.GeoDataFrame(columns, geometry=[box], crs=crs)
        frame.to_file(self.inputs / name)
        return self.inputs / name

    def map(self, scene=None, model=None, *more):
        return ["map", scene or self.scene, model or self.model, "-o", self.out / "map", *more]

    def labels(self, scene=None, osm=None, *more):
        return ["labels", scene or self.scene, osm or self.osm, "-o", self.out / "l.tif", *more]

    def run(self, *more, **tables):
        """A workflow of one scene; ``train={...}`` replaces its table."""
        train = {"scene": str(self.scene), "labels": str(self.osm), **tables.pop("train", {})}
        # With an enhancement tile, without which there is a warning.
        tables = {"enhance": {"scene": self.scene, "labels": self.osm}, **tables}
        lines = ['name = "w"', f'out = "{self.out}/made"', 'schedule = "paper"']
        lines += ["[base]", "steps = 1", "batch = 2", "[refinement]", "steps = 1", "batch = 2"]
        for name, table in {"train": train, **tables}.items():
            lines += [f"[{name}]", *(f"{k} = {json.dumps(str(v))}" for k, v in table.items())]
        return ["run", self.text("w.toml", "\n".join(lines)), *more]
