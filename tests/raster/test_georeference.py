"""Rasters without a place on Earth: the cause and a cure for the file at hand."""

from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.control import GroundControlPoint as Point
from rasterio.crs import CRS
from rasterio.rpc import RPC

from geopipe.classes import load_scheme
from geopipe.errors import GridError, LabelError, SceneError
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.grid.crs import transformer
from geopipe.labels import Area, RasterLabels, open_labels
from geopipe.raster import Scene
from geopipe.raster.georeference import unplaced

LOCAL = 'LOCAL_CS["{}",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
PLANE = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
SCHEME = load_scheme("buildings")


def write(path, *, bands=3, crs=None, transform=None, gcps=None, rpcs=None):
    pixels = np.zeros((bands, 40, 60), np.uint8)
    pixels[:, 10:20, 10:30] = 1
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=bands,
        height=40,
        width=60,
        dtype="uint8",
        crs=crs,
        transform=transform,
    ) as dst:
        dst.write(pixels)
        if gcps:
            dst.gcps = gcps
        if rpcs:
            dst.rpcs = rpcs
    return path


def points(crs):
    at = [
        Point(0, 0, 789_000, 6_501_000),
        Point(0, 60, 789_030, 6_501_000),
        Point(40, 0, 789_000, 6_500_980),
    ]
    return at, rasterio.crs.CRS.from_user_input(crs)


def rpcs(lat, lon):
    line = [0.0] * 20
    return RPC(
        height_off=0,
        height_scale=100,
        lat_off=lat,
        lat_scale=0.1,
        line_den_coeff=[1.0, *line[1:]],
        line_num_coeff=[0.0, 0.0, 1.0, *line[3:]],
        line_off=20,
        line_scale=20,
        long_off=lon,
        long_scale=0.1,
        samp_den_coeff=[1.0, *line[1:]],
        samp_num_coeff=[0.0, 1.0, *line[2:]],
        samp_off=30,
        samp_scale=30,
        err_bias=0,
        err_rand=0,
    )


def opened_as(kind, path):
    return Scene.open(path) if kind == "scene" else RasterLabels.open(path, SCHEME)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("kind", "bands"), [("scene", 3), ("labels", 1)])
def test_the_cure_is_made_for_the_file(tmp_path, kind, bands):
    path = tmp_path / "a {b}.tif"
    cases = [
        (
            {"gcps": points("EPSG:2154")},
            "3 ground control points and no geotransform",
            f"gdalwarp -t_srs EPSG:2154 {path} scene.tif",
        ),
        (
            {"gcps": points("EPSG:32631")},
            "3 ground control points",
            f"gdalwarp -t_srs EPSG:32631 {path} scene.tif",
        ),
        (
            {"rpcs": rpcs(46.0, 4.1)},
            "has RPCs and no geotransform",
            f"gdalwarp -rpc -to RPC_DEM=dem.tif -t_srs EPSG:32631 {path} scene.tif",
        ),
        ({"rpcs": rpcs(-33.0, 179.9)}, "has RPCs", "-t_srs EPSG:32760"),
        ({}, "has no CRS", f"gdal_edit.py -a_srs EPSG:2154 {path}"),
        (
            {"crs": "EPSG:2154"},
            "has no geotransform",
            f"gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM {path}",
        ),
        (
            {"crs": LOCAL.format("RGF93 / Lambert-93"), "transform": PLANE},
            "has a local CRS (RGF93 / Lambert-93) that says nothing of its place on Earth",
            f"gdal_edit.py -a_srs EPSG:2154 {path}",
        ),
        (
            {"crs": LOCAL.format("WGS 84 / UTM zone 37S"), "transform": PLANE},
            "has a local CRS",
            f"gdal_edit.py -a_srs EPSG:32737 {path}",
        ),
        (
            {"crs": LOCAL.format("my site"), "transform": PLANE},
            "has a local CRS (my site)",
            f"give it the true one, e.g. gdal_edit.py -a_srs EPSG:2154 {path}",
        ),
    ]
    for made, message, hint in cases:
        path.unlink(missing_ok=True)
        write(path, bands=bands, **made)
        with pytest.raises((SceneError, GridError, LabelError)) as e:
            opened_as(kind, path)
        assert message in e.value.message, made
        assert str(path) in e.value.message
        assert hint in e.value.hint, made


def test_points_beside_a_geotransform_do_no_harm(tmp_path):
    path = write(tmp_path / "a.tif", crs="EPSG:2154", transform=PLANE, rpcs=rpcs(46.0, 4.1))
    assert Scene.open(path).geobox.affine == PLANE


def test_local_crs_of_vectors_and_areas(tmp_path):
    scene = Scene.open(write(tmp_path / "s.tif", crs="EPSG:2154", transform=PLANE))
    house = shapely.box(789_005, 6_500_990, 789_015, 6_500_995)
    frame = gpd.GeoDataFrame(
        {"building": ["yes"]}, geometry=[house], crs=LOCAL.format("RGF93 / Lambert-93")
    )
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_file(tmp_path / "a.gpkg")
    for name in ("a.parquet", "a.gpkg"):
        with pytest.raises(LabelError, match=r"local CRS .*ogr2ogr -a_srs EPSG:2154"):
            open_labels(tmp_path / name, SCHEME, scene.geobox)
    with pytest.raises(LabelError, match=r"local CRS .*ogr2ogr -a_srs EPSG:2154"):
        Area.open(tmp_path / "a.gpkg", scene.geobox)


def test_local_crs_of_map_or_truth(tmp_path):
    placed = write(tmp_path / "a.tif", bands=1, crs="EPSG:2154", transform=PLANE)
    local = write(tmp_path / "b.tif", bands=1, crs=LOCAL.format("Lambert"), transform=PLANE)
    for pair in ((placed, local), (local, placed)):
        with pytest.raises(SceneError, match=r"b\.tif has a local CRS"):
            evaluate_map(*pair, scheme=SCHEME)


def test_what_proj_cannot_connect():
    moon = "IAU_2015:30100"
    with pytest.raises(GridError, match=r"PROJ knows no way from .* to WGS 84"):
        transformer(moon, "EPSG:4326")
    with pytest.raises(GridError, match="the local CRS RGF93 / Lambert-93 says nothing"):
        transformer(LOCAL.format("RGF93 / Lambert-93"), "EPSG:4326")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_geotransform_that_is_no_number_gives_no_place(value):
    source = SimpleNamespace(
        crs=CRS.from_epsg(2154),
        transform=Affine(0.5, 0, 7e5, 0, value, 6.6e6),
        gcps=([], None),
        rpcs=None,
    )
    message, hint = unplaced(source, "a.tif")
    assert message == "a.tif has no geotransform"
    assert "a.tif" in hint
    source.transform = Affine(0.5, 0, 7e5, 0, -0.5, 6.6e6)
    assert unplaced(source, "a.tif") is None
