"""Vectors of a WFS 2.0 within the extent of a scene, page by page."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from geopipe.errors import LabelError, ServiceError
from geopipe.files import check_new_file
from geopipe.labels.extent import LONLAT, Bounds, scene_bounds
from geopipe.progress import announce
from geopipe.raster.geopackage import atomic_geopackage, write_layer
from geopipe.services import Endpoint, layer_credit, parse_xml, select, text
from geopipe.web import Client, Response

PAGE = 5000
"""Features asked for at once; the most that data.geopf.fr gives."""
MAX_FEATURES = 2_000_000
_LONLAT_URN = "urn:ogc:def:crs:EPSG::4326"


@dataclass(frozen=True, slots=True)
class Vectors:
    """What was downloaded."""

    path: Path
    features: int
    layer: str
    credit: str


def download_wfs(
    url: str,
    layer: str | None,
    geobox: GeoBox,
    out: Path,
    *,
    class_name: str | None = None,
    credit: str | None = None,
    overwrite: bool = False,
    client: Client | None = None,
) -> Vectors:
    """Write the features of a layer in the scene, and 100 m around it, to the GeoPackage `out`.

    Args:
        url: The service.
        layer: Its type name; None: the only one there is.
        geobox: The pixels of the scene.
        out: All columns of the layer, in EPSG:4326; the file appears whole.
        class_name: Goes into a column ``class``, which decides about the class of labels.
        credit: Whom to name; by default as the service says.
        overwrite: Replace `out`.
        client: Asks the service.

    Raises:
        OutputError: `out` exists already.
        ServiceError: The service does not answer as a WFS does, or has no such layer.
        LabelError: Nothing is there, or too much.
    """
    check_new_file(out, overwrite=overwrite)
    client = client or Client()
    endpoint, bounds = Endpoint(url), scene_bounds(geobox)
    root = endpoint.capabilities(client, "WFS", "2.0.0")
    names = [text(e, "Name") for e in root.iterfind("FeatureTypeList/FeatureType")]
    name = select(names, layer, "layer")
    if credit is None:
        credit = layer_credit(
            text(root, "ServiceProvider/ProviderName"),
            text(root, "ServiceIdentification/AccessConstraints"),
        )
    total = _count(client, endpoint, name, bounds)
    if not total:
        raise LabelError(f"layer {name} has no feature in the scene", "check the place of both")
    if total > MAX_FEATURES:
        raise LabelError(f"layer {name} has {total:,} features there, more than {MAX_FEATURES:,}")
    announce(f"{name}: {total} features")
    pages = list(_pages(client, endpoint, name, bounds, total))
    frame = gpd.GeoDataFrame(pd.concat(pages, ignore_index=True), crs=LONLAT)
    frame = frame.drop_duplicates("source_id")
    if class_name:
        frame = frame.rename(columns={"class": "class_"}).assign(**{"class": class_name})
    _write(frame, out, name.rpartition(":")[2], credit)
    return Vectors(out, len(frame), name, credit)


def _query(name: str, bounds: Bounds) -> dict[str, str]:
    west, south, east, north = bounds
    return {
        "SERVICE": "WFS",
        "VERSION": "2.0.0",
        "REQUEST": "GetFeature",
        "TYPENAMES": name,
        "SRSNAME": "EPSG:4326",
        # By this name of the CRS latitude comes first, in any service; GeoJSON has it second.
        "BBOX": f"{south},{west},{north},{east},{_LONLAT_URN}",
    }


def _count(client: Client, endpoint: Endpoint, name: str, bounds: Bounds) -> int:
    answer = client.get(endpoint.url({**_query(name, bounds), "RESULTTYPE": "hits"}))
    root = parse_xml(answer, "a number of features", "FeatureCollection")
    try:
        return int(root.get("numberMatched") or root.get("numberOfFeatures") or "")
    except ValueError as e:
        raise ServiceError(f"{answer.address} does not say how many features there are") from e


def _pages(
    client: Client, endpoint: Endpoint, name: str, bounds: Bounds, total: int
) -> Iterator[gpd.GeoDataFrame]:
    """All features; pages may be smaller than asked for."""
    start = 0
    while start < total:
        params = {
            **_query(name, bounds),
            "OUTPUTFORMAT": "application/json",
            "COUNT": str(PAGE),
            "STARTINDEX": str(start),
        }
        frame = _frame(client.get(endpoint.url(params)))
        if not len(frame):
            raise ServiceError(
                f"layer {name} gives {start} features of {total} and then no more",
                "later the same command begins again",
            )
        west, south, east, north = frame.total_bounds
        if west > bounds[2] or east < bounds[0] or south > bounds[3] or north < bounds[1]:
            raise ServiceError(
                f"layer {name} answers features at lon {west:g} to {east:g}, lat {south:g} to "
                f"{north:g}, which is not where the scene lies",
                "does the service mix up longitude and latitude?",
            )
        start += len(frame)
        yield frame


def _frame(answer: Response) -> gpd.GeoDataFrame:
    """The features of a page of GeoJSON, longitude first."""
    if answer.kind == "XML":
        parse_xml(answer, "GeoJSON", "FeatureCollection")
    try:
        tables: Any = json.load(io.BytesIO(answer.content))
        features = tables["features"]
        shapes = [
            shapely.from_geojson(json.dumps(f["geometry"])) if f.get("geometry") else None
            for f in features
        ]
        rows = [{**(f.get("properties") or {}), "source_id": str(f.get("id"))} for f in features]
    except (ValueError, KeyError, TypeError, shapely.errors.ShapelyError) as e:
        words = f": {answer.words}" if answer.words else ""
        raise ServiceError(
            f"{answer.address} answers {answer.kind} that is not GeoJSON{words}",
            "check the address and the kind of service",
        ) from e
    flat = [shapely.force_2d(shape) for shape in shapes]
    return gpd.GeoDataFrame(rows, geometry=flat, crs=LONLAT)


def _write(frame: gpd.GeoDataFrame, out: Path, layer: str, credit: str) -> None:
    about = {"CREDIT": credit} if credit else None
    with atomic_geopackage(out) as part:
        write_layer(frame, part, layer, layer_metadata=about)
