"""Which columns of a table say what class a feature is, and what to tell where none does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import shapely

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.labels.features import kind_of
from geopipe.labels.layers import Layer
from geopipe.labels.tags import all_keys, clean, naming_keys, parse_tags

ClassIds = list[int | str | None]
"""Of each row: a class id, or a name that is none."""

_TAG_COLUMNS = ("other_tags", "all_tags", "tags")
"""Columns that hold many tags in one cell (GDAL's OSM driver, osm2geojson, Overture)."""
_ROWS_SHOWN = 1000
"""Rows of a layer whose values are looked at for a message."""
_VALUES_SHOWN, _COLUMNS_SHOWN, _VALUE_CHARS = 3, 8, 24


@dataclass(frozen=True)
class Columns:
    """Which columns of a layer say what."""

    tags: dict[str, str]
    """Key of a rule -> column."""
    tag_columns: tuple[str, ...]
    class_: str | None
    id: str | None
    """May hold ids such as ``way/123``, which only OSM has."""
    usable: bool
    all_are: int | None = None
    """The class of every feature, where it was given."""

    @classmethod
    def of(cls, layer: Layer, scheme: ClassScheme, all_are: str | None = None) -> "Columns":
        """The columns of `layer`; `all_are`: the class of all its features, whatever they say."""
        by_name = {c.casefold(): c for c in reversed(layer.columns)}
        short = layer.path.suffix.lower() in (".shp", ".dbf", ".zip")  # names cut to 10 letters
        tags = {}
        for key in all_keys(scheme):
            variants = [key, key.replace(":", "_")]
            variants += [s[:10] for s in variants] if short else []
            existing = [by_name[s.casefold()] for s in variants if s.casefold() in by_name]
            if existing:
                tags[key] = existing[0]
        tag_columns = tuple(by_name[b] for b in _TAG_COLUMNS if b in by_name)
        class_ = by_name.get("class") if all_are is None else None
        usable = bool(tag_columns or class_ or set(tags) & set(naming_keys(scheme)))
        class_id = None if all_are is None else scheme.id_of(all_are)
        return cls(
            tags,
            tag_columns,
            class_,
            by_name.get("id"),
            usable or class_id is not None,
            class_id,
        )

    def only_class(self, scheme: ClassScheme) -> bool:
        """Whether there is nothing but ``class`` to go by."""
        return not self.tag_columns and not set(self.tags) & set(naming_keys(scheme))

    @property
    def names(self) -> list[str]:
        """The columns to read, once each."""
        single = [c for c in (self.class_, self.id) if c]
        return list(dict.fromkeys([*self.tags.values(), *self.tag_columns, *single]))

    def class_ids(self, frame: gpd.GeoDataFrame, scheme: ClassScheme) -> ClassIds | None:
        """What is given, else what column ``class`` says of each row; None if that names none."""
        if self.all_are is not None:
            return [self.all_are] * len(frame)
        if self.class_ is None:
            return None
        ids = {name.casefold(): i for i, name in enumerate(scheme.names)}
        names = [clean(v) for v in frame[self.class_]]
        assigned_ids: ClassIds = [None if n is None else ids.get(n.casefold(), n) for n in names]
        return assigned_ids if any(isinstance(g, int) for g in assigned_ids) else None

    def tags_of(self, frame: gpd.GeoDataFrame) -> Iterator[dict[str, str]]:
        """The tags of each row; a column of its own wins over a bundle."""
        own = {key: [clean(v) for v in frame[column]] for key, column in self.tags.items()}
        tag_columns = [frame[b].tolist() for b in self.tag_columns]
        for i in range(len(frame)):
            tags: dict[str, str] = {}
            for bundle in tag_columns:
                tags.update(parse_tags(bundle[i]))
            tags.update(
                {
                    key: v
                    for key, column_values in own.items()
                    if (v := column_values[i]) is not None
                }
            )
            yield tags


def no_class(path: Path, layers: Sequence[Layer], scheme: ClassScheme) -> LabelError:
    """The error for a file in which nothing says which class a feature is.

    It tells the columns of the file with some of their values, and which ones are looked at. Where
    the features can be of one class, it offers to say so.
    """
    columns: dict[str, dict[str, None]] = {}
    kinds: set[str] = set()
    for layer in layers:
        frame = layer.rows(layer.columns, None, most=_ROWS_SHOWN)
        geometries = frame.geometry[~shapely.is_missing(frame.geometry.array)]
        kinds |= {kind_of(shape) for shape in geometries[:_ROWS_SHOWN]}
        for name in layer.columns:
            values = (clean(value) for value in frame[name])
            columns.setdefault(name, {}).update({v: None for v in values if v is not None})
    keys = naming_keys(scheme)
    names = f"a column 'class' with {', '.join(scheme.names)}"
    if keys:
        wanted = f"wanted: one of {', '.join(keys)}, other_tags, or {names}"
    else:
        wanted = f"wanted: {names}, or a class scheme with rules for tags, such as buildings-roads"
    candidate = _class_for(kinds, scheme)
    offer = f"if all features are of one class, give it: `all_are` {candidate}; "
    return LabelError(
        f"{path} does not say which class a feature is: its columns are {_described(columns)}",
        (offer if candidate else "") + wanted,
    )


def _class_for(kinds: set[str], scheme: ClassScheme) -> str | None:
    """A class that features of these kinds of geometry can be; None where there is none."""
    line_classes = [c.name for c in scheme.classes if any(r.geometry == "line" for r in c.rules)]
    if kinds & {"polygon", "ring"}:
        area_classes = [n for n in scheme.names[1:] if n not in line_classes]
        return (area_classes or list(scheme.names[1:]))[0]
    return line_classes[0] if "line" in kinds and line_classes else None


def _described(columns: dict[str, dict[str, None]]) -> str:
    """Columns with some of their values: ``class (1), osm_id (17, 18, 19, ...)``."""
    ordered = sorted(columns, key=lambda name: name.casefold() != "class")
    texts = [_with_values(name, list(columns[name])) for name in ordered[:_COLUMNS_SHOWN]]
    more = ", ..." if len(ordered) > _COLUMNS_SHOWN else ""
    return ", ".join(texts) + more if texts else "none"


def _with_values(name: str, values: Sequence[str]) -> str:
    shown = [v if len(v) <= _VALUE_CHARS else v[:_VALUE_CHARS] + "..." for v in values]
    more = ", ..." if len(shown) > _VALUES_SHOWN else ""
    return f"{name} ({', '.join(shown[:_VALUES_SHOWN]) or 'empty'}{more})"
