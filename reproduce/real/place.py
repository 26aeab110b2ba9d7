"""A real place: its scene and labels, cut into parts that are trained on and a part that is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import rasterio
import shapely
from rasterio.windows import Window
from rasterio.windows import transform as window_transform
from shapely.geometry.base import BaseGeometry

from geopipe.config import load
from geopipe.grid import ground_gsd
from geopipe.raster import Scene
from reproduce.results import PlaceSpec
from workflows.noise_osm import Noise, add_noise  # a script beside the workflows it is for

FOLDER = Path(__file__).parent
MARGIN_M = 120.0
"""Ground around a part that is in its image: what a network sees beyond the labels."""
ROLES = ("train", "enhance", "select", "test")
_LEFT_OUT = 0.2


@dataclass(frozen=True)
class Place:
    """A site as its TOML file describes it; `out` takes what is made of it."""

    name: str
    spec: dict[str, Any]
    data: Path
    out: Path

    @classmethod
    def open(cls, name: str, data: Path, out: Path) -> Place:
        """The site of ``reproduce/real/<name>.toml``; its files lie below `data`."""
        spec = load(FOLDER / f"{name}.toml", PlaceSpec).model_dump(
            by_alias=True, exclude_unset=True
        )
        return cls(name, spec, data, out / name)

    @property
    def nodata(self) -> float | None:
        """The value of holes that the file does not declare."""
        return self.spec.get("nodata")

    @property
    def noise(self) -> Noise | None:
        """How the labels of the training part are spoilt; None: they are used as they are."""
        shift = self.spec.get("noise")
        return Noise(shift=tuple(shift), left_out=_LEFT_OUT, phantom=0.0) if shift else None

    @cached_property
    def truth(self) -> gpd.GeoDataFrame:
        """All labels in the scene's CRS, with a column ``class``."""
        frame = pyogrio.read_dataframe(self.data / self.spec["labels"], force_2d=True)
        column, classes = self.spec.get("column"), self.spec.get("values", {})
        kind = frame[column].astype(str).map(classes) if column else self.spec.get("class")
        named = gpd.GeoDataFrame({"class": kind}, geometry=frame.geometry, index=frame.index)
        return named[named["class"].notna()].to_crs(str(self._scene.geobox.crs))

    @cached_property
    def _scene(self) -> Scene:
        return Scene.open(self.data / self.spec["scene"], self.spec.get("bands"), self.nodata)

    def area(self, role: str) -> BaseGeometry:
        """The ground of a part, in the scene's CRS."""
        plane = self._scene.geobox.affine
        boxes = self.spec["boxes"][role]
        rings = [[(c, r), (c + w, r), (c + w, r + h), (c, r + h)] for c, r, w, h in boxes]
        return shapely.union_all(
            [shapely.Polygon([plane * corner for corner in ring]) for ring in rings]
        )

    def scene(self, role: str) -> Path:
        """The image of a part with MARGIN_M around it; of the accurate tile without."""
        target = self.out / f"{role}.tif"
        if target.exists():
            return target
        boxes = np.array(self.spec["boxes"][role])
        low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
        metres = 0.0 if role == "enhance" else MARGIN_M
        down, along = (math.ceil(metres / gsd) for gsd in ground_gsd(self._scene.geobox))
        with rasterio.open(self._scene.path) as src:
            left, top = max(low[0] - along, 0), max(low[1] - down, 0)
            right, bottom = min(high[0] + along, src.width), min(high[1] + down, src.height)
            window = Window(left, top, right - left, bottom - top)
            profile = {
                "driver": "GTiff",
                "count": src.count,
                "dtype": src.dtypes[0],
                "crs": src.crs,
                "transform": window_transform(window, src.transform),
                "nodata": src.nodata,
                "width": window.width,
                "height": window.height,
                "compress": "deflate",
                "interleave": "pixel",
                "tiled": True,
            }
            pixels, mask = src.read(window=window), src.dataset_mask(window=window)
            colours = src.colorinterp
        self.out.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part.tif")
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(part, "w", **profile) as dst:
            dst.colorinterp = colours
            dst.write(pixels)
            if src.nodata is None and not mask.all():
                dst.write_mask(mask)
        part.replace(target)
        return target

    def labels(self, role: str) -> Path:
        """The vectors that a part is trained with or judged by."""
        target = self.out / f"{role}.gpkg"
        if not target.exists():
            frame = self.truth
            if role == "train" and self.noise:
                noisy = add_noise(frame.reset_index(drop=True), self.noise).frame
                frame = gpd.GeoDataFrame(pd.DataFrame(noisy), crs=frame.crs)
            self._write(frame, target)
        return target

    def area_file(self, role: str) -> Path:
        """`area` as a file."""
        target = self.out / f"{role}-area.gpkg"
        if not target.exists():
            self._write(gpd.GeoDataFrame(geometry=[self.area(role)], crs=self.truth.crs), target)
        return target

    def _write(self, frame: gpd.GeoDataFrame, target: Path) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part.gpkg")
        part.unlink(missing_ok=True)
        pyogrio.write_dataframe(frame, part, driver="GPKG")
        part.replace(target)
