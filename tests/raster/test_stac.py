import json

import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from geopipe.classes import ClassScheme, load_scheme
from geopipe.errors import OutputError, SceneError
from geopipe.raster.stac import write_item

SCHEME = load_scheme("buildings-roads")
PLANE = GeoBox((700, 900), Affine(0.5, 0, 550_000, 0, -0.5, 9_000_000), "EPSG:32736")
WHEN = "2024-05-31T12:00:00Z"


def item_of(folder, geobox=PLANE, **changes):
    folder.mkdir(exist_ok=True)
    said = {
        "item_id": "zanzibar",
        "geobox": geobox,
        "scheme": SCHEME,
        "assets": {
            "classes": folder / "classes.tif",
            "scores": folder / "scores.tif",
            "features": folder / "features.gpkg",
            "style": folder / "classes.qml",
            "report": folder / "report.html",
            "scene": folder.parent / "scene.tif",
        },
        "properties": {"processing:lineage": "mapped", "geopipe:model": "0f3a"},
        "created": WHEN,
    }
    return write_item(folder, **{**said, **changes})


def valid_in_itself(tables):
    """Against the core schemas that travel with pystac; the extensions' are on the network."""
    jsonschema = pytest.importorskip("jsonschema")
    cache = get_local_schema_cache()
    registry = Registry().with_resources(
        [(uri, Resource.from_contents(schema)) for uri, schema in cache.items()]
    )
    (schema,) = (s for uri, s in cache.items() if uri.endswith("/item.json"))
    jsonschema.Draft7Validator(schema, registry=registry).validate(tables)


def test_the_item_is_stac_and_says_what_the_files_are(tmp_path):
    path = item_of(tmp_path / "out")
    tables = json.loads(path.read_text())
    valid_in_itself(tables)
    with pytest.raises(Exception, match="geometry"):  # the check can fail
        valid_in_itself({k: v for k, v in tables.items() if k != "geometry"})
    item = pystac.Item.from_dict(tables)
    assert item.datetime.isoformat() == "2024-05-31T12:00:00+00:00"
    assert tables["properties"]["created"] == WHEN
    assert tables["properties"]["geopipe:model"] == "0f3a"
    assert "geopipe" in tables["properties"]["processing:software"]
    assert sum("/processing/" in uri for uri in item.stac_extensions) == 1
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:32736", [700, 900])
    assert projection.transform == [0.5, 0, 550_000, 0, -0.5, 9_000_000, 0, 0, 1]
    classes = ClassificationExtension.ext(item.assets["classes"]).classes
    assert [(c.value, c.name, c.color_hint) for c in classes] == [
        (0, "background", "F1EFE2"),
        (1, "building", "C8371E"),
        (2, "road", "3C4A5C"),
    ]
    (band,) = RasterExtension.ext(item.assets["classes"]).bands
    assert (band.nodata, band.data_type) == (255, "uint8")
    assert band.spatial_resolution == pytest.approx(0.5, rel=1e-3)
    assert [b.scale for b in RasterExtension.ext(item.assets["scores"]).bands] == [1 / 250] * 3
    hrefs = {key: asset.href for key, asset in item.assets.items()}
    assert hrefs["classes"] == "./classes.tif"
    assert hrefs["scene"] == "../scene.tif"
    assert [p.name for p in path.parent.iterdir()] == ["item.json"]


def test_the_footprint_is_the_plane_in_degrees(tmp_path):
    tables = json.loads(item_of(tmp_path / "out").read_text())
    outline = shapely.geometry.shape(tables["geometry"])
    expected = PLANE.extent.to_crs("EPSG:4326").geom
    assert shapely.hausdorff_distance(outline, expected) < 2e-7  # 2 cm
    assert outline.exterior.is_ccw
    assert tables["bbox"] == pytest.approx(outline.bounds)


def test_a_long_edge_follows_its_curve(tmp_path):
    plane = GeoBox((60_000, 60_000), Affine(10, 0, 300_000, 0, -10, 7_500_000), "EPSG:32633")
    tables = json.loads(item_of(tmp_path / "o", plane).read_text())
    outline = shapely.geometry.shape(tables["geometry"])
    fine = plane.extent.to_crs("EPSG:4326", resolution=1_000).geom
    assert outline.symmetric_difference(fine).area < 1e-3 * fine.area


def test_across_the_180th_meridian(tmp_path):
    plane = GeoBox((1000, 1000), Affine(30, 0, 800_000, 0, -30, 8_100_000), "EPSG:32760")
    tables = json.loads(item_of(tmp_path / "o", plane).read_text())
    valid_in_itself(tables)
    west, _, east, _ = tables["bbox"]
    assert 179 < west < 180
    assert -180 < east < -179
    outline = shapely.geometry.shape(tables["geometry"])
    assert outline.geom_type == "MultiPolygon"
    assert outline.area < 0.2


def test_a_crs_without_a_number_is_written_out(tmp_path):
    laea = "+proj=laea +lat_0=27.6 +lon_0=85.5 +units=m"
    plane = GeoBox((10, 10), Affine(1, 0, 0, 0, -1, 0), laea)
    properties = json.loads(item_of(tmp_path / "o", plane).read_text())["properties"]
    assert properties["proj:code"] is None
    assert "Lambert Azimuthal Equal Area" in properties["proj:wkt2"]


def test_class_names_become_plain_and_stay_apart(tmp_path):
    names = ["é", "e", "e_", "道路", "a & b"]
    scheme = ClassScheme.from_dict(
        {"name": "s", "classes": [{"name": n, "color": "#abcdef"} for n in names]}
    )
    tables = json.loads(item_of(tmp_path / "o", scheme=scheme).read_text())
    found = tables["assets"]["classes"]["classification:classes"]
    assert [c["title"] for c in found] == names
    assert len({c["name"] for c in found}) == 5
    assert all(c["name"].isascii() and " " not in c["name"] for c in found)


def test_impossible_inputs_are_refused(tmp_path):
    with pytest.raises(SceneError, match="CRS"):
        item_of(tmp_path / "o", GeoBox((9, 9), Affine(1, 0, 0, 0, -1, 0), None))
    with pytest.raises(SceneError, match="not a time"):
        item_of(tmp_path / "o", created="yesterday")
    with pytest.raises(OutputError, match="cannot write"):
        write_item(
            tmp_path / "nowhere",
            item_id="x",
            geobox=PLANE,
            scheme=SCHEME,
            assets={},
            properties={},
            created=WHEN,
        )
    assert not list((tmp_path / "o").iterdir())
