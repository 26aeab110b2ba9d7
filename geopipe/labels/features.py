"""Features: the geometries of one layer that match a rule of a class scheme."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme, TagRule
from geopipe.labels.extent import Bounds
from geopipe.labels.meridian import near
from geopipe.labels.tags import Tags, matching, unwanted, width_of

Kind = Literal["polygon", "line", "ring", "point", "collection"]
"""Of a geometry; a ring is a closed line, which serves polygon rules and line rules."""

_KINDS: dict[int, Kind] = {0: "point", 1: "line", 2: "ring", 3: "polygon"}
_KINDS |= {4: "point", 5: "line", 6: "polygon", 7: "collection"}
_ACCEPTED_KINDS = {"polygon": {"polygon", "ring"}, "line": {"line", "ring"}}
NO_RULE = "of a kind that no rule names"
_LONG = 40
"""Characters of a value that a message shows."""


@dataclass(frozen=True)
class Features:
    """Geometries near the scene with what they become."""

    shapes: np.ndarray
    """(n,) shapely polygons and lines in `crs`."""
    ids: np.ndarray
    """(n,) uint8 class ids."""
    widths: np.ndarray
    """(n,) float64 metres on the ground of lines; NaN for polygons."""
    crs: CRS
    bounds: Bounds | None
    """Of all wanted features, near the scene or not; None when there is none."""
    skipped: Counter[str]
    """How many features were left out, by reason."""


@dataclass
class FeatureCollector:
    """Collects the wanted features of one layer, dropping at once those far from `bounds`."""

    scheme: ClassScheme
    crs: CRS
    bounds: Bounds | None
    skipped: Counter[str] = field(default_factory=Counter)
    _unwanted: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Key and value -> features that no rule wants because of it."""
    _rows: list[tuple[BaseGeometry, int, float]] = field(default_factory=list)
    _extremes: list[float] = field(default_factory=lambda: [np.inf, np.inf, -np.inf, -np.inf])

    def __post_init__(self) -> None:
        self._degrees = bool(self.crs.is_geographic)

    def add(self, shape: BaseGeometry | None, tags: Tags) -> None:
        """Take a feature for every class whose rule its tags and its geometry meet."""
        matches = list(matching(self.scheme, tags))
        if not matches:
            self.count_unwanted(tags)
        self.add_matches(shape, matches, tags)

    def count_unwanted(self, tags: Tags) -> None:
        """Remember values of keys that name a class where no rule names the value."""
        self._unwanted.update(unwanted(self.scheme, tags))

    def add_matches(
        self,
        shape: BaseGeometry | None,
        matches: list[tuple[int, TagRule]],
        tags: Tags,
        about: Tags = MappingProxyType({}),
    ) -> None:
        """As `add`, with the rules found before; `about`: id and date, for those who keep them."""
        if not matches:
            return
        if shape is None or shape.is_empty:
            self.skipped["empty geometry"] += 1
            return
        shape = of_one_kind(shape)
        kind = kind_of(shape)
        added: set[int] = set()
        for class_id, rule in matches:
            if class_id not in added and kind in _ACCEPTED_KINDS[rule.geometry]:
                added.add(class_id)
                width = width_of(rule, tags) if rule.geometry == "line" else np.nan
                self._append(shape, class_id, width)
        if not added:
            self.skipped[f"{kind} where a {matches[0][1].geometry} is wanted"] += 1

    def add_class(self, shape: BaseGeometry | None, class_id: int, tags: Tags) -> None:
        """Take a feature whose class is given; a line needs the width of a line rule."""
        if shape is None or shape.is_empty:
            self.skipped["empty geometry"] += 1
            return
        shape = of_one_kind(shape)
        kind = kind_of(shape)
        rules = [r for r in self.scheme.classes[class_id].rules if r.geometry == "line"]
        if kind == "polygon":
            self._append(shape, class_id, np.nan)
        elif kind in ("line", "ring") and rules:
            self._append(shape, class_id, width_of(rules[0], tags))
        elif kind == "ring":
            self._append(shape, class_id, np.nan)
        else:
            self.skipped[f"{kind} where a polygon is wanted"] += 1

    def _append(self, shape: BaseGeometry, class_id: int, width: float) -> None:
        """Take a polygon or ring (NaN width) or a line, unless it is far from the scene."""
        left, bottom, right, top = shape.bounds
        e = self._extremes
        self._extremes = [min(e[0], left), min(e[1], bottom), max(e[2], right), max(e[3], top)]
        if self.bounds is not None:
            west, south, east, north = self.bounds
            if self._degrees:
                left, bottom, right, top = near(shape.bounds, (west + east) / 2)
            if left > east or right < west or bottom > north or top < south:
                return
        if np.isnan(width) and kind_of(shape) == "ring":
            shape = shapely.Polygon(shapely.get_coordinates(shape))
        self._rows.append((shape, class_id, width))

    def finish(self) -> Features:
        """What was gathered."""
        shapes = np.empty(len(self._rows), object)
        shapes[:] = [r[0] for r in self._rows]
        left, bottom, right, top = self._extremes
        return Features(
            shapes,
            np.array([r[1] for r in self._rows], np.uint8),
            np.array([r[2] for r in self._rows], np.float64),
            self.crs,
            (left, bottom, right, top) if left <= right else None,
            self.skipped + self._counted_unwanted(),
        )

    def _counted_unwanted(self) -> Counter[str]:
        """By key: how many features no rule wants, with the values they have most often."""
        counted: Counter[str] = Counter()
        for key in dict.fromkeys(k for k, _ in self._unwanted):
            result = Counter({v: n for (k, v), n in self._unwanted.items() if k == key})
            often = [v if len(v) <= _LONG else v[:_LONG] + "..." for v, _ in result.most_common(4)]
            more = ", ..." if len(result) > len(often) else ""
            reason = f"{key} {NO_RULE} ({', '.join(often)}{more})"
            counted[reason] = result.total()
        return counted


def of_one_kind(shape: BaseGeometry) -> BaseGeometry:
    """The polygons of a collection, or else its lines; any other geometry as it is.

    Repairs leave collections: a polygon, and the spike that it had as a line.
    """
    if shapely.get_type_id(shape) != 7:
        return shape
    parts = shapely.get_parts(shapely.get_parts(shapely.get_parts(shape)))  # also of collections
    types = shapely.get_type_id(parts)
    if (types == 3).any():
        return shapely.MultiPolygon(parts[types == 3].tolist())
    if np.isin(types, [1, 2]).any():
        return shapely.MultiLineString(parts[np.isin(types, [1, 2])].tolist())
    return shape


def kind_of(shape: BaseGeometry) -> Kind:
    """What rules call the geometry."""
    kind = _KINDS[int(shapely.get_type_id(shape))]
    if kind == "line" and shapely.get_num_geometries(shape) == 1:  # also a promoted one
        closed = shapely.is_closed(shape) and shapely.get_num_coordinates(shape) > 3
        return "ring" if closed else "line"
    return kind


def class_of(shape: BaseGeometry | None, matches: Iterable[tuple[int, TagRule]]) -> int | None:
    """The class that the first fitting rule makes of a feature."""
    kind = kind_of(of_one_kind(shape)) if shape is not None and not shape.is_empty else None
    fitting = (i for i, rule in matches if kind in _ACCEPTED_KINDS[rule.geometry])
    return next(fitting, None)
