"""Vector files with all they say, for those who write them again."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import shapely

from geopipe.errors import LabelError
from geopipe.labels.extent import Extent
from geopipe.labels.tables import open_tables
from geopipe.labels.vectorfile import OSM_CREDIT

OSM = """<osm version="0.6">
<node id="1" lon="4.1305" lat="45.6125"/><node id="2" lon="4.1306" lat="45.6125"/>
<node id="3" lon="4.1306" lat="45.6124"/><node id="4" lon="4.1305" lat="45.6124"/>
<way id="11"{a}><nd ref="1"/><nd ref="2"/><nd ref="3"/><nd ref="4"/><nd ref="1"/>
<tag k="building" v="house"/></way>
<way id="12"{b}><nd ref="1"/><nd ref="3"/><tag k="highway" v="primary"/><tag k="width" v="4"/></way>
<way id="13"><nd ref="2"/><nd ref="4"/><tag k="highway" v="footway"/></way>
</osm>"""
STAMP = ' timestamp="20{}-03-04T05:06:07Z" version="2"'


@pytest.fixture
def here(scheme, plane):
    """``here(path)``: its tables around the scene."""
    return lambda path, **more: open_tables(path, scheme, Extent(plane), **more)


@pytest.fixture
def osm(tmp_path, plane):
    """``osm(a, b)``: two ways moved onto the scene, with attributes."""

    def make(a="", b=""):
        lon, lat = Extent(plane).bounds_in(Extent(plane).local.geodetic_crs)[::3]
        text = OSM.format(a=a, b=b)
        for old, new in (("4.130", f"{lon + 0.0015:.3f}"), ("45.612", f"{lat - 0.0015:.3f}")):
            text = text.replace(old, new)
        (tmp_path / "a.osm").write_text(text)
        return tmp_path / "a.osm"

    return make


def test_osm_keeps_ids_tags_and_dates(here, osm):
    areas, lines = here(osm(STAMP.format(19), STAMP.format(21)))
    assert (areas.name, areas.class_ids, areas.credit) == ("areas", (1,), OSM_CREDIT)
    assert (lines.name, lines.class_ids) == ("lines", (2,))
    assert areas.frame["source_id"].tolist() == ["way/11"]
    assert lines.frame[["highway", "width", "osm_id"]].iloc[0].tolist() == [
        "primary",
        "4",
        "way/12",
    ]
    assert (areas.dates, lines.dates) == (["2019-03-04"], ["2021-03-04"])


def test_osm_without_dates_says_none(here, osm):
    for table in here(osm()):
        assert table.dates is None
    areas, lines = here(osm(STAMP.format(19)))
    assert areas.dates == ["2019-03-04"]
    assert lines.dates is None


def test_dates_in_columns(here, mapped, tmp_path):
    when = [
        "2015-01-02T03:04:05Z",
        "2016-01-02",
        None,
        "soon",
        "2017-05-06T00:00:00+02:00",
        "",
        "2018-01-01",
    ]
    frame = mapped.assign(**{"@timestamp": when})
    frame.to_file(tmp_path / "m.geojson", driver="GeoJSON")
    (table,) = here(tmp_path / "m.geojson")
    assert table.dates[:2] == ["2015-01-02", "2016-01-02"]
    assert table.dates[2:4] == [None, None]
    assert table.dates[4] == "2017-05-05"


def test_every_row_and_column_is_there_wanted_or_not(here, mapped, tmp_path):
    frame = mapped.assign(note=[f"n{i}" for i in range(len(mapped))])
    frame.to_file(tmp_path / "m.gpkg")
    (table,) = here(tmp_path / "m.gpkg")
    assert table.frame["note"].tolist() == frame["note"].tolist()
    assert table.class_ids == (1, 1, None, 2, None, 2, None)
    assert not table.credit
    assert len(set(table.frame["source_id"])) == len(frame)


def test_the_id_is_the_first_that_tells(here, mapped, tmp_path):
    mapped.assign(osm_id=np.arange(7) * 17, id=[f"x{i}" for i in range(7)]).to_file(
        tmp_path / "m.gpkg"
    )
    (table,) = here(tmp_path / "m.gpkg")
    assert table.frame["source_id"].tolist() == [str(17 * i) for i in range(7)]
    assert table.credit == OSM_CREDIT


def test_an_id_that_is_missing_becomes_the_place_in_the_file(here, mapped, tmp_path):
    mapped.assign(osm_id=pd.array([5, None, 7, 8, 9, 10, 11], "Int64")).to_file(tmp_path / "m.gpkg")
    (table,) = here(tmp_path / "m.gpkg")
    assert table.frame["source_id"].tolist()[0] in ("5", "5.0")
    assert table.frame["source_id"].tolist()[1] == "2"


def test_what_is_far_is_left_out(here, mapped, tmp_path):
    far = mapped.iloc[:2].set_geometry(
        shapely.transform(mapped.geometry.iloc[:2].to_numpy(), lambda xy: xy + 5000)
    )
    pd.concat([mapped, far]).to_file(tmp_path / "m.gpkg")
    (table,) = here(tmp_path / "m.gpkg")
    assert len(table.frame) == len(mapped)


def test_errors(here, tmp_path):
    with pytest.raises(LabelError, match="there is no file"):
        here(tmp_path / "none.gpkg")
    (tmp_path / "bad.osm").write_text("<osm><way")
    with pytest.raises(LabelError, match="as OSM data"):
        here(tmp_path / "bad.osm")


@pytest.mark.parametrize("tags", [{"building": "yes", "name": 'a "b"'}, [("building", "yes")]])
def test_tags_in_one_cell_are_written_so_that_they_are_read_again(here, mapped, tmp_path, tags):
    frame = mapped[mapped.building == "house"][["geometry"]]
    table = pa.Table.from_pandas(
        frame.assign(tags=[dict(tags)]).to_wkb(),
        schema=pa.schema([("geometry", pa.binary()), ("tags", pa.map_(pa.string(), pa.string()))]),
        preserve_index=False,
    )
    geo = {"version": "1.0.0", "primary_column": "geometry"}
    geo["columns"] = {"geometry": {"encoding": "WKB", "crs": frame.crs.to_json_dict()}}
    table = table.replace_schema_metadata({"geo": json.dumps(geo)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (first,) = here(tmp_path / "a.parquet")
    assert first.class_ids == (1,)
    first.frame.to_file(tmp_path / "again.gpkg")
    (again,) = here(tmp_path / "again.gpkg")
    assert again.class_ids == (1,)
    assert json.loads(again.frame["tags"].iloc[0]) == dict(tags)


def test_features_that_cannot_be_of_their_class_are_counted(here, mapped, tmp_path):
    houses = mapped[mapped.building.notna()]
    repaired, point = (
        houses.set_geometry([shapely.GeometryCollection(f(g)) for g in houses.geometry])
        for f in (lambda g: [g, g.exterior], lambda g: [g.centroid])
    )
    repaired.to_file(tmp_path / "a.gpkg")
    (table,) = here(tmp_path / "a.gpkg")
    assert table.class_ids.count(1) == 2
    assert not table.skipped
    point.to_file(tmp_path / "b.gpkg")
    (table,) = here(tmp_path / "b.gpkg")
    assert set(table.class_ids) == {None}
    assert table.skipped == {"collection where a polygon is wanted": 2}


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_layer_without_a_place_is_not_passed_over(here, mapped, tmp_path):
    mapped.to_file(tmp_path / "a.gpkg", layer="a")
    mapped.set_crs(None, allow_override=True).to_file(tmp_path / "a.gpkg", layer="b")
    with pytest.raises(LabelError, match="layer 'b', has no CRS"):
        here(tmp_path / "a.gpkg")
