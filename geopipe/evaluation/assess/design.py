"""SampleDesign: the sampling design, stored in the GeoPackage beside the sample points."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import geopandas
import numpy as np
import pyogrio
import pyogrio.errors
import pyproj
from affine import Affine
from geopandas import GeoDataFrame
from pydantic import ConfigDict, Field
from pyproj.exceptions import CRSError

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import LabelError
from geopipe.labels.openvector import read_dataframe, read_info
from geopipe.raster.geopackage import atomic_geopackage, write_layer
from geopipe.raster.layerstyle import add_layer_style
from geopipe.raster.style import points_qml
from geopipe.validation import STORED, Count, Digest, Name, Side, Text, parse_json

LAYER = "points"
_KEY = "GEOPIPE_DESIGN"
_FORMAT = 1


@dataclass(frozen=True)
class SampleDesign:
    """A stratified random sample of the pixels of one class map; strata are the mapped classes.

    Tuples by class are in the order of the ids; of the point with the ``id`` i, `rows` and `cols`
    hold the pixel at i - 1. What class is mapped there only the map tells: points are looked at
    blind.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    map_name: Text
    sha256: Digest
    """`pixels.Fingerprint` of the map."""
    shape: tuple[Side, Side]
    transform: Annotated[tuple[float, ...], Field(min_length=6, max_length=6)]
    """The six of an Affine."""
    crs: Annotated[str, Field(max_length=1 << 16)]
    """WKT"""
    classes: Annotated[tuple[tuple[Name, str], ...], Field(min_length=2, max_length=IGNORE)]
    """(name, colour)"""
    pixels: tuple[Count, ...]
    area_m2: tuple[Annotated[float, Field(ge=0)], ...]
    """On the ground."""
    points: tuple[Count, ...]
    expected: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    """User's accuracies conjectured for the sample size."""
    half_width: Annotated[float, Field(ge=0)]
    """Half of the 95 % interval of the overall accuracy, if the conjecture is right."""
    seed: Annotated[int, Field(ge=0)]
    area: Text | None
    """The file with the polygons that limit the sample."""
    software: Text
    rows: tuple[Count, ...] = ()
    cols: tuple[Count, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(name for name, _ in self.classes)

    @property
    def affine(self) -> Affine:
        """Pixel to map coordinates."""
        return Affine(*self.transform)

    def to_json(self) -> str:
        """For the file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, source: Path) -> Self:
        """Inverse of `to_json`; LabelError when it is damaged, or another version wrote it."""
        where, hint = f"the design in {source}", "give the file that 'geopipe assess plan' wrote"
        stored = parse_json(text, _Stored, where, LabelError, hint)
        design = cls(**{f.name: getattr(stored, f.name) for f in fields(cls)})
        if problem := design.inconsistent():
            raise LabelError(f"{where} is damaged: {problem}", hint)
        return design

    def inconsistent(self) -> str:
        """What contradicts itself, or nothing."""
        n = len(self.classes)
        for name in ("pixels", "area_m2", "points", "expected"):
            if len(getattr(self, name)) != n:
                return f"{name}: {len(getattr(self, name))} values for {n} classes"
        if not len(self.rows) == len(self.cols) == sum(self.points):
            return (
                f"rows: {len(self.rows)} and {len(self.cols)} columns of {sum(self.points)} points"
            )
        if any(p > k for p, k in zip(self.points, self.pixels, strict=True)):
            return "points: more than pixels"
        if self.rows and (max(self.rows) >= self.shape[0] or max(self.cols) >= self.shape[1]):
            return "rows: pixels beyond the map"
        if not self.affine.determinant:
            return "transform: pixels without an area"
        try:
            pyproj.CRS.from_wkt(self.crs)
        except CRSError as e:
            return f"crs: {' '.join(str(e).split())[:200]}"
        return ""


@dataclass(frozen=True, kw_only=True)
class _Stored(SampleDesign):
    """A `SampleDesign` as the file has it."""

    format: Literal[1]


def write_points(target: Path, design: SampleDesign, scheme: ClassScheme) -> None:
    """Write the points of `design` to the GeoPackage `target`, with their style and design.

    Layer ``points``: ``id`` and an empty text ``truth``, at the centres of the pixels, in the CRS
    of the map. Raises OutputError when the file cannot be written; then nothing is left behind.
    """
    a, col, row = design.affine, np.array(design.cols) + 0.5, np.array(design.rows) + 0.5
    x, y = a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f
    n = len(design.rows)
    columns = {"id": np.arange(1, n + 1, dtype=np.int32), "truth": np.full(n, None, object)}
    crs = pyproj.CRS.from_wkt(design.crs)
    table = GeoDataFrame(columns, geometry=geopandas.points_from_xy(x, y), crs=crs)
    with atomic_geopackage(target) as part:
        about = {_KEY: design.to_json()}
        write_layer(table, part, LAYER, geometry_type="Point", dataset_metadata=about)
        add_layer_style(
            part, LAYER, scheme.name, points_qml(scheme), "truth to fill in, and filled"
        )


def read_points(path: Path) -> tuple[SampleDesign, GeoDataFrame]:
    """The design in `path` and its layer of points as it is now, indexed by fid.

    Raises LabelError when it is not a file that `write_points` wrote.
    """
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    try:
        stored_design = (read_info(path, layer=LAYER)["dataset_metadata"] or {}).get(_KEY)
        table = read_dataframe(path, layer=LAYER, fid_as_index=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, KeyError) as e:
        raise LabelError(
            f"cannot read the layer '{LAYER}' of {path}: {e}",
            "give the file that 'geopipe assess plan' wrote and was filled in",
        ) from e
    if stored_design is None:
        raise LabelError(
            f"{path} does not hold the design of its points",
            "give the file that 'geopipe assess plan' wrote and was filled in, not a copy of the"
            " layer",
        )
    if missing := [c for c in ("id", "truth") if c not in table.columns]:
        raise LabelError(
            f"the points of {path} have no field '{missing[0]}'",
            f"fields: {', '.join(table.columns.drop('geometry', errors='ignore'))}",
        )
    return SampleDesign.from_json(stored_design, path), table
