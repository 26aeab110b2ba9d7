"""What differs between a map and OpenStreetMap, or between maps of two dates."""

from dataclasses import dataclass
from pathlib import Path

from geopandas import GeoDataFrame

from geopipe.api.html import Facts, as_html, as_text
from geopipe.api.mapping import MapResult
from geopipe.changes import compare as comparison
from geopipe.changes.change_file import check_change_targets, write_changes
from geopipe.errors import ConfigError


@dataclass(frozen=True, repr=False, eq=False)
class MapChanges:
    """Buildings and roads of a map and of a reference, and what became of each."""

    buildings: GeoDataFrame | None
    """One row per building, with ``status``, ``probability``, ``distance_m``...; None where one
    side knows no buildings."""
    roads: GeoDataFrame | None
    """One row per stretch of road."""
    counts: dict[str, dict[str, int | float]]
    """By layer and status: buildings, or kilometres of road."""
    notes: tuple[str, ...]
    """What a reader should know, such as that probabilities are not calibrated."""
    path: Path | None = None
    """The GeoPackage, where one was written."""

    def _facts(self) -> Facts:
        rows = [
            (f"{layer}, {status}", f"{number:g}" + (" km" if layer == "roads" else ""))
            for layer, numbers in self.counts.items()
            for status, number in numbers.items()
        ]
        notes = [(f"note {i}", note) for i, note in enumerate(self.notes, start=1)]
        return [*rows, *notes, *([("path", str(self.path))] if self.path else [])]

    def __repr__(self) -> str:
        return as_text("geopipe.MapChanges", self._facts())

    def _repr_html_(self) -> str:
        return as_html("geopipe.MapChanges", self._facts())


def compare(
    class_map: MapResult | str | Path,
    reference: MapResult | str | Path,
    out: str | Path | None = None,
    *,
    josm: str | Path | None = None,
    area: str | Path | None = None,
    fdr: float = 0.1,
    max_shift: float = 8.0,
    truth: str | Path | None = None,
    truth_area: str | Path | None = None,
    classes: str | Path = "buildings-roads",
    layer: str | None = None,
    all_are: str | None = None,
    overwrite: bool = False,
) -> MapChanges:
    """Compare the buildings and roads of a map with OpenStreetMap, as ``geopipe compare``.

    Args:
        class_map: A map, its class raster, or a file of features.
        reference: OpenStreetMap or other vectors, or a map of an earlier date.
        out: A GeoPackage of the changes; default none.
        josm: The same for JOSM, with `out`.
        area: Polygons to which the comparison is limited.
        fdr: Highest expected share of wrong ones among what is only in the image.
        max_shift: Metres: the largest shift of the reference that is corrected first; 0: none.
        truth: True buildings, on which probabilities are calibrated.
        truth_area: Polygons in which `truth` is complete; default the box around it.
        classes: A class scheme that makes buildings and roads of OSM tags.
        layer: One layer of the reference; default all.
        all_are: The class of every feature of the reference, of vectors that do not say it.
        overwrite: Replace files that exist.

    Raises:
        LabelError: A file is missing, cannot be read, or lies elsewhere.
        ConfigError: An option has an impossible value.
        OutputError: A file cannot be written.
    """
    mapped, other = _file(class_map), _file(reference)
    paths = [Path(p) if p else None for p in (out, josm, area, truth, truth_area)]
    target, josm_path, area_path, truth_path, truth_area_path = paths
    if josm_path and not target:
        raise ConfigError("josm is written beside a GeoPackage", "give `out` too")
    if target:
        sources = [mapped, other, *(p for p in paths[2:] if p)]
        check_change_targets(target, josm_path, overwrite=overwrite, sources=sources)
    options = comparison.CompareOptions(fdr=fdr, max_shift=max_shift, classes=str(classes))
    result = comparison.compare(
        mapped,
        other,
        options,
        area=area_path,
        layer=layer,
        all_are=all_are,
        truth=truth_path,
        truth_area=truth_area_path,
    )
    if target:
        write_changes(result, target, josm_path, reference=other)
    tables = result.tables
    return MapChanges(
        tables.get("buildings"), tables.get("roads"), result.counts(), result.notes, target
    )


def _file(given: MapResult | str | Path) -> Path:
    if isinstance(given, MapResult):
        return given.polygons or given.classes
    return Path(given)
