"""A STAC API in documents, and a server of the GeoTIFFs that its items name."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import rasterio
import rasterio.warp
import shapely

SERVER = Path(__file__).parent / "raster" / "test_remote.py"


@contextmanager
def image_server(folder):
    """The address of a server of the files in `folder`, a process of its own."""
    run = subprocess.Popen(
        [sys.executable, str(SERVER), str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{run.stdout.readline().strip()}"
    finally:
        run.kill()
        run.wait()


def item(url, name, when, folder):
    """The item of the image ``NAME.tif`` in `folder`, which `url` serves."""
    with rasterio.open(folder / f"{name}.tif") as src:
        box = rasterio.warp.transform_bounds(src.crs, 4326, *src.bounds)
    shape = json.loads(shapely.to_geojson(shapely.box(*box)))
    return {
        "type": "Feature", "id": name, "geometry": shape,
        "properties": {"datetime": when}, "links": [],
        "assets": {
            "visual": {"href": f"{url}/ok/{name}.tif", "type": "image/tiff; application=geotiff"},
            "thumbnail": {"href": "./t.png", "type": "image/png"},
        },
    }  # fmt: skip


def publish(world, items):
    """Let `world` answer a search below ``/stac`` with `items` of the collection ``ortho``."""
    found = {"type": "FeatureCollection", "features": items, "links": []}
    world.documents["/stac/search"] = "application/geo+json", json.dumps(found).encode()
    about = {"id": "ortho", "license": "CC-BY-4.0", "providers": [{"name": "The Agency"}]}
    world.documents["/stac/collections/ortho"] = "application/json", json.dumps(about).encode()
