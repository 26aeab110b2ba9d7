"""STAC search: windows of Cloud Optimized GeoTIFFs, the newest on top."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import numpy as np
import shapely
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from geopipe.errors import SceneError, ServiceError
from geopipe.grid import Window, ground_gsd
from geopipe.imagery.plan import Bounds, DownloadLimits, Plan, TileRequest, bounds_in, plane
from geopipe.imagery.wms import PIECE_PX, blocks
from geopipe.raster import Scene
from geopipe.services import layer_credit, select
from geopipe.web import Client, Response, redacted

log = logging.getLogger(__name__)

_MAX_ITEMS = 1000
_PAGE = 100
_OFF_GRID = 1 / 64
"""Pixels that another image may be off the grid by rounding."""


@dataclass(frozen=True, slots=True)
class _Image:
    """An image on the grid of the plan."""

    scene: Scene
    row: int
    col: int
    """Of its first pixel."""


@dataclass(frozen=True)
class WindowSource:
    """Reads windows of images; where they overlap, the first in which a pixel is valid."""

    images: tuple[_Image, ...]

    def fetch(self, piece: TileRequest, target: Path) -> bool:
        """As of `Source`."""
        window = piece.window
        bands = len(self.images[0].scene.bands)
        data = np.zeros((bands, *window.shape), self.images[0].scene.dtype)
        valid = np.zeros(window.shape, bool)
        for image in self.images:
            there = Window(window.row - image.row, window.col - image.col, *window.shape)
            inside = there.clip(image.scene.shape)
            if valid.all() or not (inside.height and inside.width):
                continue
            raster = image.scene.read(there)
            new = raster.valid & ~valid
            data[:, new] = raster.data[:, new]
            valid |= new
        with target.open("wb") as f:
            np.savez(f, data=data, valid=valid)
        return bool(valid.any())

    def read(self, piece: TileRequest, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """As of `Source`."""
        try:
            with np.load(path, allow_pickle=False) as saved:
                data, valid = saved["data"], saved["valid"]
        except (OSError, ValueError, KeyError, EOFError) as e:
            raise ServiceError(f"{path} is cut off or damaged: {e}") from e
        if valid.shape != piece.window.shape:
            raise ServiceError(f"{path} is of another download")
        return data, valid


def plan_stac(
    client: Client,
    url: str,
    collection: str,
    bounds: Bounds,
    limits: DownloadLimits,
    *,
    when: str | None = None,
    asset: str | None = None,
) -> Plan:
    """The images of a collection within `bounds`, on the grid of the newest one.

    Args:
        client: Asks the service.
        url: The STAC API.
        collection: Its id.
        bounds: West, south, east, north in degrees.
        limits: How much may be asked for.
        when: A date or an interval such as ``2024-05-01/2024-09-30``; None: any time.
        asset: The asset that holds the image; by default ``visual``, or the only GeoTIFF.

    Raises:
        ServiceError: No such collection, nothing there, or an asset that is no image.
    """
    base = url if url.endswith("/") else url + "/"
    items = sorted(
        _search(client, urljoin(base, "search"), collection, bounds, when),
        key=lambda item: str((item.get("properties") or {}).get("datetime") or ""),
        reverse=True,
    )
    chosen = _covering(items, bounds)
    if not chosen:
        at = f" at {when}" if when else ""
        raise ServiceError(
            f"collection {collection} has no image within the bounds{at}",
            "check the bounds, the collection and the date",
        )
    scenes = [_open(item, asset) for item in chosen]
    first = scenes[0].geobox
    affine = first.affine
    if affine.b or affine.d or abs(affine.a + affine.e) > 1e-9 * affine.a or first.crs is None:
        raise ServiceError(f"{redacted(scenes[0].path)} has no north-up grid of squares")
    box = bounds_in(first.crs.proj, bounds)
    geobox, window = plane(first.crs.proj, (affine.c, affine.f), affine.a, box)
    images = tuple(_on_grid(scenes, window))
    chosen_ids = " ".join(scene.path for scene in scenes)
    tile_requests = blocks(geobox, PIECE_PX, limits, lambda part: f"{chosen_ids} {window} {part}")
    days = {str(item["properties"].get("datetime"))[:10] for item in chosen}
    about = {
        "service": redacted(url),
        "layer": collection,
        "items": "; ".join(str(item.get("id")) for item in chosen),
        "gsd": f"{sum(ground_gsd(geobox)) / 2:.4g} m",
        **({"acquisition_date": days.pop()} if len(days) == 1 else {}),
    }
    credit = _credit(client, urljoin(base, f"collections/{collection}"))
    return Plan(geobox, tile_requests, WindowSource(images), credit, about)


def _tables(answer: Response) -> dict[str, Any]:
    try:
        tables = json.loads(answer.content)
    except ValueError:
        tables = None
    if not isinstance(tables, dict):
        words = f": {answer.words}" if answer.words else ""
        raise ServiceError(
            f"{answer.address} answers {answer.kind} that is no STAC{words}", "check the address"
        )
    return tables


def _search(
    client: Client, address: str, collection: str, bounds: Bounds, when: str | None
) -> Iterator[dict[str, Any]]:
    """The items of all pages."""
    body: dict[str, Any] = {"collections": [collection], "bbox": list(bounds), "limit": _PAGE}
    if when:
        body["datetime"] = _interval(when)
    tables, count = _tables(client.post(address, body)), 0
    while True:
        features = tables.get("features")
        if not isinstance(features, list):
            raise ServiceError(f"{redacted(address)} answers no list of items", "is it a STAC API?")
        yield from features
        count += len(features)
        following = [link for link in tables.get("links", []) if link.get("rel") == "next"]
        if not following or not features:
            return
        if count >= _MAX_ITEMS:
            log.warning("more than %d images fit: give a date", _MAX_ITEMS)
            return
        link = following[0]
        target = urljoin(address, str(link.get("href")))
        if str(link.get("method", "GET")).upper() == "POST":
            further = link.get("body") or {}
            body = {**body, **further} if link.get("merge") or not further else further
            tables = _tables(client.post(target, body))
        else:
            tables = _tables(client.get(target))


def _interval(when: str) -> str:
    """Days as instants: an interval of them ends with its last day."""
    ends = [part.strip() for part in when.split("/")]
    first, last = ends[0], ends[-1]
    start = f"{first}T00:00:00Z" if len(first) == 10 else first
    stop = f"{last}T23:59:59Z" if len(last) == 10 else last
    return f"{start or '..'}/{stop or '..'}"


def _covering(items: Sequence[Mapping[str, Any]], bounds: Bounds) -> list[Mapping[str, Any]]:
    """The first items that together cover `bounds`, or all that meet them."""
    wanted: BaseGeometry = shapely.box(*bounds)
    left = wanted
    chosen = []
    for item in items:
        try:
            shape = shapely.from_geojson(json.dumps(item["geometry"]))
            meets = bool(shape.intersection(left).area > 1e-9 * wanted.area)
        except (KeyError, ShapelyError, AttributeError):
            continue
        if meets:
            chosen.append(item)
            left = left.difference(shape)
        if left.is_empty:
            break
    return chosen


def _open(item: Mapping[str, Any], asset: str | None) -> Scene:
    assets: Mapping[str, Any] = item.get("assets") or {}
    images = [k for k, a in assets.items() if "tiff" in str(a.get("type", "")).lower()]
    name = asset or ("visual" if "visual" in assets else None)
    key = select(assets if asset else (images or assets), name, "asset")
    own = next((k["href"] for k in item.get("links", []) if k.get("rel") == "self"), "")
    href = urljoin(str(own), str(assets[key].get("href", "")))
    if urlsplit(href).scheme not in ("http", "https", "s3"):
        raise ServiceError(f"asset {key} of {item.get('id')} has no address on the web")
    try:
        return Scene.open(href)
    except SceneError as e:
        raise ServiceError(e.message, e.hint) from e


def _on_grid(scenes: Sequence[Scene], window: Window) -> Iterator[_Image]:
    """Where the images lie on the plane of the plan; those on another grid are left out."""
    first = scenes[0]
    for scene in scenes:
        link = ~first.geobox.affine * scene.geobox.affine
        row, col = round(link.f), round(link.c)
        bent = max(abs(link.a - 1), abs(link.e - 1), abs(link.b), abs(link.d))
        same = (scene.geobox.crs, len(scene.bands), scene.dtype) == (
            first.geobox.crs,
            len(first.bands),
            first.dtype,
        )
        off = max(abs(link.f - row), abs(link.c - col), bent * max(scene.shape))
        if same and off < _OFF_GRID:
            yield _Image(scene, row - window.row, col - window.col)
        else:
            log.warning("%s is on another grid and left out", redacted(scene.path))


def _credit(client: Client, address: str) -> str:
    tables = _tables(client.get(address))
    names = [str(p.get("name", "")) for p in tables.get("providers") or []]
    return layer_credit(*names, str(tables.get("license") or ""))
