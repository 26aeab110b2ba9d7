"""Cells that are not plain text (lists, Booleans, numbers), and tables with any index."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geopipe.classes import ClassScheme, load_scheme
from geopipe.errors import LabelError
from geopipe.labels import open_labels
from geopipe.labels.extent import Extent
from geopipe.labels.tables import open_tables
from geopipe.labels.tags import clean, matching

LEFT, TOP = 789_000.0, 6_501_000.0


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (["residential", "service"], "residential;service"),
        (("residential", None, "residential"), "residential"),
        (np.array(["residential", "service"]), "residential;service"),
        (np.array([["a"], ["b"]]), "a;b"),
        ([], None),
        ([None, float("nan"), ""], None),
        ("['residential', 'service']", "residential;service"),
        ("['residential' 'service']", "residential;service"),
        ('["residential", "service"]', "residential;service"),
        ("('residential', 'service')", "residential;service"),
        ('[ "it\'s", "b, c" ]', "it's;b, c"),
        ("['residential', None]", "residential"),
        ("[residential, service]", "residential;service"),
        ("{residential,service}", "residential;service"),
        ("(2:residential,service)", "residential;service"),
        ('"residential"', "residential"),
        ("[]", None),
        ("(disused)", "(disused)"),
        ("[", "["),
        ('say "hi"', 'say "hi"'),
        ('{"a": 1}', '{"a": 1}'),
        ("[" * 9000, "[" * 9000),
        ([True, False], "yes;no"),
        (np.float32(0), "0"),
        (np.float64(2.5), "2.5"),
        (np.float32("nan"), None),
        (np.int8(0), "0"),
        (pd.NA, None),
        (pd.NaT, None),
        (b"yes", "yes"),
    ],
)
def test_cells_of_other_types(cell, text):
    assert clean(cell) == text


def building(cell):
    text = clean(cell)
    found = matching(load_scheme("buildings"), {} if text is None else {"building": text})
    return [i for i, _ in found] == [1]


@pytest.mark.parametrize(
    "cell",
    [
        0,
        0.0,
        False,
        np.bool_(False),
        "False",
        "false",
        "F",
        "0",
        "0.0",
        "no",
        "No",
        "N",
        "None",
        "nan",
        "NULL",
        "",
        None,
        float("nan"),
        [False],
        "[0]",
        pd.NA,
    ],
)
def test_what_says_no_is_no_building(cell):
    assert not building(cell)


@pytest.mark.parametrize(
    "cell",
    [1, 1.0, True, np.bool_(True), "True", "T", "1", "1.0", "yes", 2, "house", ["house", None]],
)
def test_what_says_something_is_a_building(cell):
    assert building(cell)


def test_an_excluded_value_among_several_takes_a_feature_out():
    assert not building(["no", "yes"])
    assert not building("ruins;yes")


def test_yes_and_no_of_a_rule_have_the_same_spellings():
    rule = {"geometry": "line", "tags": {"highway": ["*"], "layer": ["0"]}}
    scheme = ClassScheme.from_dict(
        {
            "name": "x",
            "classes": [
                {"name": "other", "color": "#000000"},
                {
                    "name": "road",
                    "color": "#ffffff",
                    "rules": [rule | {"exclude": {"tunnel": ["yes"]}}],
                },
            ],
        }
    )

    def made(**tags):
        return len(list(matching(scheme, {"highway": "primary", "layer": "0"} | tags)))

    assert made() == made(tunnel="no") == made(tunnel="0") == made(tunnel="False") == 1
    assert made(tunnel="yes") == made(tunnel="1") == made(tunnel="true") == 0
    assert made(layer="1") == 0


ROADS = [shapely.LineString([(LEFT, TOP - y), (LEFT + 200, TOP - y)]) for y in (20, 50, 80, 110)]
KINDS = [["residential"], ["service", "residential"], ["tertiary", "unclassified"], ["footway"]]


def roads(cells):
    return gpd.GeoDataFrame({"highway": cells}, geometry=ROADS, crs=2154)


@pytest.fixture
def burned(scheme, plane):
    def burn(path):
        labels = open_labels(path, scheme, plane)
        return labels.read(plane), dict(labels.skipped)

    return burn


@pytest.fixture
def joined(tmp_path, burned):
    roads([";".join(k) for k in KINDS]).to_file(tmp_path / "same.gpkg")
    return burned(tmp_path / "same.gpkg")


def test_lists_are_semicolon_lists_in_every_format(tmp_path, burned, joined):
    single = [k[0] if len(k) == 1 else k for k in KINDS]
    roads([str(k) for k in single]).to_file(tmp_path / "text.gpkg")
    roads([json.dumps(k) for k in single]).to_file(tmp_path / "json.gpkg")
    roads(KINDS).to_parquet(tmp_path / "lists.parquet")
    features = [
        {
            "type": "Feature",
            "properties": {"highway": kind},
            "geometry": shapely.geometry.mapping(shape),
        }
        for kind, shape in zip(single, roads(KINDS).to_crs(4326).geometry, strict=True)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (tmp_path / "mixed.geojson").write_text(text)
    assert (joined[0] == 2).sum() == 3 * 14 * 400  # three roads of 7 m
    assert joined[1] == {"highway of a kind that no rule names (footway)": 1}
    for name in ("text.gpkg", "json.gpkg", "lists.parquet", "mixed.geojson"):
        ids, skipped = burned(tmp_path / name)
        np.testing.assert_array_equal(ids, joined[0], err_msg=name)
        assert skipped == joined[1], name


def test_lists_can_be_written_again(tmp_path, scheme, plane):
    roads(KINDS).to_parquet(tmp_path / "lists.parquet")
    (table,) = open_tables(tmp_path / "lists.parquet", scheme, Extent(plane))
    assert table.frame["highway"].tolist() == [";".join(k) for k in KINDS]
    assert table.class_ids == (2, 2, 2, None)
    table.frame.to_file(tmp_path / "again.gpkg")


INDEXES = {
    "range": None,
    "named": pd.Index([5, 6, 7, 8], name="id"),
    "text": pd.Index(["way/5", "way/6", "way/7", "way/8"], name="id"),
    "two": pd.MultiIndex.from_arrays([["way"] * 4, [5, 6, 7, 8]], names=["element", "id"]),
    "unnamed": pd.Index([5, 6, 7, 8]),
    "also a column": pd.Index([5, 6, 7, 8], name="highway_"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_any_index_of_a_parquet_table(tmp_path, burned, joined, scheme, plane, name):
    frame = roads(KINDS)
    if INDEXES[name] is not None:
        frame.index = INDEXES[name]
    frame.to_parquet(tmp_path / "t.parquet")
    ids, _ = burned(tmp_path / "t.parquet")
    np.testing.assert_array_equal(ids, joined[0])
    (table,) = open_tables(tmp_path / "t.parquet", scheme, Extent(plane))
    expected = {"two": "5", "named": "5", "text": "way/5"}.get(name, "0")
    assert table.frame["source_id"].iloc[0] == expected


def test_the_index_itself_may_be_the_tag(tmp_path, burned, joined):
    roads([";".join(k) for k in KINDS]).set_index("highway").to_parquet(tmp_path / "i.parquet")
    np.testing.assert_array_equal(burned(tmp_path / "i.parquet")[0], joined[0])


def rewritten(path, change):
    """The file again, with other metadata of its geometries."""
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"geo"])
    change(about)
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(about).encode()}), path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("primary_column"),
        lambda about: about.update(primary_column="shape"),
        lambda about: about.update(primary_column=None),
        lambda about: about.pop("version"),
        lambda about: about["columns"]["geometry"].pop("encoding"),
        lambda about: about["columns"].update(gone={"encoding": "WKB"}),
    ],
)
def test_gaps_in_the_metadata_of_a_parquet_table(tmp_path, burned, joined, change):
    roads(KINDS).to_parquet(tmp_path / "t.parquet")
    ids, _ = burned(rewritten(tmp_path / "t.parquet", change))
    np.testing.assert_array_equal(ids, joined[0])


def test_several_geometry_columns(tmp_path, burned, joined):
    frame = roads(KINDS).rename_geometry("way")
    frame["middle"] = frame.geometry.centroid
    frame.to_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(burned(tmp_path / "t.parquet")[0], joined[0])
    frame.to_parquet(tmp_path / "a.parquet", geometry_encoding="geoarrow")
    np.testing.assert_array_equal(burned(tmp_path / "a.parquet")[0], joined[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda about: about.update(columns={}), "describes no geometry column"),
        (lambda about: about.update(columns={"geometry": {"crs": "EPSG:0"}}), "PROJ does not know"),
    ],
)
def test_metadata_that_tell_nothing(tmp_path, burned, change, reason):
    roads(KINDS).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(LabelError, match=reason):
        burned(rewritten(tmp_path / "t.parquet", change))


def test_geometries_that_are_no_wkb(tmp_path, burned):
    table = pa.table({"highway": ["primary"], "geometry": [b"nothing"]})
    about = {"primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    metadata = {b"geo": json.dumps(about).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "t.parquet")
    with pytest.raises(LabelError, match=r"cannot read .*t\.parquet"):
        burned(tmp_path / "t.parquet")
