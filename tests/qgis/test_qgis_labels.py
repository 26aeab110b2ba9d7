"""Checked and aligned labels in QGIS itself: verdicts in their colours, all attributes."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from qgis_process import NEEDS_QGIS, said

from geopipe.classes import load_scheme
from geopipe.grid import Window
from geopipe.labels import VectorLabels
from geopipe.labels.extent import Extent
from geopipe.labels.tables import open_tables
from geopipe.raster import Scene
from geopipe.register import DisplacementField, RegistrationGrid
from geopipe.register.align import write_aligned
from geopipe.register.qc_file import write_qc_file
from geopipe.register.qc_tiles import QCTile
from geopipe.register.tie_point import TiePoint

SCRIPT = Path(__file__).with_name("open_labels.py")
pytestmark = NEEDS_QGIS


@pytest.fixture(scope="module")
def plane(tmp_path_factory, make_raster_at):
    folder = tmp_path_factory.mktemp("labels")
    transform = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
    path = make_raster_at(
        folder / "s.tif", np.full((3, 300, 400), 90, np.uint8), transform=transform
    )
    labels = VectorLabels(
        load_scheme("buildings-roads"),
        GeoBox((300, 400), transform, "EPSG:2154"),
        np.array([shapely.box(789_000, 6_500_990, 789_010, 6_501_000)], object),
        np.ones(1, np.uint8),
        credit="(c) OpenStreetMap contributors, ODbL 1.0",
    )
    return RegistrationGrid.of(Scene.open(path), labels)


def opened(path, *layers):
    return said(SCRIPT, path.parent, path, *layers)


@pytest.mark.parametrize("known", [True, False], ids=["shifts", "no shift"])
def test_blocks_are_coloured_by_verdict(plane, tmp_path, known):
    """Two blocks side by side; also when the evidence was too weak everywhere."""
    good = QCTile(
        1,
        Window(0, 0, 300, 200),
        9,
        500.0,
        error=0.2,
        score=2.4,
        omission=0.1,
        omission_m2=50.0,
        dates=("2019-01-01",),
    )
    off = replace(good, window=Window(0, 200, 300, 200), right=4.0)
    if not known:
        good, off = (
            replace(b, rejected="too few features", omission=np.nan, omission_m2=np.nan)
            for b in (good, off)
        )
    write_qc_file(plane, (good, off), tmp_path / "check.gpkg")
    seen = opened(tmp_path / "check.gpkg", "building", "road", "shifts")
    blocks = seen["building"]
    assert all(s["valid"] and s["crs"] == "EPSG:2154" for s in seen.values())
    assert (blocks["count"], seen["shifts"]["count"]) == (2, 2 * known)
    assert seen["road"]["count"] == 0
    assert (blocks["renderer"], blocks["attribute"]) == ("categorizedSymbol", "status")
    assert seen["shifts"]["attribute"] == "class"
    assert {"status", "dx_m", "dy_m", "omission_share", "median_date"} <= set(blocks["fields"])
    picture = np.asarray(Image.open(tmp_path / "building.png").convert("RGB"))
    expected = ["good", "shifted"] if known else ["no evidence"] * 2
    for x, verdict in zip((110, 290), expected, strict=True):
        colour = blocks["legend"][verdict].lstrip("#")
        half = (np.array(list(bytes.fromhex(colour))) + 255) / 2  # the image shines through
        assert picture[150, x] == pytest.approx(half, abs=2)


def test_aligned_labels_open_with_all_they_say(plane, tmp_path):
    houses = [shapely.box(x, 6_500_950, x + 10, 6_500_970) for x in (789_050, 789_060)]
    frame = gpd.GeoDataFrame(
        {"building": "yes", "osm_id": ["way/1", "way/2"]}, geometry=houses, crs="EPSG:2154"
    )
    frame.to_file(tmp_path / "osm.gpkg", layer="houses")
    tables = open_tables(tmp_path / "osm.gpkg", plane.labels.scheme, Extent(plane.scene.geobox))
    nodes = [
        TiePoint(float(r), float(c), 1, 2.0, 3.0, 0.2, 2.5, 9.0)
        for r in range(0, 301, 50)
        for c in range(0, 401, 50)
    ]
    write_aligned(tables, DisplacementField(plane, tuple(nodes), 8.0), tmp_path / "out.gpkg")
    seen = opened(tmp_path / "out.gpkg", "houses")["houses"]
    assert seen["valid"]
    assert (seen["crs"], seen["count"]) == ("EPSG:2154", 2)
    assert seen["fields"] == ["fid", "building", "osm_id", "source_id", "shift_east", "shift_north"]
