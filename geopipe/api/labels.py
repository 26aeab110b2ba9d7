"""Labels: where class ids come from, and how their vectors are brought onto the image."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr
from pyogrio.errors import DataSourceError

from geopipe.api.georef import located
from geopipe.api.html import Facts, as_html, as_text, listed
from geopipe.api.model import Model
from geopipe.api.scene import CHUNK, as_scene
from geopipe.classes import IGNORE, ClassScheme, load_scheme
from geopipe.errors import LabelError
from geopipe.grid import Window
from geopipe.labels import LabelSource, is_fetched, service_of
from geopipe.labels.openvector import list_layers, read_info
from geopipe.raster import scene as raster_scene
from geopipe.raster.scene import window_geobox
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.sources import label_source

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False, eq=False)
class Labels:
    """Vectors or a class raster that say what is where; read on a scene's grid when wanted."""

    path: Path
    """A file, or a service (``"fetch"``, ``"overture"``), asked for the extent of a scene."""
    classes: str | Path = "buildings-roads"
    """A class scheme that ships with geopipe, or a TOML file."""
    layer: str | None = None
    area: Path | None = None
    """Polygons outside which nothing is known."""
    ignore_buffer: float = 0.0
    """Metres on each side of an outline in which nothing is known."""
    all_are: str | None = None
    """The class of every feature, of vectors that do not say it."""
    folder: TemporaryDirectory[str] | None = field(default=None, repr=False)
    """Holds the file of aligned labels that were given no name."""

    def __reduce__(self) -> tuple[Any, ...]:
        settings = (self.path, self.classes, self.layer, self.area, self.ignore_buffer)
        return Labels, (*settings, self.all_are)

    @cached_property
    def scheme(self) -> ClassScheme:
        """The classes, their colours, and which OSM tags make them."""
        return load_scheme(self.classes)

    def source(self, scene: raster_scene.Scene) -> LabelSource:
        """The labels on the place of `scene`; LabelError where they do not fit it."""
        return label_source(self.choice(scene), self.scheme, scene)

    def choice(self, scene: raster_scene.Scene) -> LabelledScene:
        """The scene and its labels in the words of a workflow."""
        return LabelledScene(
            scene=scene.path,
            bands=scene.bands,
            nodata=scene.nodata,
            labels=self.path,
            layer=self.layer,
            all_are=self.all_are,
            area=self.area,
            ignore_buffer=self.ignore_buffer,
        )

    def to_xarray(self, scene: raster_scene.Scene | str | Path) -> xr.DataArray:
        """The class ids on the grid of `scene`: a lazy DataArray (y, x), uint8, 255 = not labelled.

        Pixels that are not valid in the scene are 255, as where a model is trained.

        Raises:
            LabelError: The labels do not overlap the scene, or fit no class.
        """
        from geopipe.api.lazy import from_windows

        place = as_scene(scene)
        read = _ClassIds(self.source(place), place)
        ids = from_windows(read, (1, *place.shape), np.uint8, CHUNK)
        return classified(located(ids[0], place.geobox, long_name="class"), self.scheme)

    def _facts(self) -> Facts:
        names = listed(f"{i} {name}" for i, name in enumerate(self.scheme.names))
        what = _contents(self.path, self.layer)
        return [
            (
                "path",
                f"{service_of(self.path)[0].name}, asked for a scene"
                if is_fetched(self.path)
                else "aligned, not saved"
                if self.folder
                else str(self.path),
            ),
            *([("holds", what)] if what else []),
            ("classes", f"{names} ({self.scheme.name})"),
            *([("layer", self.layer)] if self.layer else []),
            *([("all are", self.all_are)] if self.all_are else []),
            *([("known inside", str(self.area))] if self.area else []),
            *(
                [("ignored", f"{self.ignore_buffer:g} m along outlines")]
                if self.ignore_buffer
                else []
            ),
        ]

    def __repr__(self) -> str:
        return as_text("geopipe.Labels", self._facts())

    def _repr_html_(self) -> str:
        return as_html("geopipe.Labels", self._facts())


@dataclass(frozen=True)
class _ClassIds:
    """Reads class ids (1, h, w) of a window of a scene."""

    source: LabelSource
    scene: raster_scene.Scene

    def __call__(self, window: Window) -> np.ndarray:
        ids = self.source.read(window_geobox(self.scene.geobox, window))
        return np.where(self.scene.read(window).valid, ids, IGNORE)[None].astype(np.uint8)


