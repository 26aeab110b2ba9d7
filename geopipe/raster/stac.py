"""The STAC item of an output folder: files, footprint and processing facts."""

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType, RasterBand, RasterExtension, Sampling

import geopipe
from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import SceneError
from geopipe.files import atomic_file
from geopipe.grid import ground_gsd
from geopipe.raster.cog import CONFIDENCE, SCORE_STEPS
from geopipe.raster.footprint import footprint
from geopipe.raster.remote import display_name, is_remote

_PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
_KINDS: dict[str, tuple[str, list[str]]] = {
    ".tif": (pystac.MediaType.COG, ["data"]),
    ".gpkg": (pystac.MediaType.GEOPACKAGE, ["data"]),
    ".parquet": ("application/vnd.apache.parquet", ["data"]),
    ".html": (pystac.MediaType.HTML, ["overview"]),
    ".json": (pystac.MediaType.JSON, ["metadata"]),
    ".md": ("text/markdown", ["metadata"]),
    ".qml": (pystac.MediaType.XML, ["style"]),
    ".qlr": (pystac.MediaType.XML, ["style"]),
    ".xml": (pystac.MediaType.XML, ["metadata"]),
}
_TITLES = {
    "classes": "Class map",
    "confidence": "Score of the best class",
    "scores": "Score of each class",
    "out_of_domain": "Where the scene is unlike the training images",
    "layers": "Layer definition for QGIS: all layers, named and styled",
    "features": "Building footprints, road lines, and polygons of the other classes",
    "features_page": "The same features over the scene, a page that works offline",
    "features_parquet": "The same features as GeoParquet",
}


def write_item(
    folder: Path,
    *,
    item_id: str,
    geobox: GeoBox,
    scheme: ClassScheme,
    assets: Mapping[str, Path],
    properties: Mapping[str, Any],
    created: str,
    links: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Write ``item.json`` (STAC 1.1) into `folder` and return its path.

    `assets`: key -> file; ``classes``, ``confidence`` and ``scores`` are described as what
    `write_class_cog` and its fellows make. `created`: an ISO 8601 time, also the item's
    ``datetime`` unless `properties` has one of its own. `links`: STAC Link objects. Raises
    SceneError without a CRS or with an impossible time.
    """
    if geobox.crs is None:
        raise SceneError("a map without a CRS has no footprint")
    item_properties = {"processing:software": {"geopipe": geopipe.__version__}, **properties}
    timestamp = _instant(str(item_properties.pop("datetime", created)))
    item_properties["created"] = _instant(created).isoformat().replace("+00:00", "Z")
    geometry, bbox = footprint(geobox)
    item = pystac.Item(item_id, geometry, bbox, timestamp, item_properties)
    item.stac_extensions.append(_PROCESSING)
    _project(item, geobox)
    for key, path in assets.items():
        media_type, roles = _KINDS.get(path.suffix.lower(), (None, ["data"]))
        href = Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
        href = href if href.startswith("../") else f"./{href}"
        asset = pystac.Asset(href, _TITLES.get(key), media_type=media_type, roles=list(roles))
        item.add_asset(key, asset)
        if key in ("classes", "confidence", "scores"):
            _describe(asset, key, geobox, scheme)
    tables = item.to_dict(include_self_link=False)
    tables["links"] += [dict(link) for link in links]
    return _write(folder / "item.json", tables)


def relative_href(path: str | Path, folder: Path) -> str:
    """`path` as a link of an item in `folder`: relative where it is a file, without secrets.

    Links of folders are followed, those of files are not: they keep the name that was given.
    """
    if is_remote(path):
        return display_name(path)
    file = Path(path)
    try:
        href = Path(os.path.relpath(file.parent.resolve() / file.name, folder.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return file.absolute().as_uri()
    return href if href.startswith("../") else f"./{href}"


def _describe(asset: pystac.Asset, key: str, geobox: GeoBox, scheme: ClassScheme) -> None:
    """Bands, nodata and classes of a raster asset."""
    common: dict[str, Any] = {
        "nodata": IGNORE,
        "data_type": DataType.UINT8,
        "sampling": Sampling.AREA,
        "spatial_resolution": round(sum(ground_gsd(geobox)) / 2, 6),
    }
    raster = RasterExtension.ext(asset, add_if_missing=True)
    if key != "classes":
        names = scheme.names if key == "scores" else (CONFIDENCE,)
        scaled = {**common, "scale": 1 / SCORE_STEPS, "offset": 0.0}
        raster.bands = [RasterBand.create(**scaled) for _ in names]
        asset.extra_fields["bands"] = [{"name": name} for name in names]
        return
    raster.bands = [RasterBand.create(**common)]
    ClassificationExtension.ext(asset, add_if_missing=True).classes = [
        Classification(properties) for properties in class_objects(scheme)
    ]


def class_objects(scheme: ClassScheme) -> list[dict[str, Any]]:
    """The classes of a scheme as the classification extension describes them.

    Version 2 of it, which maps name, requires `name`; version 1.1, to which MLM 1.4 refers,
    requires `description`.
    """
    return [
        Classification.create(
            value=i, name=slug, title=c.name, description=c.name, color_hint=c.color[1:].upper()
        ).to_dict()
        for i, (c, slug) in enumerate(zip(scheme.classes, _slugs(scheme), strict=True))
    ]


def _slugs(scheme: ClassScheme) -> list[str]:
    """A name of letters, digits, ``-`` and ``_`` for each class, as the extension wants it."""
    slugs: list[str] = []
    for i, name in enumerate(scheme.names):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^0-9A-Za-z_-]+", "-", plain).strip("-") or f"class-{i}"
        while slug in slugs:
            slug += "_"
        slugs.append(slug)
    return slugs


def _project(item: pystac.Item, geobox: GeoBox) -> None:
    left, bottom, right, top = geobox.boundingbox.bbox
    assert geobox.crs is not None
    epsg = geobox.crs.to_epsg()
    (height, width), a = geobox.shape, geobox.affine
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=f"EPSG:{epsg}" if epsg else None,
        wkt2=None if epsg else geobox.crs.to_wkt(),
        bbox=[left, bottom, right, top],
        shape=[height, width],
        transform=[a.a, a.b, a.c, a.d, a.e, a.f, 0.0, 0.0, 1.0],
    )


def _instant(text: str) -> datetime:
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError as e:
        raise SceneError(f"'{text}' is not a time", "write it as 2024-05-31T12:00:00Z") from e
    return timestamp.astimezone(UTC) if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


def _write(path: Path, tables: dict[str, Any]) -> Path:
    with atomic_file(path) as part:
        part.write_text(json.dumps(tables, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
