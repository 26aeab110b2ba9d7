"""The parts of a scene that are unlike what a model learned from, as a layer of polygons."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from odc.geo.geobox import GeoBox

from geopipe.allocator import trim_malloc
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
    _foreign_cells: Callable[[], Iterator[tuple[Window, float]]]
    _geobox: GeoBox

    @classmethod
    def of(
        cls, records: Callable[[], Records], geobox: GeoBox, gsd: float, tiling: Tiling
    ) -> "OutOfDomain":
        """Count the cells of the tiles in `records`, which are read again for the layer.

        `gsd`: of the model.
        """
        grid = NetworkGrid.of(geobox, gsd)

        def scored() -> Iterator[tuple[Window, float]]:
            for index, scores in records():
                cells = CellGrid.of(grid, tiling[index].core)
                for cell, score in zip(cells or (), scores, strict=False):
                    if score is not None:
                        yield cell, score

        total = foreign = 0
        for _, score in scored():
            total, foreign = total + 1, foreign + (score > 1)
        return cls(total, foreign, lambda: (cell for cell in scored() if cell[1] > 1), geobox)

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

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the foreign cells as polygons to ``out_of_domain.gpkg`` in `folder`.

        Returns the file by the key of its asset; nothing is written where no cell is foreign. The
        column ``score`` is the distance of a cell's features from the training cells, 1 is the
        limit that 99 % of held-out training cells stay below. Memory does not grow with the scene.
        """
        if not self.foreign:
            return {}
        target = folder / f"{LAYER}.gpkg"
        target.unlink(missing_ok=True)
        trim_malloc()  # of the rasters, before pandas comes
        foreign = self._foreign_cells()
        for batch in iter(lambda: list(islice(foreign, _BATCH)), []):
            _append(batch, self._geobox, target)
        _finish(target)
        return {LAYER: target}


def _append(batch: Iterable[tuple[Window, float]], geobox: GeoBox, target: Path) -> None:
    import geopandas as gpd  # seconds, which a map without such cells need not wait for

    from geopipe.raster.geopackage import write_layer

    windows, scores = zip(*batch, strict=True)
    frame = gpd.GeoDataFrame(
        {"class": ["out of domain"] * len(scores), "score": scores},
        geometry=[window_polygon(geobox, w) for w in windows],
        crs=str(geobox.crs),
    )
    write_layer(frame, target, LAYER, geometry_type="Polygon", append=target.exists())


def _finish(target: Path) -> None:
    from geopipe.raster.geopackage import finish_geopackage
    from geopipe.raster.layerstyle import add_layer_style
    from geopipe.raster.style import category_qml

    style = category_qml("class", {"out of domain": _COLOR})
    add_layer_style(target, LAYER, "out of domain", style, "unlike the training images")
    finish_geopackage(target)
