"""Files of lines to compare: what they hold, and where it was looked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from geopandas import GeoDataFrame
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.labels.extent import reproject
from geopipe.labels.openvector import list_layers, read_dataframe, read_info
from geopipe.labels.tags import clean, matching

_LINES = ("LineString", "MultiLineString")


@dataclass(frozen=True, eq=False)
class LineFile:
    """The lines of a vector file."""

    path: Path
    frame: GeoDataFrame
    footprint: BaseGeometry | None
    """Outline of the map they were made from, in their CRS, where the file tells."""

    @property
    def crs(self) -> CRS:
        """The CRS of the lines."""
        return CRS.from_user_input(self.frame.crs)

    def only(self, scheme: ClassScheme) -> "LineFile":
        """Without the lines that the rules of `scheme` do not want; all where it has no tags."""
        keys = {k for c in scheme.classes for r in c.rules if r.geometry == "line" for k in r.tags}
        names = [str(name) for name in self.frame.columns if name != "geometry"]
        if not keys & set(names):
            return self
        wanted = [
            any(rule.geometry == "line" for _, rule in matching(scheme, _tags(names, row)))
            for row in self.frame[names].itertuples(index=False)
        ]
        return LineFile(self.path, self.frame[wanted], self.footprint)

    def lines_in(self, crs: CRS) -> np.ndarray:
        """(n,) LineStrings and MultiLineStrings in `crs`."""
        return reproject(np.asarray(self.frame.geometry.array, object), self.crs, crs)


def _tags(names: list[str], row: tuple[object, ...]) -> dict[str, str]:
    texts = ((name, clean(value)) for name, value in zip(names, row, strict=True))
    return {name: text for name, text in texts if text}


def layers_of(path: Path) -> dict[str, str]:
    """Layers with geometries and their kind; empty where `path` is no vector file."""
    try:
        return {str(name): str(kind) for name, kind in list_layers(path) if kind}
    except (DataSourceError, DataLayerError):
        return {}


def has_lines(path: Path) -> bool:
    """Whether every layer of the vector file `path` that has geometries is one of lines."""
    kinds = [kind.split(" ")[0] for kind in layers_of(path).values()]
    return bool(kinds) and all(kind in _LINES for kind in kinds)


def read_lines(path: Path, layer: str | None = None) -> LineFile:
    """The lines of `layer`, or of all layers that have some.

    Raises LabelError where the file cannot be read, has no such layer, no lines or no CRS.
    """
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    layers = layers_of(path)
    if layer is not None and layer not in layers:
        raise LabelError(f"{path} has no layer '{layer}'", f"it has {_listed(layers) or 'none'}")
    frames, footprint = [], None
    for name in [layer] if layer is not None else list(layers):
        try:
            frame = read_dataframe(path, layer=name)
            metadata = read_info(path, layer=name).get("layer_metadata") or {}
        except (DataSourceError, DataLayerError) as e:
            raise LabelError(f"cannot read {path}: {' '.join(str(e).split())}") from e
        is_line_layer = layers[name].split(" ")[0] in _LINES
        if not isinstance(frame, GeoDataFrame):
            continue
        frame = frame[frame.geometry.geom_type.isin(_LINES)]
        if not (len(frame) or is_line_layer):
            continue
        if frame.crs is None:
            raise LabelError(f"layer '{name}' of {path} has no CRS", "set it in QGIS")
        frames.append(frame)
        if "footprint" in metadata:
            footprint = shapely.from_wkt(metadata["footprint"])
    if not frames:
        raise LabelError(
            f"{path} has no lines",
            f"roads are compared line by line; it has {_listed(layers) or 'no vectors'}",
        )
    crs = frames[0].crs
    merged = GeoDataFrame(pd.concat([f.to_crs(crs) for f in frames], ignore_index=True), crs=crs)
    return LineFile(path, merged, footprint)


def _listed(layers: dict[str, str]) -> str:
    return ", ".join(f"'{name}' ({kind})" for name, kind in layers.items())
