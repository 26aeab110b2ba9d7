"""Finished maps as Cloud Optimized GeoTIFFs, with the class names that rasterio cannot write.

A VRT that describes the source plus names, colours and tags is copied by GDAL's COG driver, which
puts the names in a PAM file (``NAME.aux.xml``) next to the map. Keep the two files together.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window as RioWindow

from geopipe.classes import IGNORE, ClassScheme
from geopipe.colors import default_colors
from geopipe.errors import SceneError
from geopipe.files import atomic_file
from geopipe.grid import Window
from geopipe.oserrors import write_error
from geopipe.raster.opening import collect_gdal_errors
from geopipe.raster.scene import opened

SCORE_STEPS = 250
"""A score of 1.0 as stored in scores.tif: score = value / 250, 255 = no value."""
CONFIDENCE = "confidence"
"""Name of the band that holds the best class's score."""

_BLOCK = 512
_DAMAGED = "the file is truncated or damaged"
_READ = 2048
"""Side of the windows in which a finished file is compared with its source (4 MiB a band)."""


def write_class_cog(
    source: Path, target: Path, scheme: ClassScheme, tags: Mapping[str, str]
) -> None:
    """Turn `source`, one uint8 band of class ids (255 = nodata), into the class map `target`.

    `target` gets the scheme's colour table, its names in ``target.aux.xml``, MODE overviews (an
    average would invent classes), the band description "class" and `tags`. Equal pixels, scheme
    and tags give equal bytes. Raises SceneError when the source is not such a band, holds ids that
    the scheme does not name, or the file cannot be written; then nothing is left behind.
    """

    def describe(vrt: ET.Element) -> None:
        (band,) = vrt.findall("VRTRasterBand")
        _set(band, "Description", "class")
        _set(band, "ColorInterp", "Palette")
        names, table = _renew(band, "CategoryNames"), _renew(band, "ColorTable")
        for c in scheme.classes:
            ET.SubElement(names, "Category").text = c.name
            rgba = zip(("c1", "c2", "c3", "c4"), (*c.rgb, 255), strict=True)
            ET.SubElement(table, "Entry", {k: str(v) for k, v in rgba})

    def verify(part: Path) -> None:
        stored = read_scheme(part)
        if stored is None or [(c.name, c.rgb) for c in stored.classes] != [
            (c.name, c.rgb) for c in scheme.classes
        ]:
            raise SceneError(f"{target} lost its class names or colours while it was written")

    _require(source, bands=1)
    _translate(source, target, tags, describe, verify, top=len(scheme) - 1, overviews="MODE")


def write_score_cog(
    source: Path, target: Path, scheme: ClassScheme, tags: Mapping[str, str]
) -> None:
    """Turn `source`, a uint8 band of 0..250 (255 = nodata) per class, into the score map `target`.

    Each band is named after its class and states scale 1/250, so readers that honour it see scores
    of 0..1. Raises SceneError as `write_class_cog` does.
    """

    def describe(vrt: ET.Element) -> None:
        bands = zip(vrt.findall("VRTRasterBand"), scheme.names, strict=True)
        for number, (band, name) in enumerate(bands):
            _set(band, "Description", name)
            # Three bands must not pass for red, green and blue.
            _set(band, "ColorInterp", "Undefined" if number else "Gray")
            _set(band, "Offset", "0")
            _set(band, "Scale", repr(1 / SCORE_STEPS))

    def verify(part: Path) -> None:
        with opened(part) as src:
            if src.descriptions != scheme.names:
                raise SceneError(f"{target} lost its class names while it was written")

    _require(source, bands=len(scheme))
    _translate(source, target, tags, describe, verify, top=SCORE_STEPS, overviews="AVERAGE")


def write_confidence_cog(source: Path, target: Path, tags: Mapping[str, str]) -> None:
    """Turn `source`, one uint8 band of 0..250 (255 = nodata), into the confidence map `target`.

    Its one band states scale 1/250. Raises SceneError as `write_class_cog` does.
    """

    def describe(vrt: ET.Element) -> None:
        (band,) = vrt.findall("VRTRasterBand")
        for name, text in (("Description", CONFIDENCE), ("ColorInterp", "Gray"), ("Offset", "0")):
            _set(band, name, text)
        _set(band, "Scale", repr(1 / SCORE_STEPS))

    def verify(part: Path) -> None:
        with opened(part) as src:
            if src.descriptions != (CONFIDENCE,):
                raise SceneError(f"{target} lost its band's name while it was written")

    _require(source, bands=1)
    _translate(source, target, tags, describe, verify, top=SCORE_STEPS, overviews="AVERAGE")


def read_scheme(path: Path) -> ClassScheme | None:
    """Names and colours of a class map's first band; None when the file names fewer than two.

    A class without an entry in the colour table gets a colour that fits its name.
    """
    band = _describe(path).find("VRTRasterBand")
    names = (
        [c.text or "" for c in band.iterfind("CategoryNames/Category")] if band is not None else []
    )
    while names and not names[-1].strip():
        names.pop()  # other software fills up to 256 blank names
    if len(names) < 2:
        return None
    with opened(path) as src:
        try:
            table = src.colormap(1)
        except ValueError:
            table = {}
    names = [name if name.strip() else f"class {i}" for i, name in enumerate(names[:IGNORE])]
    colors = default_colors(names)
    for i in table.keys() & range(len(names)):
        colors[i] = "#" + bytes(table[i][:3]).hex()
    classes = [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)]
    return ClassScheme.from_dict({"name": path.stem, "classes": classes}, str(path))


