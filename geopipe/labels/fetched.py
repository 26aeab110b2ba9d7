"""Labels that are downloaded for the extent of a scene, named by a word in place of a file."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import geopandas as gpd
from odc.geo.geobox import GeoBox
from pyogrio.errors import GeometryError

from geopipe.classes import ClassScheme
from geopipe.files import atomic_file
from geopipe.labels.extent import Bounds, scene_bounds
from geopipe.labels.overpass import overpass_query, read_overpass
from geopipe.labels.tags import all_keys
from geopipe.oserrors import writing
from geopipe.raster.geopackage import GEOPACKAGE_ERRORS, finish_geopackage, write_layer

FETCH = "fetch"
"""The word for OpenStreetMap, which ``--fetch`` stands for."""

Layers = tuple[dict[str, gpd.GeoDataFrame], str]
"""Features by the name of their layer, and the credit they ask for."""


@dataclass(frozen=True)
class Service:
    """A service of labels."""

    name: str
    folder: str
    """Of the cache, and the start of the names of its files."""
    question: Callable[[ClassScheme, str | None], list[object]]
    """What of the classes and the release decides the answer, as JSON values."""
    read: Callable[[Bounds, ClassScheme, str | None], Layers]
    """The features within bounds (west, south, east, north, in degrees) that the classes want.

    Raises LabelError where there are none, and LabelError or ServiceError without an answer."""
    releases: bool = False
    """``WORD:RELEASE`` is a certain release, else the latest is taken."""


def _read_overture(bounds: Bounds, scheme: ClassScheme, release: str | None) -> Layers:
    from geopipe.labels.overture import read_overture  # brings pyarrow's Parquet

    return read_overture(bounds, scheme, release)


SERVICES: Mapping[str, Service] = MappingProxyType(
    {
        FETCH: Service(
            "OpenStreetMap",
            "osm",
            lambda scheme, _: [overpass_query(scheme), all_keys(scheme)],
            lambda bounds, scheme, _: read_overpass(bounds, scheme),
        ),
        "overture": Service(
            "Overture Maps",
            "overture",
            lambda scheme, release: [scheme.to_dict(), release],
            _read_overture,
            releases=True,
        ),
    }
)
"""Every service by its word."""


def is_fetched(labels: str | Path) -> bool:
    """Whether `labels` is the word of a service and no file."""
    word, colon, _ = str(labels).partition(":")
    return word in SERVICES and (SERVICES[word].releases or not colon)


def service_of(labels: str | Path) -> tuple[Service, str | None]:
    """The service that `labels` is the word of, and the release that is asked for, if any."""
    word, _, release = str(labels).partition(":")
    return SERVICES[word], release or None


def fetched_file(labels: str | Path, geobox: GeoBox, scheme: ClassScheme) -> Path:
    """The file of the cache that has them, or will have; the network is not touched.

    It is named by extent, classes and release, in ``$XDG_CACHE_HOME/geopipe`` or
    ``~/.cache/geopipe``.
    """
    service, release = service_of(labels)
    request = json.dumps([scene_bounds(geobox), *service.question(scheme, release)])
    key = hashlib.sha256(request.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geopipe"
    return cache / service.folder / f"{service.folder}-{key}.gpkg"


def fetch_labels(labels: str | Path, geobox: GeoBox, scheme: ClassScheme) -> Path:
    """A GeoPackage of what the classes want in the scene and 100 m around it, downloaded once.

    Raises LabelError or ServiceError when the service does not answer or has nothing there, and
    OutputError when the cache cannot be written; then no file is left.
    """
    target = fetched_file(labels, geobox, scheme)
    if target.exists():
        return target
    service, release = service_of(labels)
    # The part is made before the download: a wait of minutes should not end at a closed door.
    with atomic_file(target, parents=True, shared=True) as part:
        layers, credit = service.read(scene_bounds(geobox), scheme, release)
        with writing(part, *GEOPACKAGE_ERRORS, GeometryError, ValueError):
            for layer, frame in layers.items():
                write_layer(frame, part, layer, layer_metadata={"CREDIT": credit})
            finish_geopackage(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())  # a cache file that is there must be whole after a crash
    return target
