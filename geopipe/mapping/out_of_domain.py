"""The parts of a scene that are unlike what a model learned from, as a layer of polygons."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from geopipe.grid import NetworkGrid, Tiling, Window
from geopipe.mapping.domain import CellGrid
from geopipe.raster.scene import window_polygon

LAYER = "out_of_domain"
WARN_SHARE = 0.1
"""Of a scene's cells; where more are foreign, the map is warned of."""
_BATCH = 20_000
_COLOR = "#c2447c"

Records = Iterable[tuple[int, tuple[float | None, ...]]]
"""Tiles by their number, and the scores of their cells."""


@dataclass(frozen=True, slots=True)
class OutOfDomain:
    """How much of a scene is unlike the images that the model learned from."""

    cells: int
    """Cells with enough of an image."""
    foreign: int
    """Of these, with a score above 1."""
    path: Path | None
    """A GeoPackage of the foreign cells, where there are any."""

    @property
    def share(self) -> float:
        """Foreign cells as a share of one."""
        return self.foreign / max(self.cells, 1)

    def sentence(self) -> str:
        """In words."""
        return f"{100 * self.share:.1f} % of {self.cells} cells"

    def warning(self, scene: str) -> str:
        """Why the map is doubtful; empty where it is not."""
        if self.share < WARN_SHARE:
            return ""
        return (
            f"{100 * self.share:.0f} % of {scene} is unlike the images that the model learned "
            "from: do not trust the map there without a check (out_of_domain.gpkg shows where)"
        )


def write_out_of_domain(
    records: Records, geobox: GeoBox, grid: NetworkGrid, tiling: Tiling, target: Path
) -> OutOfDomain:
    """Write the foreign cells of the tiles in `records` as polygons to `target`.

    The layer has the column ``score``: the distance of a cell's features from the training cells,
    1 is the limit that 99 % of held-out training cells stay below. No file is written where no
    cell is foreign. Memory does not grow with the scene.
    """
    counts = np.zeros(2, np.int64)

    def foreign_cells() -> Iterator[tuple[Window, float]]:
        for index, scores in records:
            cells = CellGrid.of(grid, tiling[index].core)
            if cells is None:
                continue
            for cell, score in zip(cells, scores, strict=False):
                if score is not None:
                    counts[:] += 1, score > 1
                    if score > 1:
                        yield cell, score

    foreign = foreign_cells()
    for batch in iter(lambda: list(islice(foreign, _BATCH)), []):
        _append(batch, geobox, target, append=counts[1] > len(batch))
    if counts[1]:
        _finish(target)
    return OutOfDomain(int(counts[0]), int(counts[1]), target if counts[1] else None)


def _append(
    batch: Iterable[tuple[Window, float]], geobox: GeoBox, target: Path, *, append: bool
) -> None:
    import geopandas as gpd  # seconds, which a map without such cells need not wait for

    from geopipe.raster.geopackage import write_layer

    windows, scores = zip(*batch, strict=True)
    frame = gpd.GeoDataFrame(
        {"class": ["out of domain"] * len(scores), "score": scores},
        geometry=[window_polygon(geobox, w) for w in windows],
        crs=str(geobox.crs),
    )
    if not append:
        target.unlink(missing_ok=True)
    write_layer(frame, target, LAYER, geometry_type="Polygon", append=append)


def _finish(target: Path) -> None:
    from geopipe.raster.geopackage import finish_geopackage
    from geopipe.raster.layerstyle import add_layer_style
    from geopipe.raster.style import category_qml

    style = category_qml("class", {"out of domain": _COLOR})
    add_layer_style(target, LAYER, "out of domain", style, "unlike the training images")
    finish_geopackage(target)
