"""The contact sheet of a round of a transfer, with the pixels of what it shows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from geopipe.checkpoint import Checkpoint
from geopipe.learn.patches import PatchGrid, PatchRaster, SceneRaster, patch_net
from geopipe.learn.patches.rasters import read_patch
from geopipe.learn.transfer import SampleStatus
from geopipe.learn.transfer.rounds import Round
from geopipe.report.contact_sheet import ContactSheet, Neighbour, Row, select_rows, write_sheet

_MAX_ROWS = 8
"""Kept and refused patches of a class."""
_MAX_NEIGHBOURS = 4


def write_transfer_sheet(
    out: Path, model: Checkpoint, result: Round, source_patches: PatchGrid, *, trained: bool
) -> Path:
    """Write the page beside the model `out`, whose last round `result` is, and return it.

    `trained`: whether the model was trained on it. Raises OutputError when it cannot be written.
    """
    status = "The model was trained on them"
    if not trained:
        status = f"No training: {out.name} is the old model"
    status += ", because:" if not trained else ", although:" if result.evidence.reasons else "."
    selection, size = (
        result.selected,
        sorted(patch_net(model).sizes)[len(patch_net(model).sizes) // 2],
    )

    def rows() -> Iterator[Row]:
        for i in select_rows(selection, _MAX_ROWS).tolist():
            neighbours = zip(
                selection.neighbours.indices[i, :_MAX_NEIGHBOURS].tolist(),
                selection.neighbours.distances[i, :_MAX_NEIGHBOURS].tolist(),
                strict=True,
            )
            raster = result.target.rasters[result.target.positions[i, 0]]
            yield Row(
                _patch_image(result.target, i, size),
                int(selection.labels[i]),
                float(selection.confidence[i]),
                SampleStatus(int(selection.statuses[i])),
                tuple(
                    Neighbour(
                        _patch_image(source_patches, j, size), int(source_patches.ids[j]), distance
                    )
                    for j, distance in neighbours
                    if j >= 0
                ),
                _location(raster, result.target, i),
            )

    return write_sheet(
        out.with_name(out.name + ".html"),
        ContactSheet(
            f"Pseudo-labels for {out.name}",
            model.scheme,
            tuple(rows()),
            selection.counts(),
            f"{len(selection.selected)} of {len(selection.labels)} target patches are kept. "
            f"{status}",
            result.evidence.reasons,
        ),
        _MAX_ROWS,
        _MAX_NEIGHBOURS,
    )


def _location(raster: PatchRaster, patches: PatchGrid, index: int) -> str:
    """Where a cell is: the middle of it in its scene's CRS, or its chip."""
    path = Path(raster.path)
    if not isinstance(raster, SceneRaster):
        return "/".join(path.parts[-2:])
    geobox, window = raster.grid.geobox(raster.scene.geobox), patches.window(index, patches.cell)
    center = window.col + window.width / 2, window.row + window.height / 2
    digits = 5 if geobox.crs and geobox.crs.geographic else 0
    return f"{path.name}: " + ", ".join(f"{v:.{digits}f}" for v in geobox.affine * center)


def _patch_image(patches: PatchGrid, index: int, size: int) -> np.ndarray:
    """The patch of `size` px around a cell (3, size, size) uint8."""
    image, _ = read_patch(patches.rasters[patches.positions[index, 0]], patches.window(index, size))
    return image.clamp(0, 255).round().numpy().astype(np.uint8)
