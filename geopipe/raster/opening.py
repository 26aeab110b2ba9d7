"""Open rasters for reading: the one place that does, with GDAL's caches bounded."""

import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import get_gdal_config, getenv, hasenv, set_gdal_config
from rasterio.errors import RasterioError

from geopipe.errors import SceneError
from geopipe.raster.drivers import network
from geopipe.raster.remote import (
    display_name,
    gdal_options,
    is_remote,
    remote_allowed,
    with_retries,
)
from geopipe.raster.virtual import check_local, check_text, check_virtual
from geopipe.web import redacted

CACHE_MB = 48
"""GDAL's cache of decoded blocks, per process.

GDAL's default, 5 % of the machine's memory, made a loop over windows grow with the scene: from
423 MB at 4,000^2 to 1675 MB at 20,000^2 pixels; with 64 MB it went from 422 to 439.
"""
MAX_IDLE = 4
"""Datasets that stay open: scenes that a worker reads in turn, or one that threads read."""
MIN_AGE_S = 1.0
"""A file changed less long ago is not kept open: a second change might bear the same time."""
_MAX_FILES_CHECKED = 100
"""The files of a VRT, if more than this, are looked at once per MIN_AGE_S: 5000 take 11 ms."""
_DATA_LOSS = re.compile(
    r"\b(?:can ?not|failed to) read\b|\bIO error during reading\b", re.IGNORECASE
)
"""What GDAL signals when it opens a file without a part of it: mask, nodata value, CRS."""
_SERVER_RESPONSE = re.compile(r"Retrying again|Request for [\d-]+ failed|HTTP response code on ")
"""Warnings of single requests, which `with_retries` sums up; they show signed addresses in full."""
GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises for GDAL's errors; some properties let the inner ones through."""


@dataclass
class GdalMessages:
    """What GDAL signalled in one thread."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def server_response(self) -> str:
        """The first answer of a server that was no good, or nothing."""
        responses = (w for w in self.warnings if _SERVER_RESPONSE.search(w))
        return redacted(next(responses, "").removeprefix("CPLE_AppDefined").lstrip(": in"))


class _ErrorCollector(logging.Filter):
    """Hears GDAL's signals where rasterio logs them; nothing else is told of them.

    GDAL may signal an error and yet return success, with the file's first bytes as the pixels of a
    block whose place it could not read. rasterio raises no exception then; it only logs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        messages: GdalMessages | None = getattr(self._local, "signals", None)
        if messages is not None and record.levelno >= logging.INFO:
            text = record.getMessage()
            if text.startswith("GDAL signalled an error"):
                args = record.args
                messages.errors.append(str(args[-1]) if isinstance(args, tuple) else text)
            elif record.levelno >= logging.WARNING:
                messages.warnings.append(text)
                if _SERVER_RESPONSE.search(text):
                    return False
        parent = logging.getLogger(record.name).parent
        return parent is None or record.levelno >= parent.getEffectiveLevel()

    @contextmanager
    def collect(self) -> Iterator[GdalMessages]:
        for name in ("rasterio._env", "rasterio._err"):
            logger = logging.getLogger(name)
            logger.addFilter(self)
            if not logger.isEnabledFor(logging.INFO):
                logger.setLevel(logging.INFO)
                logger.disabled = False
        before = getattr(self._local, "signals", None)
        self._local.signals = messages = GdalMessages()
        try:
            yield messages
        finally:
            self._local.signals = before


collect_gdal_errors = _ErrorCollector().collect
"""``with listening() as signals``: what GDAL signals in this thread meanwhile."""


@contextmanager
def opened(path: str | Path) -> Iterator[rasterio.DatasetReader]:
    """`path` opened for reading; what GDAL refuses becomes a SceneError.

    Masks, nodata and georeferencing are complete: a file that is cut off where it says them is
    refused. Of a file on a network the files beside it (.msk, .aux.xml) are not looked for.
    Only the drivers of `geopipe.raster.drivers` open it, and what a VRT refers to is checked.
    """
    remote = remote_allowed()
    with (
        network(remote or is_remote(path)),
        rasterio.Env(**gdal_options(path)),
        with_retries(path, lambda: _open(path, remote)) as src,
    ):
        yield src


@contextmanager
def pooled(path: str, purpose: str, *, remote: bool = False) -> Iterator[rasterio.DatasetReader]:
    """As `opened`, but tried once, and the dataset stays open for the next call.

    `purpose`: what of it, for the message when it cannot be opened. `remote`: whether a VRT may
    refer to files on a network.

    A local file that was rewritten, or one that a VRT refers to, is opened anew; so is any after
    an exception in the block.
    """
    with network(remote or is_remote(path)), rasterio.Env(**gdal_options(path)):
        key = os.getpid(), path if is_remote(path) else os.path.abspath(path)  # noqa: PTH100
        dataset = _POOL.take(key)
        if dataset and dataset.is_stale():
            dataset.src.close()
            dataset = None
        try:
            dataset = dataset or _PooledDataset(_open(path, remote), path)
        except SceneError as e:
            raise type(e)(f"{e.message}; wanted were its {purpose}", e.hint) from e
        try:
            yield dataset.src
        except BaseException:
            dataset.src.close()
            raise
        _POOL.return_dataset(key, dataset)


def release() -> None:
    """Close what `pooled` keeps open."""
    _POOL.clear()


