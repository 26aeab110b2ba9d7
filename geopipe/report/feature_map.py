"""A map of features over their image as one HTML file that works offline."""

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from geopandas import GeoDataFrame
from markupsafe import Markup
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RioWindow

from geopipe.grid import ground_gsd
from geopipe.raster import Scene
from geopipe.raster.remote import is_remote
from geopipe.raster.scene import opened
from geopipe.raster.validity import valid_pixels
from geopipe.report.page import render, write_page

IMAGE_BYTES = 14_000_000
"""Of all tiles of the image, as text in the page."""
FEATURE_BYTES = 5_000_000
"""Of all features."""
MOST_FEATURES = FEATURE_BYTES // 100
"""Of a layer: smaller ones have no room, as none takes fewer bytes."""
_SIDE = 512
_QUALITY = 78
_BLANK = 225
_HIDDEN_COLUMNS = ("source", "model_sha256", "class_id", "group")
_TOLERANCES_PX = (0.3, 1.0, 2.5)
"""By how much outlines are simplified: the first with which the features have room."""


@dataclass(frozen=True)
class FeatureLayer:
    """A layer of the page."""

    name: str
    color: str
    table: GeoDataFrame
    """Polygons or lines in the CRS of the scene."""
    smaller: int = 0
    """Features of the layer that are not in `table`, for which the page has no room."""

    @property
    def total(self) -> int:
        """Features of the layer."""
        return len(self.table) + self.smaller


def read_layers(geopackage: Path, colors: Mapping[str, str]) -> list[FeatureLayer]:
    """The layers of a file of features; `colors`: name of a layer -> ``#rrggbb``.

    Of a layer with more features than a page holds, the largest.
    """
    layers = []
    for name, color in colors.items():
        info = pyogrio.read_info(geopackage, layer=name)
        size = "length_m" if "length_m" in info["fields"] else "area_m2"
        table = '"' + name.replace('"', '""') + '"'
        largest = f"SELECT fid FROM {table} ORDER BY {size} DESC, fid LIMIT {MOST_FEATURES}"
        where = f"fid IN ({largest})" if info["features"] > MOST_FEATURES else None
        rows = pyogrio.read_dataframe(geopackage, layer=name, where=where)
        layers.append(FeatureLayer(name, color, rows, info["features"] - len(rows)))
    return layers


def write_feature_map(
    path: Path, title: str, scene: Scene, layers: list[FeatureLayer], credit: str = ""
) -> None:
    """Write the page: `layers` over the image of `scene`, to zoom, move and click.

    The image is a pyramid of JPEG tiles, as fine as `IMAGE_BYTES` allow; outlines are simplified,
    and the smallest features left out, until `FEATURE_BYTES` hold the rest, which the page says.
    It loads nothing, and runs no script but its own. A scene on a network is not read a second
    time: its page has no image. `credit`: whom to name for image and labels.

    Raises:
        SceneError: The scene cannot be opened, or the page not be written.
    """
    pixels = [_in_pixels(layer.table, scene) for layer in layers]
    tolerance, texts, left_out = _fitting(layers, pixels)
    levels = [] if is_remote(scene.path) else _pyramid(scene)
    finest = levels[-1]["step"] if levels else 0
    height, width = scene.shape
    crs = scene.geobox.crs
    assert crs is not None
    gsd = ground_gsd(scene.geobox)[1]  # of columns: the scale bar lies across
    facts: dict[str, Any] = {
        "width": width,
        "height": height,
        "affine": list(scene.geobox.affine)[:6],
        "gsd": gsd,
        "crs": f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.proj.name,
        "digits": 6 if crs.proj.is_geographic else 1,
        "levels": levels or [{"step": 1, "side": max(width, height), "columns": 1, "tiles": []}],
    }
    text = json.dumps(facts, allow_nan=False)[:-1] + ', "layers": [' + ", ".join(texts) + "]}"
    # No text of a file can end the block that holds the data.
    data = Markup(text.replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " "))
    summary = _summary(layers, left_out, tolerance * gsd, finest, credit)
    write_page(path, render("feature_map.html", title=title, summary=summary, data=data))


def _summary(
    layers: list[FeatureLayer], left_out: int, tolerance_m: float, finest: int, credit: str
) -> str:
    counts = ", ".join(f"{layer.total:,} {layer.name}" for layer in layers)
    image = (
        "without the image, which is on a network"
        if not finest
        else "the image in full resolution"
        if finest == 1
        else f"one pixel of the image for {finest} x {finest} of the scene"
    )
    missing = f"the {left_out:,} smallest features are left out" if left_out else ""
    outlines = f"Outlines simplified by up to {tolerance_m:.1f} m" if tolerance_m >= 0.05 else ""
    about = "; ".join(x for x in (outlines, missing, image) if x)
    return f"{counts}. {about[0].upper()}{about[1:]}.{f' {credit}' if credit else ''}"


def _in_pixels(table: GeoDataFrame, scene: Scene) -> np.ndarray:
    """The geometries (n,) in columns and rows of the scene."""
    to_px = ~scene.geobox.affine
    shapes = np.asarray(table.geometry.array, object)
    return np.asarray(
        shapely.transform(
            shapes,
            lambda xy: np.column_stack(
                [
                    xy[:, 0] * to_px.a + xy[:, 1] * to_px.b + to_px.c,
                    xy[:, 0] * to_px.d + xy[:, 1] * to_px.e + to_px.f,
                ]
            ),
        )
    )


