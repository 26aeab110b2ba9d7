"""OpenStreetMap data from the Overpass API."""

import json
import logging
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import geopandas as gpd

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError, ServiceError
from geopipe.labels.extent import Bounds
from geopipe.labels.osmorder import require_no_error
from geopipe.labels.tags import all_keys
from geopipe.labels.vectorfile import OSM_CREDIT
from geopipe.web import USER_AGENT, Client

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

_SETTINGS = MappingProxyType(
    {
        "use_cache": False,  # a folder in the working directory
        "overpass_rate_limit": False,  # the status is asked here: osmnx waits in silence
        "doh_url_template": None,  # a third party need not know the question
        "http_user_agent": USER_AGENT,
    }
)
"""How osmnx is asked."""
_BUSY = (429, 504)
"""Statuses after which osmnx waits for a minute and asks again, in silence and for ever."""
_REMARK = re.compile(r'"remark":\s*("(?:[^"\\]|\\.)*")')
_TRIES = 5
_LONGEST_WAIT_S = 300.0
"""For a free slot; after that the query is sent all the same."""


def read_overpass(bounds: Bounds, scheme: ClassScheme) -> tuple[dict[str, gpd.GeoDataFrame], str]:
    """The OSM features within bounds in degrees that `scheme` wants, and the credit they ask for.

    Raises LabelError when Overpass does not answer or has nothing there.
    """
    frame = _download(bounds, overpass_query(scheme))
    return {"osm": _matching_features(frame, scheme)}, OSM_CREDIT


def overpass_query(scheme: ClassScheme) -> dict[str, bool | list[str]]:
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
        _wait_for_slot(Client(tries=1, timeout_s=20), osmnx.settings.overpass_url)
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


def _wait_for_slot(client: Client, url: str) -> None:
    """Ask Overpass for its status and wait until it has a slot for this machine.

    A server without a status is queried at once; if it is down, the error of the query says so.
    """
    try:
        answer = client.get(f"{url.rstrip('/')}/status", absent=(404,))
    except ServiceError as e:
        log.info("no status of Overpass: %s", e.message)
        return
    wait = min(_LONGEST_WAIT_S, slot_wait(answer.content.decode("utf-8", "replace")))
    if wait:
        log.warning("Overpass has no free slot for this machine: asking in %.0f s", wait)
        client.sleep(wait)


def slot_wait(status: str) -> float:
    """Seconds until there is a free slot by the text of ``/api/status``; 0: now, or not known."""
    if re.search(r"[1-9]\d* slots? available now", status):
        return 0.0
    waits = re.findall(r"Slot available after: .*?, in (\d+) seconds", status)
    return float(min(map(int, waits), default=0))


class _Answers:
    """A hook of requests that looks at the answers of Overpass.

    It says when Overpass is busy, gives up after `_TRIES` such answers, and refuses one that was
    cut short, which osmnx takes for a whole one.
    """

    def __init__(self) -> None:
        self._tries = 0

    def __call__(self, response: "requests.Response", **_: Any) -> None:
        if response.status_code not in _BUSY:
            if response.ok and (remark := _REMARK.search(response.text)):
                require_no_error(json.loads(remark[1]), "the answer of Overpass")
            return
        self._tries += 1
        if self._tries == _TRIES:
            raise LabelError(
                f"Overpass is busy (HTTP {response.status_code}, tried {_TRIES} times)",
                "try again later, or give a file instead, e.g. an .osm.pbf extract of the region",
            )
        log.warning("Overpass is busy (HTTP %d): asking again in a minute", response.status_code)


def _ask(osmnx: Any, bbox: Bounds, tags: dict[str, bool | list[str]]) -> gpd.GeoDataFrame:
    """The query under `_SETTINGS`, which do not outlive it."""
    settings = {**_SETTINGS, "requests_kwargs": {"hooks": {"response": _Answers()}}}
    before = {name: getattr(osmnx.settings, name) for name in settings}
    try:
        for name, value in settings.items():
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
