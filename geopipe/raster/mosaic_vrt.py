"""The VRTs of a mosaic: one per file, which says where the file is valid, and one over them all."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from odc.geo.geobox import GeoBox

from geopipe.grid import Window
from geopipe.raster.scene import Scene

_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True, slots=True)
class MosaicPart:
    """One file of a mosaic."""

    source: str
    """Its name as GDAL opens it."""
    scene: Scene
    window: Window
    """Its pixels, counted from the corner of the first file."""
    dtypes: tuple[str, ...]
    colours: tuple[str, ...]
    """Colour interpretation of each band."""
    nodata: tuple[float | None, ...]
    """Declared for each band."""
    all_valid: bool
    """Neither mask, alpha nor nodata value says which pixels are valid."""


def part_vrt(part: MosaicPart) -> ET.Element:
    """One file with a mask: where at least one of the bands that are read is valid.

    GDAL takes nodata band by band; in a mosaic of such bands a dark pixel of one file would get
    single bands of another.
    """
    root = _dataset(part.scene.shape)
    whole = Window.of_shape(part.scene.shape)
    for number, (dtype, colour) in enumerate(zip(part.dtypes, part.colours, strict=True), 1):
        band = _band(root, dtype, number, colour, part.nodata[number - 1])
        _add_source(band, "SimpleSource", part.source, str(number), whole, dtype)
    mask = _mask(root, "VRTDerivedRasterBand")
    ET.SubElement(mask, "PixelFunctionType").text = "sum"  # of bytes: 255 is the most
    for number in part.scene.bands:
        dtype = part.dtypes[number - 1]
        if part.all_valid and part.scene.nodata is not None:
            source = _add_source(mask, "ComplexSource", part.source, str(number), whole, dtype)
            ET.SubElement(source, "LUT").text = _unlike(part.scene.nodata)
        else:
            _add_source(mask, "SimpleSource", part.source, f"mask,{number}", whole, dtype)
    return root


def mosaic_vrt(
    plane: GeoBox,
    window: Window,
    parts: Sequence[MosaicPart],
    files: Sequence[str],
    metadata: Mapping[str, Mapping[str, str]],
) -> ET.Element:
    """All parts on `plane`, whose pixels are `window`; the first on top.

    `files`: the VRTs of the parts.
    """
    root = _dataset(window.shape)
    ET.SubElement(root, "SRS").text = str(plane.crs)
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, plane.affine.to_gdal()))
    for domain, items in metadata.items():
        table = ET.SubElement(root, "Metadata", domain=domain)
        for key, value in items.items():
            ET.SubElement(table, "MDI", key=key).text = value
    first = parts[0]
    bands: list[tuple[ET.Element, str, str]] = []
    for number, (dtype, colour) in enumerate(zip(first.dtypes, first.colours, strict=True), 1):
        # Where no file is valid the pixels are those of a hole.
        band = _band(root, dtype, number, colour, first.scene.nodata)
        bands.append((band, str(number), dtype))
    bands.append((_mask(root), "mask,1", "uint8"))
    for part, file in reversed(list(zip(parts, files, strict=True))):  # the last drawn is on top
        at = Window(part.window.row - window.row, part.window.col - window.col, *part.window.shape)
        for band, name, dtype in bands:
            source = _add_source(band, "ComplexSource", file, name, at, dtype)
            ET.SubElement(source, "UseMaskBand").text = "true"
    return root


def _unlike(value: float) -> str:
    """A lookup table: 0 for `value`, 255 for all whole numbers around it."""
    return f"{value - 1:.17g}:255,{value:.17g}:0,{value + 1:.17g}:255"


def _dataset(shape: tuple[int, int]) -> ET.Element:
    return ET.Element("VRTDataset", rasterXSize=str(shape[1]), rasterYSize=str(shape[0]))


def _band(
    root: ET.Element, dtype: str, number: int, colour: str, nodata: float | None
) -> ET.Element:
    band = ET.SubElement(root, "VRTRasterBand", dataType=_TYPES[dtype], band=str(number))
    if nodata is not None:
        ET.SubElement(band, "NoDataValue").text = repr(nodata)
    ET.SubElement(band, "ColorInterp").text = colour.capitalize()
    return band


def _mask(root: ET.Element, kind: str = "VRTSourcedRasterBand") -> ET.Element:
    mask = ET.SubElement(root, "MaskBand")
    return ET.SubElement(mask, "VRTRasterBand", dataType="Byte", subClass=kind)


def _add_source(
    band: ET.Element, kind: str, file: str, number: str, at: Window, dtype: str
) -> ET.Element:
    """All of a file's band at the pixels `at`."""
    source = ET.SubElement(band, kind)
    ET.SubElement(source, "SourceFilename", relativeToVRT="0").text = file
    ET.SubElement(source, "SourceBand").text = number
    width, height = str(at.width), str(at.height)
    # With its size told, GDAL opens a file only when its pixels are asked for.
    ET.SubElement(
        source,
        "SourceProperties",
        RasterXSize=width,
        RasterYSize=height,
        DataType=_TYPES[dtype],
    )
    ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    ET.SubElement(source, "DstRect", xOff=str(at.col), yOff=str(at.row), xSize=width, ySize=height)
    return source
