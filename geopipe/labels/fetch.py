"""OpenStreetMap data from the Overpass API, cached per extent."""

import hashlib
import json
import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import geopandas as gpd
from odc.geo.geobox import GeoBox
from pyogrio.errors import GeometryError

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.files import atomic_file
from geopipe.labels.extent import LONLAT, Bounds, Extent
from geopipe.labels.tags import all_keys
from geopipe.labels.vectorfile import OSM_CREDIT
from geopipe.oserrors import writing
from geopipe.raster.geopackage import GEOPACKAGE_ERRORS, finish_geopackage, write_layer
from geopipe.web import USER_AGENT

_DIGITS = 4
"""Decimals of the bounding box (11 m): the same scene read twice asks the same question."""

_SETTINGS = MappingProxyType(
    {
        "use_cache": False,  # a folder in the working directory
        "overpass_rate_limit": False,  # offline, asking for a free slot waits a minute in silence
        "doh_url_template": None,  # a third party need not know the question
        "http_user_agent": USER_AGENT,
    }
)
"""How osmnx is asked; when Overpass is busy osmnx still waits and asks again."""


def default_cache() -> Path:
    """Where fetched OSM is kept: ``$XDG_CACHE_HOME/geopipe/osm`` or ``~/.cache/geopipe/osm``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "geopipe" / "osm"


def osm_cache_file(geobox: GeoBox, scheme: ClassScheme, cache_dir: Path) -> Path:
    """Where `fetch_osm` keeps its answer."""
    key = cache_key([scene_bounds(geobox), _query(scheme), all_keys(scheme)])
    return Path(cache_dir) / f"osm-{key}.gpkg"


def cache_key(request: Any) -> str:
    """A short name for plain values."""
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]


def fetch_osm(geobox: GeoBox, scheme: ClassScheme, cache_dir: Path) -> Path:
    """A GeoPackage of the OSM features that `scheme` wants in the scene and 100 m around it.

    The file lies in `cache_dir` under a name made of the extent and the tags; when it is there
    already the network is not touched. Raises LabelError when Overpass does not answer, has nothing
    there, or the cache cannot be written; then no file is left.
    """
    bbox, tags = scene_bounds(geobox), _query(scheme)
    target = osm_cache_file(geobox, scheme, cache_dir)
    if target.exists():
        return target
    # The part is made before the download: a wait of minutes should not end at a closed door.
    with atomic_file(target, parents=True, shared=True) as part:
        _write(_matching_features(_download(bbox, tags), scheme), part)
    return target


def scene_bounds(geobox: GeoBox) -> Bounds:
    """West, south, east, north of the scene and 100 m around it, in degrees, rounded."""
    bounds = Extent(geobox).bounds_in(LONLAT)
    if bounds is None:
        raise LabelError(
            "the scene has no bounding box in degrees (does it cross the antimeridian?)",
            "give an OSM file instead",
        )
    left, bottom, right, top = (round(b, _DIGITS) for b in bounds)
    return left, bottom, right, top


def _query(scheme: ClassScheme) -> dict[str, bool | list[str]]:
    """What to ask: of each rule the first key, since Overpass joins keys by "or"."""
    tags: dict[str, set[str]] = {}
    for map_class in scheme.classes:
        for rule in map_class.rules:
            for key, accepted in list(rule.tags.items())[:1]:
                tags.setdefault(key, set()).update(accepted)
    if not tags:
        raise LabelError(f"no class of the scheme '{scheme.name}' has rules for OSM tags")
    return {k: True if "*" in v else sorted(v) for k, v in sorted(tags.items())}


def _download(bbox: Bounds, tags: dict[str, bool | list[str]]) -> gpd.GeoDataFrame:
    # Imported here: osmnx is slow to load, and a cache hit does not need it.
    import osmnx
    from osmnx._errors import InsufficientResponseError, ResponseStatusCodeError
    from requests.exceptions import RequestException

    try:
        frame = _ask(osmnx, bbox, tags)
    except InsufficientResponseError as e:
        raise LabelError(
            f"OSM has no {' or '.join(tags)} in lon {bbox[0]} to {bbox[2]}, lat {bbox[1]} to "
            f"{bbox[3]}",
            "give another label file, or check where the scene lies",
        ) from e
    except (ResponseStatusCodeError, RequestException, OSError, ValueError) as e:
        raise LabelError(
            f"no answer from Overpass ({osmnx.settings.overpass_url}): {_short(e)}",
            "give a file instead, e.g. an .osm.pbf extract of the region",
        ) from e
    return frame


def _ask(osmnx: Any, bbox: Bounds, tags: dict[str, bool | list[str]]) -> gpd.GeoDataFrame:
    """The query under `_SETTINGS`, which do not outlive it."""
    before = {name: getattr(osmnx.settings, name) for name in _SETTINGS}
    try:
        for name, value in _SETTINGS.items():
            setattr(osmnx.settings, name, value)
        return osmnx.features_from_bbox(bbox=bbox, tags=tags)
    finally:
        for name, value in before.items():
            setattr(osmnx.settings, name, value)


def _short(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _matching_features(frame: gpd.GeoDataFrame, scheme: ClassScheme) -> gpd.GeoDataFrame:
    """The columns that rules look at (all of OSM's would clash in upper and lower case)."""
    flat = frame.reset_index()
    index = {"element": "osm_type", "element_type": "osm_type", "id": "osm_id", "osmid": "osm_id"}
    flat = flat.rename(columns={k: v for k, v in index.items() if k in flat.columns})
    keys = [k for k in ("osm_type", "osm_id", *all_keys(scheme)) if k in flat.columns]
    return flat[[*keys, "geometry"]]


def _write(frame: gpd.GeoDataFrame, path: Path) -> None:
    with writing(path, *GEOPACKAGE_ERRORS, GeometryError, ValueError):
        write_layer(frame, path, "osm", layer_metadata={"CREDIT": OSM_CREDIT})
        finish_geopackage(path)
    with path.open("rb") as written:
        os.fsync(written.fileno())  # a cache file that is there must be whole, even after a crash