def _fitting(layers: list[FeatureLayer], pixels: list[np.ndarray]) -> tuple[float, list[str], int]:
    """Tolerance in pixels, the layers as JSON, and how many features had no room."""
    for tolerance in _TOLERANCES_PX:
        items = [_items(*pair, tolerance) for pair in zip(layers, pixels, strict=True)]
        if sum(len(text) for layer in items for _, text in layer) <= FEATURE_BYTES:
            break
    ranked = sorted(
        ((k, i) for k, rows in enumerate(items) for i in range(len(rows))),
        key=lambda at: -items[at[0]][at[1]][0],
    )
    used, fits = 0, set()
    for k, i in ranked:
        length = len(items[k][i][1]) + 2
        if used + length <= FEATURE_BYTES:
            used += length
            fits.add((k, i))
    left_out = sum(layer.smaller for layer in layers) + len(ranked) - len(fits)
    texts = []
    for k, (layer, rows) in enumerate(zip(layers, items, strict=True)):
        kept = [text for i, (_, text) in enumerate(rows) if (k, i) in fits]
        head = {
            "name": layer.name,
            "color": layer.color,
            "line": bool(len(layer.table)) and "Line" in layer.table.geom_type.iloc[0],
            "total": layer.total,
            "columns": _columns(layer.table),
        }
        texts.append(json.dumps(head)[:-1] + ', "items": [' + ",".join(kept) + "]}")
    return tolerance, texts, left_out


def _columns(table: GeoDataFrame) -> list[str]:
    return [str(c) for c in table.columns if c not in (*_HIDDEN_COLUMNS, table.geometry.name)]


def _items(layer: FeatureLayer, pixels: np.ndarray, tolerance: float) -> list[tuple[float, str]]:
    """Size in pixels and JSON of each feature."""
    simple = shapely.simplify(pixels, tolerance, preserve_topology=True)
    values = layer.table[_columns(layer.table)].itertuples(index=False, name=None)
    rows = []
    for shape, row in zip(simple, values, strict=True):
        if shape is None or shape.is_empty:
            continue
        rings = [_steps(ring) for ring in _rings(shape)]
        item = {"rings": rings, "values": [_plain(v) for v in row]}
        rows.append((float(shape.length), json.dumps(item, separators=(",", ":"))))
    return rows


def _rings(shape: Any) -> Iterator[np.ndarray]:
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon":
            for ring in (part.exterior, *part.interiors):
                yield np.asarray(ring.coords)[:-1, :2]
        elif part.geom_type == "LineString":
            yield np.asarray(part.coords)[:, :2]


def _steps(xy: np.ndarray) -> list[int]:
    tenths = np.round(xy * 10).astype(int)
    steps = np.diff(tenths, axis=0, prepend=np.zeros((1, 2), int))
    return [int(v) for v in steps.ravel()]


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, numbers with four digits."""
    if value is None or value != value:
        return None
    if isinstance(value, float | np.floating):
        number = float(value)
        if not math.isfinite(number):
            return None
        return float(f"{number:.4g}") if abs(number) < 1000 else round(number, 1)
    return int(value) if isinstance(value, int | np.integer) else str(value)


def _pyramid(scene: Scene) -> list[dict[str, Any]]:
    """Levels from coarse to fine: ``step`` pixels of the scene to one, and tiles as data URIs."""
    step = 2 ** max(0, math.ceil(math.log2(max(scene.shape) / _SIDE)))
    levels: list[dict[str, Any]] = []
    used, limits = 0, None
    with opened(scene.path) as src:
        while step >= 1:
            side = _SIDE * step
            tiles = []
            rows, cols = (range(0, n, side) for n in scene.shape)
            for row, col in product(rows, cols):
                data, valid = _read(src, scene, row, col, side, step)
                if limits is None and data.dtype != np.uint8:
                    limits = _limits(data, valid)
                tiles.append(_jpeg(data, valid, limits))
            levels.append({"step": step, "side": _SIDE, "columns": len(cols), "tiles": tiles})
            last = sum(map(len, tiles))
            used += last
            if used + 4 * last > IMAGE_BYTES:
                break
            step //= 2
    return levels


def _read(
    src: Any, scene: Scene, row: int, col: int, side: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (3, h, w) and validity (h, w) of a tile."""
    bands = (scene.bands + scene.bands[-1:] * 2)[:3]  # one band is shown as grey
    height, width = min(side, scene.shape[0] - row), min(side, scene.shape[1] - col)
    shape = max(1, round(height / step)), max(1, round(width / step))
    window = RioWindow(col, row, width, height)
    resampling = Resampling.average if step > 1 else Resampling.nearest
    with suppress(RasterioIOError):  # a damaged tile stays blank
        data = src.read(bands, window=window, out_shape=(3, *shape), resampling=resampling)
        return data, valid_pixels(src, bands, window, shape)
    return np.zeros((3, *shape), scene.dtype), np.zeros(shape, bool)


def _limits(data: np.ndarray, valid: np.ndarray) -> list[tuple[float, float]]:
    """The values of each band that become black and white: its 2nd and 98th percentile."""
    known = valid & np.isfinite(data).all(axis=0)
    if not known.any():
        return [(0.0, 1.0)] * 3
    return [tuple(np.percentile(band[known].astype(float), (2, 98))) for band in data]


def _jpeg(data: np.ndarray, valid: np.ndarray, limits: list[tuple[float, float]] | None) -> str:
    if limits is not None:
        scaled = [
            (np.where(np.isfinite(band), band, low) - low) / ((high - low) or 1.0) * 255
            for band, (low, high) in zip(data.astype(float), limits, strict=True)
        ]
        data = np.clip(np.stack(scaled), 0, 255).astype(np.uint8)
    pixels = np.where(valid, data, _BLANK).astype(np.uint8).transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels), "RGB").save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
