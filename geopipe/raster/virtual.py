"""What a virtual file (raster VRT, OGR VRT) refers to is looked at before GDAL opens it.

The rule, with its reasons in docs/decisions/0025-opening-files.md:

- an address on a network needs the user's consent (``--allow-remote``, ``remote = true``);
- in the folder of the VRT and below it, any regular file may be a source;
- elsewhere on this machine only a file of a format that carries its own place (GeoTIFF, JPEG
  2000, Erdas Imagine, NITF, GeoPackage, Shapefile, FlatGeobuf), or a VRT of such, which is what
  mosaics are made of;
- Python code, SQL, connections and devices are refused.
"""

import os
import re
import stat
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from geopipe.errors import GeopipeError, UnsafeFileError
from geopipe.raster.remote import is_remote, remote_allowed
from geopipe.regularfile import require_regular
from geopipe.web import redacted

_HEAD = 4096
"""GDAL looks for the root of a VRT in the first 1024 bytes, or in a few more."""
_ROOTS = (b"<vrtdataset", b"<ogrvrtdatasource")
_PLAIN = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg")
"""Names under which a VRT is looked for after GDAL has opened it; a look before takes as long."""
_MOST_BYTES = 256 << 20
_DEEPEST = 8
"""VRTs in VRTs."""
_PLACED = (
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
    b"EHFA_HEADER_TAG",
    b"NITF",
    b"NSIF",
    b"SQLite format 3\0",
    b"\0\0\x27\x0a",
    b"fgb\3",
)
"""First bytes of files that carry their own place."""
_FILES = {"sourcefilename", "sourcedataset", "srcdatasource", "dempath", "filename"}
"""Elements that hold a name of a file, in lower case, since GDAL takes any case."""
_KEYED = {"mdi", "ooi", "option", "argument"}
_KEY = re.compile(r"dataset|file|_dem|cutline", re.IGNORECASE)
"""Keys of options that hold a name of a file."""
_CODE = {
    "pixelfunctioncode": "code of a pixel function",
    "srcsql": "a query in SQL",
    "sqlstatement": "a query in SQL",
}
_NETWORK = re.compile(
    r"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(?:_streaming)?[/?]", re.IGNORECASE
)
_ARCHIVES = ("/vsizip/", "/vsitar/", "/vsigzip/")
_CONNECTION = re.compile(r"[A-Za-z][\w+.-]+:")
_TIFF_PART = re.compile(r"GTIFF_DIR:(?:off:)?\d+:", re.IGNORECASE)


def check_local(
    path: str, *, remote: bool, error: type[GeopipeError] = UnsafeFileError, folder: bool = False
) -> None:
    """Check that opening the local file `path` reaches no network and no unrelated file.

    Args:
        path: What the user named: a path, an archive member or an inline VRT.
        remote: Whether files on a network may be referred to.
        error: What to raise.
        folder: Whether `path` may be a folder.

    Raises:
        GeopipeError: `path` is no regular file, or a VRT that the rule above refuses.
    """
    if path.lstrip().startswith("<"):
        check_text(path, str(Path.cwd()), "the VRT", remote=remote, error=error)
        return
    if not require_regular(path, error, folder=folder) or path.lower().endswith(_PLAIN):
        return
    check_virtual(path, remote=remote, error=error)


def check_virtual(path: str, *, remote: bool, error: type[GeopipeError] = UnsafeFileError) -> None:
    """As `check_local`, of a file whatever its name."""
    head = _head(path)
    if any(root in head.lower() for root in _ROOTS):
        result = os.stat(path)  # noqa: PTH116
        reason = _refused(path, result.st_mtime_ns, result.st_size, result.st_ino, remote)
        if reason:
            raise error(*reason)


def check_input(path: Path, error: type[GeopipeError]) -> None:
    """Check a file that may be a raster or vectors, before both are tried."""
    if require_regular(path, error, folder=True):
        check_virtual(str(path), remote=remote_allowed(), error=error)


def check_text(
    text: str, folder: str, name: str, *, remote: bool, error: type[GeopipeError] = UnsafeFileError
) -> None:
    """As `check_local`, of the text of a VRT whose relative sources start at `folder`."""
    try:
        _Check(folder, name, remote).text(text, folder, 0)
    except _RefusedError as e:
        raise error(*e.args) from None


@lru_cache(maxsize=256)
def _refused(path: str, mtime_ns: int, size: int, inode: int, remote: bool) -> tuple[str, ...]:
    """Why the VRT `path` is refused and what helps, or (); its state makes it another one."""
    del mtime_ns, inode
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120
    try:
        if size > _MOST_BYTES:
            raise _RefusedError(f"{path} is a VRT of more than {_MOST_BYTES >> 20} MB", "split it")
        _Check(folder, path, remote).file(path, 0)
    except _RefusedError as e:
        return e.args
    return ()


class _RefusedError(Exception):
    """Message and hint."""


