"""Expand command-line inputs to scenes: rasters, addresses, text lists and STAC files."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import pystac
from pystac.serialization import identify_stac_object_type

from geopipe.errors import SceneError
from geopipe.raster.remote import display_name, is_remote
from geopipe.regularfile import require_regular
from geopipe.validation import parse_json

log = logging.getLogger(__name__)

_MAX_SCENES = 1_000_000
_MAX_BYTES = 64 << 20
"""A larger list or STAC file is not read: it would fill the memory."""
_MAX_NAME_BYTES = 150
"""Bytes of a folder's name without what makes it unique; file systems take 255."""
_STAC = (".json", ".geojson")
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img")
_PREVIEWS = ("image/png", "image/jpeg", "image/webp")
_DATA_ROLES = {"data", "visual"}
_OTHER_ROLES = {"thumbnail", "overview", "metadata"}
_MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What pystac raises for values of other kinds than STAC asks for."""
_CONNECTION = re.compile(r"[A-Za-z][\w+.-]+:|/vsi|\s*<")
"""What GDAL opens though no file bears the name, e.g. ``zip://a.zip!b.tif``."""


LeftOut = dict[str, str]
"""Scene -> why it is left out."""


def scene_paths(inputs: Sequence[str], left_out: LeftOut | None = None) -> list[str]:
    """The scenes that `inputs` name, in their order, each once.

    An input is a raster or its address, a text list (.txt: a path or address a line, from the
    list's folder on; # starts a comment), or a local STAC Item, ItemCollection, Collection or
    Catalog (.json). Of an item the asset with role "data" or "visual" is taken, or its only
    GeoTIFF. Rasters are not opened. A scene named twice is a warning. Raises SceneError when there
    is no scene or no such file, for a list in a list, and where an item leaves the choice open.
    With `left_out` a missing file is noted there instead, unless none is left.
    """
    unique: dict[str, str] = {}
    for path, source in _with_source(inputs):
        try:
            _require_existing(path, source)
        except SceneError as e:
            if left_out is None:
                raise
            left_out[path] = e.message
            continue
        resolved = path if is_remote(path) else os.path.realpath(path)
        if resolved in unique:
            log.warning("%s is named twice%s; it is taken once", display_name(path), source)
        elif len(unique) == _MAX_SCENES:
            raise SceneError(f"more than {_MAX_SCENES} scenes", "map them in several runs")
        else:
            unique[resolved] = path
    if not unique and left_out:
        raise SceneError(f"no scene is left: {next(iter(left_out.values()))}", "check the paths")
    if not unique:
        empty = ", ".join(map(display_name, inputs)) or "the command"
        raise SceneError(f"{empty} names no scene", "give a raster, a list or a STAC file")
    return list(unique.values())


def scene_names(paths: Sequence[str]) -> dict[str, str]:
    """A folder name for each of `paths`, which depends on nothing but them and not their order.

    The file's name without its suffix; where several would have the same (on any file system),
    followed by six hexadecimal digits of the path's hash.
    """
    names = {path: _stem(path) for path in paths}
    for digits, with_query in ((6, False), (12, True), (64, True)):
        counts = Counter(name.casefold() for name in names.values())
        for path, name in list(names.items()):
            if counts[name.casefold()] > 1:
                digest = hashlib.sha256(_hash_input(path, with_query).encode()).hexdigest()
                names[path] = f"{_stem(path)}-{digest[:digits]}"
    return names


def _stem(path: str) -> str:
    without_query = unquote(path.partition("?")[0]) if is_remote(path) else path
    name = PurePosixPath(re.split(r"[/\\]", without_query.rstrip("/\\"))[-1]).stem
    name = re.sub(r'[\x00-\x1f:*?"<>|]', "_", name)
    name = name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore").strip(" .")
    # NAME.part is where the bundle of NAME is built
    return f"{name}_" if name.casefold().endswith(".part") else name or "scene"


def _hash_input(path: str, with_query: bool) -> str:
    """What the hash is made of; signatures in an address change from day to day."""
    if not is_remote(path):
        return os.path.abspath(path)  # noqa: PTH100 (keeps symbolic links as they are named)
    return path if with_query else path.partition("?")[0]


