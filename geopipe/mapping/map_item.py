"""What a map says of itself, and the scene and the model that it was made from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geopipe.checkpoint import file_hash
from geopipe.errors import CheckpointError, SceneError
from geopipe.mapping.computation import Computation
from geopipe.mapping.provenance import COMPUTATION, MODEL_LINK, SCENE_LINK
from geopipe.raster import Scene
from geopipe.raster.content import content_sha256
from geopipe.raster.mosaic import open_mosaic
from geopipe.raster.remote import is_remote
from geopipe.raster.scene import opened

_ANOTHER = "give the folder of a map that geopipe map made"


class _Link(BaseModel):
    rel: str
    href: str


class _Properties(BaseModel):
    model_config = ConfigDict(extra="allow")
    computation: Computation = Field(alias=COMPUTATION)


class MapItem(BaseModel):
    """What is taken from the ``item.json`` of a map."""

    properties: _Properties
    links: list[_Link]
    assets: dict[str, Any]

    def sources(self, rel: str, folder: Path) -> list[str]:
        """Where the links of a kind lead, seen from `folder`."""
        hrefs = [link.href for link in self.links if link.rel == rel]
        return [h if is_remote(h) or Path(h).is_absolute() else str(folder / h) for h in hrefs]


def read_map_item(folder: Path) -> tuple[MapItem, dict[str, str]]:
    """What the map says of itself: its STAC item and the tags of its raster."""
    path = folder / "item.json"
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise SceneError(
            f"{folder} holds no map of geopipe's: {path} cannot be read", _ANOTHER
        ) from e
    if not isinstance(tables, dict) or COMPUTATION not in (tables.get("properties") or {}):
        raise SceneError(
            f"{folder} does not say how its map was computed",
            "an older geopipe made it: map the scene again",
        )
    try:
        item = MapItem.model_validate(tables)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SceneError(f"{path} is damaged: {place}: {first['msg']}", _ANOTHER) from e
    with opened(folder / "classes.tif") as src:
        return item, src.tags()


def map_model(
    given: Path | None, item: MapItem, tags: dict[str, str], folder: Path
) -> tuple[Path, str]:
    """The file of the map's model, whose bytes are those that made the map, and its sha256."""
    sources = [str(given)] if given else item.sources(MODEL_LINK, folder)
    path = Path(sources[0]) if sources else folder / "no model"
    if not path.is_file():
        if "adapted_from" in json.loads(tags.get("model_provenance", "{}")):
            raise CheckpointError(
                "the map was made with a copy of its model for another pixel size, not kept",
                "it cannot be verified",
            )
        raise CheckpointError(
            f"the model of this map is not at {path}", "give where it is now as `model`"
        )
    if (now := file_hash(path)) != tags.get("model_sha256"):
        raise CheckpointError(
            f"{path} is not the model of this map: its sha256 is {now[:12]}..., the map was made "
            f"with {tags.get('model_sha256', 'none')[:12]}...",
            "give the file of that model as `model`",
        )
    return path, now


def mapped_scene(
    given: Sequence[str], item: MapItem, tags: dict[str, str], folder: Path, work: Path
) -> tuple[Scene, list[str]]:
    """The scene of the map, and what could not be checked of it."""
    paths = list(given) or item.sources(SCENE_LINK, folder)
    for path in paths or [tags.get("scene", "unknown")]:
        if not is_remote(path) and not Path(path).exists():
            raise SceneError(
                f"the scene of this map is not at {path}", "give where it is now as `scene`"
            )
    bands = tuple(int(band) for band in tags["scene_bands"].split())
    nodata = float(tags["scene_nodata"]) if "scene_nodata" in tags else None
    if "scene_files" in tags:
        scene = open_mosaic(paths, work / "scene.vrt", bands, nodata)
    else:
        scene = Scene.open(paths[0], bands, nodata)
    now, then = content_sha256(scene.path), tags.get("scene_sha256")
    if now is None or then is None:
        return scene, ["the scene is not in files on this machine: its own bytes are not compared"]
    if now != then:
        raise SceneError(
            f"{' and '.join(paths)} changed since the map was made: sha256 is {now[:12]}..., it "
            f"was {then[:12]}...",
            "give the scene as it was as `scene`, or map it again",
        )
    return scene, []