@dataclass
class _Check:
    """One VRT that the user named, with those it refers to."""

    tree: str
    """Its folder."""
    name: str
    remote: bool
    seen: set[str] = field(default_factory=set)

    def file(self, path: str, depth: int) -> None:
        """Check the VRT file `path`."""
        same = os.path.realpath(path)
        if same in self.seen:
            return
        self.seen.add(same)
        try:
            content = Path(path).read_bytes()
        except OSError as e:
            raise _RefusedError(f"cannot read {path}: {e.strerror}", "is it readable?") from e
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        self.text(text, os.path.dirname(path), depth)  # noqa: PTH120

    def text(self, text: str, folder: str, depth: int) -> None:
        """Check a VRT's text; relative names in it start at `folder`."""
        if depth > _DEEPEST:
            raise _RefusedError(
                f"{self.name} has VRTs in VRTs, more than {_DEEPEST} deep", "make one of its files"
            )
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # GDAL reads these in another way
            raise _RefusedError(f"{self.name} is a VRT with a document type", "take it out")
        try:
            root = ET.fromstring(text.lstrip("\ufeff \t\r\n"))
        except (ET.ParseError, ValueError, RecursionError) as e:
            raise _RefusedError(
                f"{self.name} is a VRT whose XML is damaged: {e}", "make it again"
            ) from e
        self._element(root, folder, depth, raw=False)

    def _element(self, element: ET.Element, folder: str, depth: int, *, raw: bool) -> None:
        """Check an element and those in it; `raw`: any bytes of a file would become pixels."""
        tag, text = element.tag.lower(), (element.text or "").strip()
        attributes = {k.lower(): v for k, v in element.attrib.items()}
        python = tag == "pixelfunctionlanguage" and "python" in text.lower()
        if tag in _CODE or python:
            what = "a pixel function in Python" if python else _CODE[tag]
            raise _RefusedError(
                f"{self.name} holds {what}, which geopipe does not run",
                "make a plain file of it, e.g. with gdal_translate or ogr2ogr",
            )
        raw = raw or "rawrasterband" in attributes.get("subclass", "").lower()
        key = attributes.get("key", attributes.get("name", ""))
        if tag in _FILES or (tag in _KEYED and _KEY.search(key)):
            self._source(text, folder, depth, raw=raw)
        for other in (text, *attributes.values()):
            if _NETWORK.search(other):
                self._network(other)
        for inner in element:
            self._element(inner, folder, depth, raw=raw)

    def _network(self, name: str) -> None:
        if not self.remote:
            raise _RefusedError(
                f"{self.name} refers to {redacted(name)} on a network",
                "if it may be asked, give --allow-remote, in a workflow remote = true",
            )

    def _source(self, name: str, folder: str, depth: int, *, raw: bool) -> None:
        """Check a source; relative names start at `folder` or at the current one."""
        if name.startswith("<"):
            self.text(name, folder, depth + 1)
        elif is_remote(name):
            self._network(name)
        elif name.lower().startswith(_ARCHIVES):
            self._archive(name, folder)
        else:
            name = _TIFF_PART.sub("", name)
            paths = {os.path.join(folder, name), name}  # noqa: PTH118 (relativeToVRT or not)
            there = [path for path in paths if os.path.lexists(path)]
            if name.startswith("/vsi") or (_CONNECTION.match(name) and not there):
                raise self._no_file(name)
            if not self.tree and Path(name).is_absolute():
                raise _RefusedError(f"{self.name} refers to {name} on this machine", "download it")
            for path in there:
                self._local(path, depth, raw=raw)

    def _archive(self, name: str, folder: str) -> None:
        """Check a member of an archive, which must be an archive of the tree."""
        bare = re.sub("|".join(_ARCHIVES), "", name, flags=re.IGNORECASE).strip("{")
        bare = os.path.join(folder, bare.replace("}", ""))  # noqa: PTH118
        if not any(p.is_file() and self._inside(str(p)) for p in (Path(bare), *Path(bare).parents)):
            raise self._no_file(name)

    def _local(self, path: str, depth: int, *, raw: bool) -> None:
        """Check a file on this machine."""
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except OSError:
            return  # GDAL says so when it is read
        if not stat.S_ISREG(mode):
            raise self._no_file(path)
        head = _head(path)
        if any(root in head.lower() for root in _ROOTS):
            self.file(path, depth + 1)
        elif not self._inside(path) and (raw or not head.startswith(_PLACED)):
            raise _RefusedError(
                f"{self.name} refers to {path}, which lies outside of its folder and is "
                "no GeoTIFF, JPEG 2000, Erdas Imagine or NITF file",
                "put it below the folder of the VRT, or make a GeoTIFF of it",
            )

    def _no_file(self, name: str) -> _RefusedError:
        return _RefusedError(
            f"{self.name} refers to {name}, which is no file", "let it refer to files on disk"
        )

    def _inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self.tree)


def _head(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (thousands of chips)
            return file.read(_HEAD)
    except OSError:
        return b""  # GDAL says why
