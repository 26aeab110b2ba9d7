"""Vector labels with all their attributes, for writing them again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import geopandas as gpd
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme, TagRule
from geopipe.errors import LabelError
from geopipe.labels.extent import LONLAT, Extent
from geopipe.labels.features import FeatureCollector, class_of
from geopipe.labels.osmfile import collect_osm_features, is_osm_file
from geopipe.labels.tags import Tags
from geopipe.labels.vectorfile import OSM_CREDIT, Table, read_tables

__all__ = ["Table", "open_tables"]


def open_tables(
    path: Path,
    scheme: ClassScheme,
    extent: Extent,
    layer: str | None = None,
    all_are: str | None = None,
) -> list[Table]:
    """The features near the scene that `scheme` wants; a GeoPackage or its kin with all columns.

    Of OSM files: their tags that rules name, ``osm_id`` and, where the extract has it,
    ``timestamp``. Raises LabelError when the file is missing or cannot be read.
    """
    if not path.exists() and not str(path).startswith("/vsi"):
        raise LabelError(f"there is no file {path}", "check the path")
    if not is_osm_file(path):
        return read_tables(path, scheme, extent, layer, all_are)
    listing = _Listing(scheme, LONLAT, extent.bounds_in(LONLAT))
    collect_osm_features(path, listing)
    return [listing.table(areas=True), listing.table(areas=False)]


@dataclass
class _Listing(FeatureCollector):
    """Keeps tags and ids as well."""

    rows: list[tuple[BaseGeometry, int, dict[str, str]]] = field(default_factory=list)

    def add_matches(
        self,
        shape: BaseGeometry | None,
        matches: list[tuple[int, TagRule]],
        tags: Tags,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """As of `FeatureCollector`; the first class that fits is the feature's."""
        class_id = class_of(shape, matches)
        if shape is None or class_id is None or not self._is_near(shape):
            return
        self.rows.append((shape, class_id, {**tags, **about}))

    def _is_near(self, shape: BaseGeometry) -> bool:
        if self.bounds is None:
            return True
        (left, bottom, right, top), (west, south, east, north) = shape.bounds, self.bounds
        return bool(left <= east and right >= west and bottom <= north and top >= south)

    def table(self, *, areas: bool) -> Table:
        """The polygons, or the lines."""
        matching = [r for r in self.rows if (r[0].geom_type.endswith("Polygon")) == areas]
        frame = gpd.GeoDataFrame(
            [r[2] for r in matching], geometry=[r[0] for r in matching], crs=LONLAT
        )
        frame["source_id"] = [r[2]["osm_id"] for r in matching]
        return Table(
            "areas" if areas else "lines", frame, tuple(r[1] for r in matching), OSM_CREDIT
        )