def _with_source(inputs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(path, where it is named) of all scenes."""
    for text in inputs:
        suffix = _suffix(text)
        if suffix not in (".txt", *_STAC):
            yield text, ""
        elif is_remote(text):
            raise SceneError(f"{display_name(text)} is a list on a network", "download it first")
        elif suffix == ".txt":
            yield from _listed(Path(text))
        else:
            yield from _stac(Path(text))


def _suffix(path: str) -> str:
    return PurePosixPath(path.partition("?")[0] if is_remote(path) else path).suffix.lower()


def _require_existing(path: str, source: str) -> None:
    if is_remote(path):
        return
    if not os.path.lexists(path) and _CONNECTION.match(path):
        return
    file = Path(path)
    if not path or not os.path.exists(path):  # noqa: PTH110 (False for a name that is too long)
        raise SceneError(f"there is no file {path}{source}", "check the path")
    if file.is_dir() and any(f.suffix.lower() in _RASTERS for f in file.iterdir()):
        raise SceneError(f"{path} is a folder of rasters{source}", f"name them: {path}/*.tif")


def _text(file: Path) -> str:
    require_regular(file)
    try:
        with file.open("rb") as f:
            content = f.read(_MAX_BYTES + 1)
        if len(content) <= _MAX_BYTES:
            return content.decode("utf-8-sig")
    except FileNotFoundError as e:
        raise SceneError(f"there is no file {file}", "check the path") from e
    except OSError as e:
        raise SceneError(f"cannot read {file}: {e.strerror}", "is it readable?") from e
    except UnicodeDecodeError as e:
        raise SceneError(f"{file} is not a text file", "save it as UTF-8 text") from e
    raise SceneError(
        f"{file} has more than {_MAX_BYTES >> 20} MB", "map its scenes in several runs"
    )


def _listed(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        source = f" (line {number} of {file})"
        if "\0" in text:
            raise SceneError(f"{file} is not a text file", "save it as UTF-8 text")
        if _suffix(text) in (".txt", *_STAC):
            raise SceneError(
                f"{display_name(text)} is a list within a list{source}",
                "give it on the command line",
            )
        yield _from_folder(text, file.parent), source


def _from_folder(href: str, folder: Path) -> str:
    """`href` as it is where it is an address or absolute, else from `folder` on."""
    path = folder / href
    return href if is_remote(href) or (_CONNECTION.match(href) and not path.exists()) else str(path)


def _stac(start: Path) -> Iterator[tuple[str, str]]:
    """The scenes of a STAC file and, where it is a catalog, of the local files it links to."""
    pending, visited = [start], set()
    while pending:
        file = pending.pop(0)
        if file.resolve() in visited:
            continue
        visited.add(file.resolve())
        try:
            scenes, links = _stac_file(file, _table(file))
        except (pystac.STACError, pystac.STACTypeError, *_MALFORMED) as e:
            raise SceneError(
                f"{file} is no STAC Item, ItemCollection, Collection or Catalog "
                f"({type(e).__name__}: {e})",
                "give a raster, a text list or a STAC file",
            ) from e
        yield from scenes
        pending += links


def _stac_file(file: Path, table: dict[str, Any]) -> tuple[list[tuple[str, str]], list[Path]]:
    """The scenes in a STAC file, and the files it links to."""
    if table.get("type") == "FeatureCollection":
        items = [pystac.Item.from_dict(feature, str(file)) for feature in table["features"]]
        return [_scene(item, file) for item in items], []
    kind = identify_stac_object_type(table)
    if kind == pystac.STACObjectType.ITEM:
        return [_scene(pystac.Item.from_dict(table, str(file)), file)], []
    if kind == pystac.STACObjectType.COLLECTION:
        return [], list(_links(pystac.Collection.from_dict(table, str(file)), file))
    return [], list(_links(pystac.Catalog.from_dict(table, str(file)), file))


def _table(file: Path) -> dict[str, Any]:
    return parse_json(_text(file), dict[str, Any], str(file), SceneError, "give a STAC file")


def _links(catalog: pystac.Catalog, file: Path) -> Iterator[Path]:
    for link in catalog.links:
        if link.rel not in ("child", "item", "items"):
            continue
        href = str(link.href)
        if is_remote(href) or link.rel == "items":
            raise SceneError(
                f"{file} links to {display_name(href)}, which is not a local file",
                "download the items as one ItemCollection, or list the scenes in a .txt file",
            )
        yield _local(href, file)


def _local(href: str, file: Path) -> Path:
    """The file that `href`, a link in `file`, means."""
    if href.startswith("file:"):
        return Path(url2pathname(urlsplit(href).path))
    path = file.parent / href
    return path if path.exists() else file.parent / unquote(href)


def _scene(item: pystac.Item, file: Path) -> tuple[str, str]:
    """The asset of `item` to map, and where it is named."""
    rasters = [k for k, a in item.assets.items() if _is_raster(a)]
    meant = [k for k in rasters if _DATA_ROLES & set(item.assets[k].roles or ())]
    tiffs = [k for k in rasters if "tif" in f"{item.assets[k].media_type}{item.assets[k].href}"]
    selected = next((candidates for candidates in (rasters, meant) if len(candidates) == 1), None)
    if selected is None and not meant and len(tiffs) == 1:
        selected = tiffs
    if selected is None:
        problem = f"several rasters ({', '.join(meant or rasters)})" if rasters else "no raster"
        raise SceneError(
            f"item {item.id} in {file} has {problem} among its assets "
            f"({', '.join(item.assets) or 'none'})",
            "write the one you mean into a .txt file, an address or path a line",
        )
    href = item.assets[selected[0]].href
    source = f" (asset {selected[0]} of item {item.id} in {file})"
    if is_remote(href) or (_CONNECTION.match(href) and not href.startswith("file:")):
        return href, source
    return str(_local(href, file)), source


def _is_raster(asset: pystac.Asset) -> bool:
    roles, kind = set(asset.roles or ()), (asset.media_type or "").lower()
    if roles & _OTHER_ROLES and not roles & _DATA_ROLES:
        return False
    if kind in _PREVIEWS:
        return bool(roles & _DATA_ROLES)
    return kind.startswith("image/") or _suffix(asset.href) in _RASTERS
