"""How like an image each place of a scene is, as a georeferenced raster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox

from geopipe import __version__
from geopipe.errors import ConfigError, SceneError
from geopipe.files import atomic_file, check_new_file
from geopipe.grid import Window
from geopipe.mapping import Workers, run_tiles
from geopipe.progress import progress
from geopipe.raster.opening import GDAL_ERRORS
from geopipe.raster.style import HEAT, write_ramp_qml
from geopipe.retrieve.batches import Batch, chip_shape, mean_colour, read_windows
from geopipe.retrieve.embedding import EmbeddingModel
from geopipe.retrieve.header import SceneEntry
from geopipe.retrieve.normalization import similarity
from geopipe.retrieve.query import Query, Retriever
from geopipe.retrieve.sources import ChipGrid, scene_entry

_BATCH_WINDOWS = 8
STEPS = 250
"""A similarity of 1 as stored by `as_bytes`; 0 and less is 0, 255 is nodata."""


@dataclass(frozen=True, slots=True)
class SimilarityJob:
    """All a worker needs for a batch of a heatmap."""

    model: EmbeddingModel
    query: tuple[float, ...]

    def __call__(self, batch: Batch) -> np.ndarray:
        """(windows,) float32: similarity of each chip; NaN where too few pixels are valid."""
        assert batch.scene is not None
        windows_read = read_windows(batch.scene, batch.windows, mean_colour(self.model))
        images = [pixels for _, pixels in windows_read]
        out = np.full(len(images), np.nan, np.float32)
        valid = [i for i, pixels in enumerate(images) if pixels is not None]
        if valid:
            vectors = self.model.embed([images[i] for i in valid])  # type: ignore[misc]
            query = np.array(self.query, np.float32)
            out[valid] = similarity(vectors, query, self.model.config.norm)
        return out


def similarity_map(
    query: np.ndarray, model: EmbeddingModel, entry: SceneEntry, workers: Workers
) -> tuple[np.ndarray, GeoBox]:
    """Similarity (rows, cols) float32 of the chips around the middles of cells, and their plane.

    Cells are `entry.cut[1]` metres a side from the scene's corner on, chips `entry.cut[0]`; a chip
    may stick out of the scene. NaN where less than `entry.cut[2]` of it is valid.
    """
    (h, w), (step_rows, step_cols) = (chip_shape(entry.scene, m) for m in entry.cut[:2])
    if min(h, w) < 16:
        raise ConfigError(f"chips of {entry.cut[0]:g} m are {h} x {w} px", "give a larger `size`")
    shape = -(-entry.shape[0] // step_rows), -(-entry.shape[1] // step_cols)
    blocks = [
        (r, c)
        for r in range(0, shape[0], _BATCH_WINDOWS)
        for c in range(0, shape[1], _BATCH_WINDOWS)
    ]
    batches = []
    for number, (r, c) in enumerate(blocks):
        cells = [(i, j) for i in _covered_range(r, shape[0]) for j in _covered_range(c, shape[1])]
        windows = tuple(
            Window(i * step_rows + (step_rows - h) // 2, j * step_cols + (step_cols - w) // 2, h, w)
            for i, j in cells
        )
        batches.append(Batch(number, scene=entry, windows=windows))
    out = np.full(shape, np.nan, np.float32)
    job = SimilarityJob(model, tuple(query.astype(float).tolist()))
    with progress("comparing", len(batches)) as advance:
        for batch, values in run_tiles(job, batches, workers):
            r, c = blocks[batch.index]
            rows, cols = _covered_range(r, shape[0]), _covered_range(c, shape[1])
            out[rows.start : rows.stop, cols.start : cols.stop] = values.reshape(
                len(rows), len(cols)
            )
            advance()
    if np.isnan(out).all():
        raise SceneError(f"no chip of {entry.path} has enough valid pixels", "lower `valid`")
    geobox = entry.scene.geobox
    return out, GeoBox(shape, geobox.affine * geobox.affine.scale(step_cols, step_rows), geobox.crs)


def _covered_range(first: int, end: int) -> range:
    return range(first, min(first + _BATCH_WINDOWS, end))


def write_similarity_map(
    out: Path,
    values: np.ndarray,
    geobox: GeoBox,
    metadata: Sequence[tuple[str, str]],
    *,
    as_bytes: bool,
) -> None:
    """Write `out`, a COG of one band "similarity": float32 with nodata NaN, or uint8 / STEPS.

    OutputError where it cannot be written; then nothing is left behind.
    """
    if as_bytes:
        scaled = np.round(np.clip(np.nan_to_num(values), 0, 1) * STEPS)
        data, nodata = np.where(np.isnan(values), 255, scaled).astype(np.uint8), 255.0
    else:
        data, nodata = values, float("nan")
    # In memory: of a file on disk GDAL may lose blocks, and return success.
    with (
        atomic_file(out, *GDAL_ERRORS) as part,
        rasterio.MemoryFile() as memory,
        rasterio.MemoryFile() as cog,
    ):
        with memory.open(
            driver="GTiff",
            height=data.shape[0],
            width=data.shape[1],
            count=1,
            dtype=data.dtype,
            nodata=nodata,
            crs=str(geobox.crs),
            transform=geobox.affine,
        ) as writer:
            writer.write(data, 1)
            writer.set_band_description(1, "similarity")
            if as_bytes:
                writer.scales = (1 / STEPS,)
            writer.update_tags(software=f"geopipe {__version__}", **dict(metadata))
        with memory.open() as writer:
            rasterio.shutil.copy(
                writer,
                cog.name,
                driver="COG",
                COMPRESS="DEFLATE",
                BLOCKSIZE=256,
                OVERVIEW_RESAMPLING="AVERAGE",
            )
        part.write_bytes(cog.getbuffer())


def heatmap(
    retriever: Retriever,
    image: str,
    scene: str,
    out: Path,
    chip_grid: ChipGrid,
    workers: Workers,
    *,
    as_bytes: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the heatmap `out` of `scene` for an image, and its style for QGIS beside it.

    Returns its extremes and where it peaks.

    `image` as in `Query`. Raises OutputError where `out` exists already.
    """
    check_new_file(out, overwrite=overwrite, sources=[Path(scene), Path(image)])
    entry = scene_entry(scene, chip_grid)
    (example,) = retriever.examples(Query(image=image))
    values, geobox = similarity_map(example.vector, retriever.model, entry, workers)
    config = retriever.model.config
    metadata = {
        "query": example.name,
        "backbone": config.backbone,
        "feature": config.feature,
        "weights_sha256": retriever.model.sha256,
        "chip_metres": f"{chip_grid.size:g}",
    }
    write_similarity_map(out, values, geobox, list(metadata.items()), as_bytes=as_bytes)
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    write_ramp_qml(out.with_suffix(".qml"), 1, lowest, highest, ramp=HEAT)
    row, col = np.unravel_index(int(np.nanargmax(values)), values.shape)
    x, y = geobox.affine * (float(col) + 0.5, float(row) + 0.5)
    return {
        "lowest": lowest,
        "highest": highest,
        "x": x,
        "y": y,
        "crs": entry.crs,
        "shape": list(values.shape),
    }