def _require(source: Path, bands: int) -> None:
    with opened(source) as src:
        if src.count != bands or set(src.dtypes) != {"uint8"} or src.nodata != IGNORE:
            raise SceneError(
                f"{source} has {src.count} bands of {src.dtypes[0]} with nodata {src.nodata}",
                f"a map is made from {bands} uint8 band{'s' * (bands > 1)} with nodata {IGNORE}",
            )


def _translate(
    source: Path,
    target: Path,
    tags: Mapping[str, str],
    describe: Callable[[ET.Element], None],
    verify: Callable[[Path], None],
    *,
    top: int,
    overviews: str,
) -> None:
    """Copy `source` to the COG `target` by way of a VRT that `describe` completes."""
    vrt = _describe(source)
    metadata = _renew(vrt, "Metadata")
    for key, value in sorted({"AREA_OR_POINT": "Area", **tags}.items()):
        ET.SubElement(metadata, "MDI", {"key": key}).text = value
    describe(vrt)
    options = {
        "COMPRESS": "DEFLATE",
        "BLOCKSIZE": _BLOCK,
        "OVERVIEW_RESAMPLING": overviews,
        "BIGTIFF": "IF_SAFER",
        # What goes wrong in GDAL's own threads is told to nobody, and blocks are lost.
        "NUM_THREADS": 1,
    }
    text = ET.tostring(vrt, encoding="utf-8")
    with atomic_file(target) as part, rasterio.MemoryFile(text, ext=".vrt") as described:
        try:
            # The user may have switched PAM files off; without one there are no names.
            with rasterio.Env(GDAL_PAM_ENABLED=True), collect_gdal_errors() as messages:
                rasterio.shutil.copy(described.name, str(part), driver="COG", **options)
        except Exception as e:  # GDAL's own errors have no public base class
            if source.name in str(e):
                raise SceneError(f"cannot read {source}: {e}", _DAMAGED) from e
            raise write_error(target, e) from e
        if messages.errors:  # yet GDAL calls it a success
            raise write_error(target, OSError(messages.errors[0]))
        try:
            _compare(source, part, target, top)
            verify(part)
        except SceneError as e:
            if e.message.startswith(str(part)):  # it cannot even be opened
                raise write_error(target, OSError(e.message)) from e
            raise


def _compare(source: Path, part: Path, target: Path, top: int) -> None:
    """Raise SceneError unless `part` is a COG with the pixels of `source`, all <= `top` or 255."""
    with opened(source) as a, opened(part) as b:
        if b.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG" or b.nodata != IGNORE:
            raise SceneError(f"{target} did not become a Cloud Optimized GeoTIFF")
        if a.shape != b.shape or a.crs != b.crs or not a.transform.almost_equals(b.transform):
            raise SceneError(f"{target} lost its place while it was written")
        for row in range(0, a.height, _READ):
            for col in range(0, a.width, _READ):
                w = Window(row, col, _READ, _READ).clip(a.shape)
                rio = RioWindow(w.col, w.row, w.width, w.height)
                pixels = a.read(window=rio)
                if not np.array_equal(pixels, b.read(window=rio)):
                    raise SceneError(f"{target} differs from {source} near row {row}, column {col}")
                invalid = pixels[(pixels > top) & (pixels != IGNORE)]
                if invalid.size:
                    raise SceneError(
                        f"{source} holds the value {invalid[0]} near row {row}, column {col}",
                        f"values are 0 to {top}, or {IGNORE} for nodata",
                    )


def _describe(path: Path) -> ET.Element:
    """GDAL's own description of the raster at `path`: the root of a VRT."""
    with opened(path) as src:
        if src.driver == "VRT":
            root = ET.parse(path).getroot()
            for name in root.iter("SourceFilename"):
                if name.attrib.get("relativeToVRT") == "1":
                    name.text = str(path.absolute().parent / str(name.text))
                    name.attrib["relativeToVRT"] = "0"
            return root
        with rasterio.MemoryFile(ext=".vrt") as vrt:
            rasterio.shutil.copy(src, vrt.name, driver="VRT")
            root = ET.fromstring(vrt.read())
    for name in root.iter("SourceFilename"):
        name.text, name.attrib["relativeToVRT"] = str(path.absolute()), "0"
    return root


def _set(band: ET.Element, name: str, text: str) -> None:
    _renew(band, name).text = text


def _renew(parent: ET.Element, name: str) -> ET.Element:
    """An empty child `name`, first in `parent` (GDAL wants it before the sources)."""
    for old in parent.findall(name):
        if not old.attrib.get("domain"):
            parent.remove(old)
    new = ET.Element(name)
    parent.insert(0, new)
    return new
