"""Plan the sample points of an accuracy assessment: a stratified random sample."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geopipe import __version__
from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError, LabelError, OutputError
from geopipe.evaluation.assess.design import SampleDesign, read_points, write_points
from geopipe.evaluation.assess.pixels import Census, ClassPixels, census
from geopipe.evaluation.assess.sampling import SampleSize, allocate
from geopipe.files import OTHER_NAME, check_new_file
from geopipe.labels.extent import Extent
from geopipe.raster.cog import read_scheme


@dataclass(frozen=True, eq=False)
class _Draw:
    """Drawn pixels: the rank-th pixel of a class in a row; arrays (points,) int64, by row."""

    rows: np.ndarray
    classes: np.ndarray
    ranks: np.ndarray


def plan_points(
    class_map: Path,
    target: Path,
    size: SampleSize,
    *,
    seed: int = 0,
    area: Path | None = None,
    scheme: ClassScheme | None = None,
    overwrite: bool = False,
) -> SampleDesign:
    """Draw pixels of each class of `class_map` without replacement; write them to `target`.

    The map is read twice, window by window. The same pixels, size, area and seed give the same
    points, however the map is stored. `area`: polygons to which the map is limited. `scheme`: by
    default the names in the map. Raises SceneError without a CRS, ConfigError without a scheme or
    for an impossible size, OutputError when `target` exists (unless `overwrite`), LabelError when
    the area holds no pixel with a class.
    """
    _check_target([class_map, *([area] if area else [])], target, overwrite)
    pixels, scheme = _open(class_map, scheme, area)
    pixel_census = census(pixels)
    if not pixel_census.pixels.any():
        where = f" inside {area}" if area else ""
        raise LabelError(f"no pixel of {class_map}{where} has a class")
    shares = allocate(scheme.names, pixel_census.pixels.tolist(), size)
    rows, cols = draw_pixels(pixels, pixel_census, shares.points, seed)
    geobox = pixels.scene.geobox
    design = SampleDesign(
        class_map.name,
        pixel_census.sha256,
        pixels.scene.shape,
        tuple(geobox.affine)[:6],
        Extent(geobox).crs.to_wkt(),
        tuple((c.name, c.color) for c in scheme.classes),
        tuple(pixel_census.pixels.tolist()),
        tuple(pixel_census.area_m2.tolist()),
        shares.points,
        shares.expected,
        shares.half_width,
        seed,
        area.name if area else None,
        f"geopipe {__version__}",
        tuple(rows.tolist()),
        tuple(cols.tolist()),
    )
    write_points(target, design, scheme)
    return design


def _open(
    class_map: Path, scheme: ClassScheme | None, area: Path | None
) -> tuple[ClassPixels, ClassScheme]:
    # Opened before its names are asked for: no CRS is the worse lack.
    pixels = ClassPixels.open(class_map, scheme.names if scheme else (), area)
    scheme = scheme or read_scheme(class_map)
    if scheme is None:
        raise ConfigError(
            f"{class_map} names no classes", "keep its .aux.xml next to it, or give a class scheme"
        )
    folded = [name.casefold().strip() for name in scheme.names]
    if len(set(folded)) < len(folded):
        raise ConfigError(
            f"class names differ in capitals alone: {', '.join(scheme.names)}",
            "give them other names by `classes`",
        )
    return ClassPixels(pixels.scene, scheme.names, pixels.windows, pixels.area), scheme


def _check_target(sources: list[Path], target: Path, overwrite: bool) -> None:
    if target.suffix.lower() != ".gpkg":
        raise OutputError(f"{target} is no name of a GeoPackage", "let it end in .gpkg")
    check_new_file(target, overwrite=True, sources=sources)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already{_interpreted_text(target)}", OTHER_NAME)


def _interpreted_text(target: Path) -> str:
    """How much work an overwritten file would cost, as words."""
    try:
        _, table = read_points(target)
    except LabelError:
        return ""
    n = int((table["truth"].fillna("").astype(str).str.strip() != "").sum())
    return f", with the truth of {n} of its {len(table)} points"


def draw_pixels(
    pixels: ClassPixels, pixel_census: Census, points: tuple[int, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (sum of points,) int64 of random pixels, `points` of each class.

    In random order, so that neither the order tells the class nor is the part that is done first
    another sample than the rest.
    """
    draw = _draw(pixel_census.by_row, points, seed)
    cols = _columns(pixels, draw)
    order = np.random.default_rng([seed, len(points)]).permutation(len(cols))
    return draw.rows[order], cols[order]


def _draw(by_row: np.ndarray, points: tuple[int, ...], seed: int) -> _Draw:
    """`points` pixels of each class without replacement, all subsets equally likely.

    `by_row`: (rows, classes) pixels. Each class has its own stream of random numbers.
    """
    parts = []
    for c, n in enumerate(points):
        cumulative = np.cumsum(by_row[:, c], dtype=np.int64)
        rng = np.random.default_rng([seed, c])
        numbers = (
            np.sort(rng.choice(int(cumulative[-1]), n, replace=False)) if n else np.zeros(0, int)
        )
        rows = np.searchsorted(cumulative, numbers, side="right")
        ranks = numbers - (cumulative - by_row[:, c])[rows]
        parts.append(np.stack([rows, np.full(n, c), ranks]))
    pixels = np.concatenate(parts, axis=1)
    return _Draw(*pixels[:, np.argsort(pixels[0], kind="stable")])


def _columns(pixels: ClassPixels, draw: _Draw) -> np.ndarray:
    """The column (points,) int64 of each drawn pixel."""
    cols, left = np.full(len(draw.rows), -1), draw.ranks.copy()
    for window in pixels.windows:
        first, last = np.searchsorted(draw.rows, [window.row, window.bottom])
        pending = [i for i in range(first, last) if cols[i] < 0]
        if not pending:
            continue
        ids = pixels.inside(window, pixels.read(window))
        for i in pending:
            candidates = np.flatnonzero(ids[draw.rows[i] - window.row] == draw.classes[i])
            if left[i] < len(candidates):
                cols[i] = window.col + candidates[left[i]]
            left[i] -= len(candidates)
    return cols
