"""Rasters behind a network: GDAL settings, and which reads are retried.

GDAL asks for parts of the file (HTTP ranges) and tries some failures again by itself; what still
fails is tried again here with a fresh dataset.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

from rasterio.env import get_gdal_config

from geopipe.errors import SceneError, UnsafeFileError
from geopipe.web import redacted

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each further try of a read that failed."""
PATIENCE_S = 90.0
"""No further try starts later than this after the first."""

_NO_LISTING = "empty_dir"
"""As GDAL's EMPTY_DIR, in letters that tell our setting from a user's."""
_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": "408,429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_TIMEOUT": "300",
    "GDAL_HTTP_TCP_KEEPALIVE": "YES",
    # No look for files beside the raster: each is a request, and a mask file whose request fails
    # would be left out without a word.
    "GDAL_DISABLE_READDIR_ON_OPEN": _NO_LISTING,
    "GDAL_INGESTED_BYTES_AT_OPEN": "65536",
    "CPL_VSIL_CURL_CHUNK_SIZE": "65536",
    "CPL_VSIL_CURL_CACHE_SIZE": "16777216",
    # GDAL remembers for as long as the process lives that a file could not be had, and the bytes
    # of a broken answer; so it forgets them when the file is closed.
    "CPL_VSIL_CURL_NON_CACHED": "/vsi",
}
_REMOTE = re.compile(
    r"(?:\w+\+)*(?:https?|ftp|s3|gs|az|oss)://"
    r"|(?=/vsi).*/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(?:_streaming)?[/?]",
    re.IGNORECASE,
)
_REMOTE_SOURCE = re.compile(
    rb"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(?:_streaming)?[/?]"
)
_FINAL = re.compile(r"response[ _]code[ =:]*(40[01345]|410)\b")
"""Answers that another try does not change: no such file, no right to read it."""
_HINTS = dict.fromkeys(
    ("401", "403"), "it needs credentials, e.g. AWS_ACCESS_KEY_ID, or a signed address still valid"
)


_allowed = False


def allow_remote(allowed: bool) -> None:
    """Say whether a local VRT may refer to files on a network, from now on in this process."""
    global _allowed
    _allowed = allowed


@contextmanager
def consent(allowed: bool) -> Iterator[None]:
    """`allow_remote` for a block, where it is not said already."""
    before = _allowed
    allow_remote(before or allowed)
    try:
        yield
    finally:
        allow_remote(before)


def remote_allowed() -> bool:
    """Whether a local VRT may refer to files on a network."""
    return _allowed


def is_remote(path: str | Path) -> bool:
    """Whether `path` is an address: ``https://``, ``s3://``, ``gs://``, ``/vsicurl/``."""
    return _REMOTE.match(str(path)) is not None


def on_network(path: str | Path) -> bool:
    """Whether reading `path` needs the network: an address, or a VRT whose sources have one."""
    text = str(path)
    if is_remote(text):
        return True
    if text.lstrip().startswith("<VRTDataset"):
        return _REMOTE_SOURCE.search(text.encode()) is not None
    if not text.lower().endswith(".vrt"):
        return False
    try:
        stat = Path(text).stat()
    except OSError:
        return False
    if not S_ISREG(stat.st_mode):  # reading a named pipe would wait for ever
        return False
    return _names_remote(text, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _names_remote(vrt: str, mtime_ns: int, size: int) -> bool:
    del mtime_ns, size  # they make a rewritten file another one
    return _REMOTE_SOURCE.search(Path(vrt).read_bytes()) is not None


def gdal_options(path: str | Path) -> dict[str, str]:
    """What ``rasterio.Env`` should set to read `path`: nothing that is set already."""
    listing = "GDAL_DISABLE_READDIR_ON_OPEN"
    if not on_network(path):  # perhaps inside an Env of ours: files beside it count again
        return {listing: "NO"} if get_gdal_config(listing) == _NO_LISTING else {}
    return {k: v for k, v in _OPTIONS.items() if get_gdal_config(k) is None}


def display_name(path: str | Path) -> str:
    """`path` as messages may show it: without the keys and signatures of a signed address."""
    return redacted(str(path)) if is_remote(path) else str(path)


def with_retries(path: str | Path, read: Callable[[], T]) -> T:
    """``read()``; where `path` needs the network a SceneError is met with further tries.

    After each of PAUSES, until PATIENCE_S have passed. Raises the last SceneError.
    """
    if not on_network(path):
        return read()
    start, attempts = time.monotonic(), 0
    while True:
        attempts += 1
        try:
            return read()
        except UnsafeFileError:
            raise
        except SceneError as e:
            elapsed = time.monotonic() - start
            if final_error := _FINAL.search(e.message):
                raise SceneError(e.message, _HINTS.get(final_error[1], "check the address")) from e
            if attempts > len(PAUSES) or elapsed > PATIENCE_S:
                raise SceneError(
                    e.message,
                    f"tried {attempts} times in {elapsed:.0f} s; is the server up? then run it "
                    "again",
                ) from e
            pause = PAUSES[attempts - 1]
            log.info("%s; trying again in %g s", e.message, pause)
            time.sleep(pause)
