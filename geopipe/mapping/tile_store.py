"""Tile files: where the tiles of a map are kept until the map is complete.

Each is a small GeoTIFF, written under another name and renamed, so that a file
that is there is complete; a VRT puts them together. All-255 blocks take no room on the disk.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from geopipe.classes import IGNORE
from geopipe.files import atomic_file
from geopipe.grid import Tile

_PER_FOLDER = 1000


def tile_path(folder: Path, index: int) -> Path:
    """Where tile `index` is kept below `folder`."""
    return folder / f"{index // _PER_FOLDER:04d}" / f"{index:07d}.tif"


def write_tile(path: Path, data: np.ndarray, geobox: GeoBox) -> int:
    """Write `data` (bands, h, w) uint8 on `geobox`, whole or not at all; returns its bytes."""
    with atomic_file(path, RasterioError, parents=True, shared=True) as part:
        # Not by GDAL: what it cannot write when it closes a file, it does not tell.
        return part.write_bytes(_encoded(data, geobox))


def _encoded(data: np.ndarray, geobox: GeoBox) -> bytes:
    """The bytes of a GeoTIFF."""
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff",
            count=len(data),
            height=data.shape[1],
            width=data.shape[2],
            dtype="uint8",
            nodata=IGNORE,
            crs=str(geobox.crs),
            transform=geobox.affine,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="zstd",
            zstd_level=1,
            interleave="band",
            sparse_ok=True,
        ) as out:
            out.write(data)
        return bytes(file.getbuffer())


def write_mosaic(
    path: Path, geobox: GeoBox, tiles: Iterable[Tile], folder: Path, bands: range
) -> None:
    """Write the VRT `path`: the given `bands` (0-based) of all tile files on the plane `geobox`."""
    height, width = geobox.shape
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    ET.SubElement(root, "SRS").text = str(geobox.crs)
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, geobox.affine.to_gdal()))
    tile_files = [(tile_path(folder, tile.index).relative_to(path.parent), tile) for tile in tiles]
    for number, band in enumerate(bands, 1):
        vrt_band = ET.SubElement(root, "VRTRasterBand", dataType="Byte", band=str(number))
        ET.SubElement(vrt_band, "NoDataValue").text = str(IGNORE)
        for file, tile in tile_files:
            core = tile.core
            source = ET.SubElement(vrt_band, "SimpleSource")
            ET.SubElement(source, "SourceFilename", relativeToVRT="1").text = file.as_posix()
            ET.SubElement(source, "SourceBand").text = str(band + 1)
            # With its size told, GDAL opens a tile only when its pixels are asked for.
            ET.SubElement(
                source,
                "SourceProperties",
                RasterXSize=str(core.width),
                RasterYSize=str(core.height),
                DataType="Byte",
            )
            for name, row, col in (("SrcRect", 0, 0), ("DstRect", core.row, core.col)):
                ET.SubElement(
                    source,
                    name,
                    xOff=str(col),
                    yOff=str(row),
                    xSize=str(core.width),
                    ySize=str(core.height),
                )
    ET.ElementTree(root).write(path, encoding="utf-8")
