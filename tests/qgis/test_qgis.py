"""The bundle in QGIS itself: a double-click shows the classes, named and in their colours."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from qgis_process import NEEDS_QGIS, said

from geopipe.classes import ClassScheme
from geopipe.raster.cog import write_class_cog
from geopipe.raster.style import write_qml
from geopipe.vectors.features import write_features
from geopipe.vectors.footprints import FootprintOptions

SCHEME = ClassScheme.from_dict(
    {
        "name": "town & land",
        "classes": [
            {"name": "background", "color": "#f1efe2"},
            {"name": "building <all> & bâtiment", "color": "#c8371e"},
            {"name": "road", "color": "#3c4a5c"},
        ],
    }
)
SCRIPT = Path(__file__).with_name("open_bundle.py")
pytestmark = NEEDS_QGIS


def town() -> np.ndarray:
    """Rectangles of each class and of nothing, 300 x 400 px."""
    ids = np.zeros((300, 400), np.uint8)
    ids[40:120, 60:160] = 1
    ids[180:220] = 2
    ids[250:, 300:] = 255
    return ids


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    raw = folder / "raw.tif"
    with rasterio.open(
        raw,
        "w",
        driver="GTiff",
        height=300,
        width=400,
        count=1,
        dtype="uint8",
        nodata=255,
        crs="EPSG:32736",
        transform=Affine(0.5, 0, 550_000, 0, -0.5, 9_000_000),
    ) as out:
        out.write(town(), 1)
    write_class_cog(raw, folder / "classes.tif", SCHEME, {"credit": "© OpenStreetMap"})
    write_qml(folder / "classes.qml", SCHEME)
    options = FootprintOptions(SCHEME.names[1])
    write_features(folder / "classes.tif", folder, SCHEME, name="town", options=options)
    raw.unlink()
    seen = said(SCRIPT, folder, folder)
    return folder, seen


ROWS = [[c.name, c.color] for c in SCHEME.classes]
EXTENT = [550_000, 8_999_850, 550_200, 9_000_000]


def test_the_class_map_opens_with_exactly_its_classes(bundle):
    seen = bundle[1]["classes"]
    assert seen["valid"]
    assert seen["crs"] == "EPSG:32736"
    assert seen["extent"] == EXTENT
    assert seen["renderer"] == "paletted"
    assert [label for label, _ in seen["legend"][-3:]] == [label for label, _ in ROWS]
    assert seen["legend"][-2:] == ROWS[1:]  # the background is transparent and has no colour
    # QGIS puts a row with the band's name above them, and nothing else.
    assert len(seen["legend"]) in (3, 4)
    assert all("Band 1" in label for label, _ in seen["legend"][:-3])
    assert (seen["type"], seen["nodata"]) == (1, 255)
    assert "class" in seen["band"]


def test_the_class_map_is_drawn_in_its_colours(bundle):
    pixels = np.asarray(Image.open(bundle[0] / "classes.png").convert("RGB"))
    expected = np.full((256, 3), 255, np.uint8)
    expected[1:3] = [c.rgb for c in SCHEME.classes[1:]]  # the background lets the image through
    np.testing.assert_array_equal(pixels, expected[town()])


def test_the_polygons_open_with_their_style(bundle):
    folder, found = bundle
    seen = found["polygons"]
    assert seen["valid"]
    assert seen["crs"] == "EPSG:32736"
    assert seen["fields"][:5] == ["fid", "building_id", "class_id", "class", "area_m2"]
    assert seen["count"] == 1
    assert [label for label, _ in seen["legend"]] == [SCHEME.names[1]]
    pixels = np.asarray(Image.open(folder / "polygons.png").convert("RGB"))
    assert len({tuple(p) for p in pixels.reshape(-1, 3)}) > 2
