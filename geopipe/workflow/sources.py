"""A workflow's words turned into scenes and labels."""

import numpy as np
from pyproj import CRS
from shapely import union_all
from shapely.geometry.base import BaseGeometry

from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError
from geopipe.labels import Area, LabelSource, LimitedLabels, default_cache, fetch_osm, open_labels
from geopipe.labels.place import Place, reproject
from geopipe.raster import Scene
from geopipe.workflow.schema import FETCH, Labelled, SceneChoice

_SHARED = 1e-6
"""Share of the test region that rounding may give to its neighbour."""


def open_scene(choice: SceneChoice) -> Scene:
    """The scene that a workflow names."""
    return Scene.open(choice.scene, choice.bands, choice.nodata)


def label_source(choice: Labelled, scheme: ClassScheme, scene: Scene) -> LabelSource:
    """Its labels, inside its area; ``fetch`` asks OpenStreetMap, once per extent."""
    path = choice.labels
    if str(path) == FETCH:
        path = fetch_osm(scene.geobox, scheme, default_cache())
    labels = open_labels(path, scheme, scene.geobox, choice.layer)
    return LimitedLabels(labels, Area.open(choice.area, scene.geobox)) if choice.area else labels


def require_apart(test: Labelled, other: Labelled, name: str) -> None:
    """Raise ConfigError when `other` holds ground of the test region: figures would flatter."""
    crs = Place(open_scene(test).geobox).crs
    ours, theirs = _region(test, crs), _region(other, crs)
    shared = ours.intersection(theirs).area / ours.area
    if shared > _SHARED:
        raise ConfigError(
            f"{100 * shared:.2g} % of the [test] region is part of [{name}] too",
            "move them apart, e.g. with an `area` each",
        )


def _region(choice: Labelled, crs: CRS) -> BaseGeometry:
    """The ground that a scene's labels speak of."""
    scene = open_scene(choice)
    place = Place(scene.geobox)
    shapes = np.array([place.outline], object)
    if choice.area:
        shapes = Area.open(choice.area, scene.geobox).shapes
    return union_all(reproject(shapes, place.crs, crs))
