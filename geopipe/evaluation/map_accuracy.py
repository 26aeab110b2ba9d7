"""Compare a class map with ground truth, window by window, in bounded memory."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE, ClassScheme
from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.evaluation.assess.pixels import windows
from geopipe.grid import Window
from geopipe.labels import Area, open_labels, warn_of_unknown_classes
from geopipe.labels.maskfile import is_mask
from geopipe.metrics import Metrics
from geopipe.progress import progress
from geopipe.raster.cog import read_scheme
from geopipe.raster.georeference import unplaced
from geopipe.raster.scene import opened, window_geobox
from geopipe.raster.virtual import check_input

_SIDE = 2048
"""Windows hold at most about _SIDE x _SIDE pixels."""

Reader = Callable[[Window], np.ndarray]
"""Window of the map's plane -> class ids (h, w), IGNORE where unknown."""


def evaluate_map(
    class_map: Path,
    truth: Path,
    *,
    scheme: ClassScheme | None = None,
    area: Path | None = None,
    layer: str | None = None,
    all_are: str | None = None,
) -> Metrics:
    """Count how the pixels of `class_map` agree with `truth` (a raster or vectors, see `layer`).

    Truth on another plane is brought to the map's by its LabelSource. Where one of two rasters of
    equal shape has no CRS they are compared pixel by pixel. For two classes, a raster of 0 and 255
    only that declares no nodata is a mask, and 255 means class 1. IGNORE and nodata of either are
    left out and counted. `all_are`: the class of all vectors of `truth` (see `open_labels`).
    `area`: polygons to which the comparison is limited. `scheme`: by default the names in the map.
    Raises ConfigError without a scheme, LabelError or SceneError when the two do not meet.
    """
    with ExitStack() as stack:
        src = stack.enter_context(_raster(class_map))
        scheme = scheme or _named_scheme(class_map)
        mapped = _ids(src, scheme)
        expected = _truth(stack, src, truth, scheme, layer, all_are)
        inside = _area(area, src) if area else None
        total = Metrics.empty(scheme.names)
        parts = list(_windows(src))
        advance = stack.enter_context(progress("comparing", len(parts)))
        for window in parts:
            advance()
            mask = inside(window) if inside else None
            if mask is not None and not mask.any():
                continue
            t, m = expected(window), mapped(window)
            if mask is not None:
                t, m = t[mask], m[mask]
            total += Metrics.of(scheme.names, t, m)
    if not total.pixels:
        where = f" inside {area}" if area else ""
        raise LabelError(
            f"no pixel{where} has a class in both {class_map} and {truth}: {total.ignored} left out"
        )
    return total


def _named_scheme(class_map: Path) -> ClassScheme:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        scheme = read_scheme(class_map)
    if scheme is None:
        raise ConfigError(
            f"{class_map} names no classes", "keep its .aux.xml next to it, or give a class scheme"
        )
    return scheme


def _truth(
    stack: ExitStack,
    src: rasterio.DatasetReader,
    truth: Path,
    scheme: ClassScheme,
    layer: str | None,
    all_are: str | None,
) -> Reader:
    """How to read `truth` on the plane of `src`; LabelError or SceneError when they do not meet."""
    raster = _as_raster(stack, truth)
    for one in (src, raster):
        if one is not None and one.crs is not None and (wrong := unplaced(one, one.name)):
            raise SceneError(*wrong)
    if raster is not None and (raster.crs is None or src.crs is None):
        if raster.shape != src.shape:
            raise SceneError(
                f"{truth} has {raster.height} x {raster.width} px and {src.name} {src.height} x"
                f" {src.width}; one has no CRS, so they cannot be laid over each other",
                "georeference both, or give files of equal size",
            )
        return _ids(raster, scheme)
    if src.crs is None:
        raise SceneError(f"{src.name} has no CRS, so vectors cannot be laid over it")
    geobox = GeoBox(src.shape, src.transform, src.crs)
    labels = open_labels(truth, scheme, geobox, layer, all_are)
    warn_of_unknown_classes(labels, str(truth))
    return lambda window: np.asarray(labels.read(window_geobox(geobox, window)))


def _ids(src: rasterio.DatasetReader, scheme: ClassScheme) -> Reader:
    """Reads the one band of `src` as class ids."""
    if src.count > 2 or not np.issubdtype(src.dtypes[0], np.integer):
        raise SceneError(
            f"{src.name} has {src.count} bands of {src.dtypes[0]}",
            "give one band of whole numbers: class ids, not colours or scores",
        )

    positive_id = IGNORE if len(scheme) == 2 and is_mask(src) else None

    def read(window: Window) -> np.ndarray:
        values, valid = _values(src, window)
        ids = values.astype(np.int64)
        return np.where(valid, ids if positive_id is None else ids == positive_id, IGNORE)

    return read


def _values(src: rasterio.DatasetReader, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """What `src` holds in `window`, and where it is not masked or nodata; both (h, w)."""
    rio = RioWindow(window.col, window.row, window.width, window.height)
    try:
        return src.read(1, window=rio), src.read_masks(1, window=rio) > 0
    except RasterioIOError as e:
        raise SceneError(
            f"cannot read {src.name} near row {window.row}, column {window.col}: {e}",
            "the file is truncated or damaged; copy it again",
        ) from e


def _area(path: Path, src: rasterio.DatasetReader) -> Reader:
    """Reads whether a pixel's centre lies in one of the polygons of `path`, as bool."""
    if src.crs is None:
        raise SceneError(f"{src.name} has no CRS, so {path} cannot be laid over it")
    grid = GeoBox(src.shape, src.transform, src.crs)
    area = Area.open(path, grid)
    return lambda window: area.inside(window_geobox(grid, window))


def _windows(src: rasterio.DatasetReader) -> Iterator[Window]:
    return windows(src, _SIDE)


@contextmanager
def _raster(path: Path) -> Iterator[rasterio.DatasetReader]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # checked by its CRS
        stack = ExitStack()
        src = stack.enter_context(opened(path))
    with stack:
        yield src


def _as_raster(stack: ExitStack, path: Path) -> rasterio.DatasetReader | None:
    """`path` opened, or None where it holds no raster (then its LabelSource decides)."""
    if not path.exists():
        raise LabelError(f"there is no file {path}", "check the path")
    check_input(path, LabelError)
    try:
        return stack.enter_context(_raster(path))
    except SceneError:
        return None
