"""Labels that are downloaded for the extent of a scene, named by a word in place of a file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from odc.geo.geobox import GeoBox
from pyogrio.errors import GeometryError

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.labels.fetch import cache_key, default_cache, fetch_osm, osm_cache_file, scene_bounds
from geopipe.raster.geopackage import GEOPACKAGE_ERRORS, finish_geopackage, write_layer

FETCH = "fetch"
"""OpenStreetMap, by the Overpass API."""
OVERTURE = "overture"
"""Overture Maps, the latest release; ``overture:2026-10-21.0`` is a certain one."""


def is_fetched(labels: str | Path) -> bool:
    """Whether `labels` is such a word and no file."""
    return str(labels).partition(":")[0] in (FETCH, OVERTURE) and not (
        str(labels).startswith(f"{FETCH}:")
    )


def fetched_file(labels: str | Path, geobox: GeoBox, scheme: ClassScheme) -> Path:
    """The file of the cache that has them, or will have; the network is not touched."""
    if str(labels) == FETCH:
        return osm_cache_file(geobox, scheme, default_cache())
    bounds, release = scene_bounds(geobox), _release(labels)
    key = cache_key([bounds, scheme.to_dict(), release])
    return default_cache().with_name(OVERTURE) / f"overture-{key}.gpkg"


def fetch_labels(labels: str | Path, geobox: GeoBox, scheme: ClassScheme) -> Path:
    """The file of the labels, downloaded once per extent.

    Raises LabelError when the service does not answer or has nothing there; then no file is left.
    """
    if str(labels) == FETCH:
        return fetch_osm(geobox, scheme, default_cache())
    target = fetched_file(labels, geobox, scheme)
    if target.exists():
        return target
    from geopipe.labels.overture import read_overture

    with _cache_file(target) as part:
        frames, credit = read_overture(scene_bounds(geobox), scheme, _release(labels))
        for layer, frame in frames.items():
            write_layer(frame, part, layer, layer_metadata={"CREDIT": credit})
    return target


def _release(labels: str | Path) -> str | None:
    return str(labels).partition(":")[2] or None


@contextmanager
def _cache_file(target: Path) -> Iterator[Path]:
    """A file to write that becomes `target` when all went well."""
    try:
        # Made before the download: a wait of minutes should not end at a closed door.
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.stem}.part-", dir=target.parent
        ) as folder:
            part = Path(folder) / target.name
            yield part
            finish_geopackage(part)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(target)
    except (OSError, *GEOPACKAGE_ERRORS, GeometryError) as e:
        if isinstance(e, LabelError):
            raise
        reason = getattr(e, "strerror", None) or e
        raise LabelError(
            f"cannot write the cache of labels {target}: {reason}", "is its folder writable?"
        ) from e
