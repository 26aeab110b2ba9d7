"""Whom to name in what is made from a raster."""

from collections.abc import Iterable
from pathlib import Path

from rasterio import DatasetReader

from geopipe.raster.arrayscene import ArrayScene
from geopipe.raster.mosaic import mosaic_files
from geopipe.raster.scene import Scene, opened

_SEPARATOR = "; "


def scene_credit(scene: Scene) -> str:
    """What the tags of a scene, or of the files of a mosaic, say of credit; "" when nothing.

    The tag ``credit`` counts, else TIFF's own ``TIFFTAG_COPYRIGHT``. Pixels in memory have none.
    """
    if isinstance(scene, ArrayScene):
        return ""
    files = mosaic_files(scene.path) or (scene.path,)
    return joined_credits(_own_credit(file) for file in files)


def joined_credits(credits_: Iterable[str]) -> str:
    """All of them in one text, each part once."""
    parts = (part.strip() for text in credits_ for part in text.split(_SEPARATOR))
    return _SEPARATOR.join(dict.fromkeys(part for part in parts if part))


def credit_of(src: DatasetReader) -> dict[str, str]:
    """The tag ``credit`` of a map, for what is made from it; nothing when it has none."""
    credit = src.tags().get("credit", "")
    return {"credit": credit} if credit else {}


def _own_credit(path: str | Path) -> str:
    with opened(path) as src:
        tags = src.tags()
    return " ".join((tags.get("credit") or tags.get("TIFFTAG_COPYRIGHT", "")).split())