def open_labels(
    path: str | Path,
    classes: str | Path = "buildings-roads",
    *,
    layer: str | None = None,
    all_are: str | None = None,
    area: str | Path | None = None,
    ignore_buffer: float = 0.0,
) -> Labels:
    """Describe labels: OSM data, vectors or a raster of class ids.

    Args:
        path: OSM (.osm, .osm.pbf), GeoPackage, GeoJSON, GeoParquet, Shapefile, a raster of class
            ids; or a service that is asked for the extent of a scene: ``"fetch"`` (OpenStreetMap)
            or ``"overture"`` (Overture Maps).
        classes: A class scheme that ships with geopipe, or a TOML file.
        layer: One layer of a GeoPackage; default all.
        all_are: The class of every feature, of vectors that do not say it.
        area: Polygons outside which nothing is known.
        ignore_buffer: Metres on each side of an outline in which nothing is known, 0 to 50.

    Raises:
        LabelError: There is no such file, or `ignore_buffer` is out of range.
        ConfigError: There is no such class scheme, or `all_are` is none of its classes.
    """
    for file in (path, area):
        if file is not None and not is_fetched(file) and not _exists(file):
            raise LabelError(f"there is no file {file}", "check the path")
    if not 0 <= ignore_buffer <= 50:
        raise LabelError(f"ignore_buffer={ignore_buffer:g} is not 0 to 50 metres")
    known = Path(area) if area else None
    labels = Labels(Path(path), classes, layer, known, ignore_buffer, all_are)
    if all_are is not None:
        labels.scheme.id_of(all_are)
    _ = labels.scheme
    return labels


def align_labels(
    labels: Labels,
    scene: raster_scene.Scene | str | Path,
    out: str | Path | None = None,
    *,
    model: Model | str | Path | None = None,
    max_shift: float = 8.0,
    overwrite: bool = False,
) -> Labels:
    """Move vectors to where the image shows them, by a smooth displacement field.

    What the image gives no evidence for stays where it is. As ``geopipe labels align``.

    Args:
        labels: Vectors; a raster of labels cannot be moved.
        scene: The image.
        out: A GeoPackage for the moved vectors; by default a temporary file that lives as long as
            the returned labels.
        model: A model, or its file, through which the image is seen; by default colours and
            texture.
        max_shift: Metres on the ground beyond which no shift is looked for.
        overwrite: Replace `out` where it exists.

    Raises:
        LabelError: The labels are a raster, do not overlap the scene, or have too few features.
    """
    from geopipe.raster.geopackage import check_target
    from geopipe.register.align import write_aligned
    from geopipe.register.label_qc import LabelQC, tables_of

    place, folder = as_scene(scene), None
    if not 1 <= max_shift <= 30:
        raise LabelError(f"max_shift={max_shift:g} is not 1 to 30 metres")
    if out is None:
        folder = TemporaryDirectory(prefix="geopipe-labels-")
        out = Path(folder.name) / "aligned.gpkg"
    target = Path(out)
    check_target(target, overwrite=overwrite, sources=[labels.path, Path(place.path)])
    seen_by = model.path if isinstance(model, Model) else model and Path(model)
    up = LabelQC(place, labels.source(place), seen_by or None, max_shift)
    _ = up.grid  # a raster of labels is refused before it is read as a table
    tables = tables_of(labels.path, labels.scheme, place, labels.layer, labels.all_are)
    moved = write_aligned(tables, up.field, target, overwrite=overwrite)
    log.info("%d of %d features moved", moved.moved, moved.features)
    return replace(labels, path=target, layer=None, folder=folder)


def classified(array: xr.DataArray, scheme: ClassScheme) -> xr.DataArray:
    """Class ids with their names and colours as CF flags, and 255 as nodata."""
    array = array.assign_attrs(
        flag_values=list(range(len(scheme))),
        flag_meanings=" ".join(name.replace(" ", "_") for name in scheme.names),
        flag_colors=" ".join(c.color for c in scheme.classes),
    )
    return array.rio.write_nodata(IGNORE)  # type: ignore[no-any-return]


def as_labels(labels: Labels | str | Path, classes: str | Path = "buildings-roads") -> Labels:
    """`labels`, opened where they are a path."""
    return labels if isinstance(labels, Labels) else open_labels(labels, classes)


def _exists(path: str | Path) -> bool:
    return str(path).startswith("/vsi") or Path(path).exists()


def _contents(path: Path, layer: str | None) -> str:
    """How many features of which layers a vector file has; "" where that takes long to know."""
    if path.suffix.lower() in (".osm", ".pbf", ".bz2") or is_fetched(path):
        return ""
    try:
        layers: Sequence[str] = [layer] if layer else [n for n, _ in list_layers(path)]
        counts = {name: read_info(path, layer=name)["features"] for name in layers}
    except (DataSourceError, ValueError):
        return ""
    return listed(f"{n} features in layer {name}" for name, n in counts.items())
