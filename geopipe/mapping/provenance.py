"""What a map was made from: the tags of its files, and the links of its STAC item."""

import json
from pathlib import Path

from geopipe import __version__
from geopipe.checkpoint import ModelFile
from geopipe.checkpoint.stac_item import model_item_path
from geopipe.grid import is_rotated
from geopipe.raster import Scene
from geopipe.raster.credit import joined_credits, scene_credit
from geopipe.raster.mosaic import mosaic_files
from geopipe.raster.remote import display_name
from geopipe.raster.stac import relative_href

COMPUTATION = "geopipe:computation"
"""The property of an item that says how the tiles of its map were computed."""
SCENE_LINK, MODEL_LINK = "geopipe:scene", "geopipe:model"
"""Relations of links of a map's item."""


def provenance(scene: Scene, model_file: ModelFile) -> dict[str, str]:
    """The tags of everything made with a model from `scene`: equal inputs, equal tags."""
    model = model_file.checkpoint
    tags = {
        "software": f"geopipe {__version__}",
        "scene": Path(display_name(scene.path)).name,
        "scene_bands": " ".join(map(str, scene.bands)),
        "model_sha256": model_file.sha256,
        "model_gsd": f"{model.gsd:g} m",
        "model_iterations": str(model.net.iterations),
        "model_provenance": json.dumps(model.provenance, sort_keys=True),
    }
    if scene.nodata is not None:
        tags["scene_nodata"] = repr(float(scene.nodata))
    if is_rotated(scene.geobox):
        tags["grid"] = "from the file's corner, since its geotransform is rotated"
    else:
        tags["grid"] = "from the origin of the CRS"
    if files := mosaic_files(scene.path):
        tags["scene_files"] = "; ".join(Path(display_name(f)).name for f in files)
    credit = joined_credits([model.provenance.get("credit", ""), scene_credit(scene)])
    return {**tags, "credit": credit} if credit else tags


def source_links(scene: Scene, model_path: Path, folder: Path) -> list[dict[str, str]]:
    """STAC links from the bundle in `folder` to the files of its scene, its model, its item."""
    links = [
        {"rel": SCENE_LINK, "href": relative_href(path, folder)}
        for path in mosaic_files(scene.path) or (scene.path,)
    ]
    links.append({"rel": MODEL_LINK, "href": relative_href(model_path, folder)})
    if (item := model_item_path(model_path)).is_file():
        href = relative_href(item, folder)
        links.append({"rel": "derived_from", "href": href, "type": "application/geo+json"})
    return links