class _PooledDataset:
    """An open dataset and what its files looked like when it was opened."""

    def __init__(self, src: rasterio.DatasetReader, path: str) -> None:
        self.src = src
        own_files = [] if is_remote(path) else [path, path + ".msk", path + ".aux.xml"]
        self.files = list(dict.fromkeys(own_files + [f for f in src.files if not is_remote(f)]))
        self.stamps = _stamps(self.files)
        self.checked = time.monotonic()
        self.is_reusable = is_remote(path) or (
            self.stamps[0] is not None
            and time.time() - max(s[1] for s in self.stamps if s) / 1e9 > MIN_AGE_S
        )

    def is_stale(self) -> bool:
        now = time.monotonic()
        checks_seldom = len(self.files) > _MAX_FILES_CHECKED and now - self.checked < MIN_AGE_S
        files = self.files[:1] if checks_seldom else self.files
        if not checks_seldom:
            self.checked = now
        return _stamps(files) != self.stamps[: len(files)]


def _stamps(files: Sequence[str]) -> list[tuple[int, ...] | None]:
    """(mtime, ctime, size, inode) of each file, None where there is none."""
    stamps: list[tuple[int, ...] | None] = []
    for file in files:
        try:
            s = os.stat(file)  # noqa: PTH116 (twice as fast as Path.stat, 5000 times per read)
            stamps.append((s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino))
        except (OSError, ValueError):
            stamps.append(None)
    return stamps


class _DatasetPool:
    """The process's open datasets that nobody reads just now, the last used last.

    GDAL's datasets must not be read by two threads at once, so a reader takes one away and brings
    it back. Threads that seldom meet mostly share one, and with it the blocks it has decoded.
    """

    def __init__(self) -> None:
        self._datasets: list[tuple[tuple[int, str], _PooledDataset]] = []
        self._lock = threading.Lock()

    def take(self, key: tuple[int, str]) -> _PooledDataset | None:
        with self._lock:
            for i in reversed(range(len(self._datasets))):
                if self._datasets[i][0] == key:
                    return self._datasets.pop(i)[1]
        return None

    def return_dataset(self, key: tuple[int, str], dataset: _PooledDataset) -> None:
        if not dataset.is_reusable:
            dataset.src.close()
            return
        with self._lock:
            self._datasets.append((key, dataset))
            surplus = [self._datasets.pop(0)[1] for _ in range(len(self._datasets) - MAX_IDLE)]
        for old in surplus:
            old.src.close()

    def clear(self) -> None:
        with self._lock:
            datasets, self._datasets = self._datasets, []
        for _, dataset in datasets:
            dataset.src.close()


_POOL = _DatasetPool()


def _open(path: str | Path, remote: bool) -> rasterio.DatasetReader:
    _configure_gdal()
    text = str(path)
    if not is_remote(text):
        check_local(text, remote=remote)
    try:
        with collect_gdal_errors() as messages:
            src = rasterio.open(path)
            try:
                if src.driver == "VRT":
                    _check_virtual(src, text, remote)
                _ = src.mask_flag_enums  # GDAL looks for masks only when it is asked
                _tell_late_errors(src, messages)
            except BaseException:
                src.close()
                raise
    except (*GDAL_ERRORS, UnicodeDecodeError) as e:  # of names and tags that are no UTF-8
        raise _opening_error(path, redacted(str(e))) from e
    losses = [m for m in messages.errors + messages.warnings if _DATA_LOSS.search(m)]
    if losses:
        src.close()
        raise SceneError(
            f"cannot read all of what {display_name(path)} says of itself: {redacted(losses[0])}",
            "the file is truncated or damaged",
        )
    return src


def _tell_late_errors(src: rasterio.DatasetReader, messages: GdalMessages) -> None:
    """Add to `messages` what rasterio raises at the next call, though it is of the opening."""
    try:
        _ = src.colorinterp
    except CPLE_BaseError as e:
        messages.errors.append(str(e))


def _check_virtual(src: rasterio.DatasetReader, path: str, remote: bool) -> None:
    """Check a VRT that had another name, lies in an archive or comes from a network."""
    if is_remote(path) or path.startswith("/vsi"):
        text = "".join(src.tags(ns="xml:VRT").values())
        check_text(text, "", display_name(path), remote=remote or is_remote(path))
    elif not path.lstrip().startswith("<"):
        check_virtual(path, remote=remote)


def _opening_error(path: str | Path, reason: str) -> SceneError:
    if is_remote(path):
        return SceneError(f"cannot open {display_name(path)}: {reason}", "check the address")
    if "://" not in str(path) and not str(path).startswith("/vsi") and not Path(path).exists():
        return SceneError(f"there is no file {path}", "check the path")
    return SceneError(
        f"{path} is not a raster that GDAL can open: {reason}", "see what gdalinfo says of it"
    )


def _configure_gdal() -> None:
    """Set GDAL's block cache to CACHE_MB and its PNG reader to libpng unless the user chose.

    rasterio hands GDAL_CACHEMAX over in bytes and at once; 64 would mean 64 bytes. The faster PNG
    reader returns arbitrary pixels, and no error, where the disk fails while it reads.
    """
    for name, value in (("GDAL_CACHEMAX", CACHE_MB << 20), ("GDAL_PNG_WHOLE_IMAGE_OPTIM", "NO")):
        if name in os.environ or (hasenv() and name in map(str.upper, getenv())):
            continue
        if get_gdal_config(name) != value:
            set_gdal_config(name, value)
