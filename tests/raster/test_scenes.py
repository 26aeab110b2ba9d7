"""Lists, STAC files and folder names of the scenes of one command."""

import json
import os
import random
import socket
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopipe.errors import SceneError
from geopipe.raster import Scene
from geopipe.raster import inputs as scenes
from geopipe.raster.inputs import scene_names, scene_paths

COG = pystac.MediaType.COG


@pytest.fixture
def rasters(make_raster, tmp_path):
    """Three real scenes: a.tif, b.tif, sub/c.tif."""

    def make(*names):
        return [str(make_raster(np.full((1, 4, 4), 7, np.uint8), name)) for name in names]

    (tmp_path / "sub").mkdir()
    return make("a.tif", "b.tif", "sub/c.tif")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_rasters_and_addresses_are_kept_in_their_order(rasters):
    inputs = ["s3://bucket/z.tif", rasters[1], "/vsicurl/https://a.b/c.tif", rasters[0]]
    assert scene_paths(inputs) == inputs


@pytest.mark.parametrize("path", ["zip://x.zip!a.tif", "/vsizip/x.zip/a.tif", "GTIFF_DIR:1:x.tif"])
def test_what_gdal_opens_by_another_name_is_kept(path):
    assert scene_paths([path]) == [path]


def test_a_missing_file(tmp_path):
    with pytest.raises(SceneError, match=r"there is no file .*gone\.tif \(check the path\)"):
        scene_paths([str(tmp_path / "gone.tif")])
    with pytest.raises(SceneError, match="there is no file"):
        scene_paths([""])


def test_a_folder_of_rasters(rasters, tmp_path):
    with pytest.raises(SceneError, match=r"folder of rasters \(name them: .*/\*\.tif\)"):
        scene_paths([str(tmp_path)])


def test_nothing_at_all():
    with pytest.raises(SceneError, match="names no scene"):
        scene_paths([])


def test_a_scene_named_twice_is_taken_once(rasters, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.tif").symlink_to("a.tif")
    listed = tmp_path / "list.txt"
    listed.write_text("b.tif\nsub/../b.tif\n")
    twice = ["a.tif", rasters[0], "./a.tif", "link.tif", "s3://b/a.tif", "s3://b/a.tif"]
    assert scene_paths([*twice, "list.txt"]) == ["a.tif", "s3://b/a.tif", "b.tif"]
    assert len(caplog.records) == 5
    assert "b.tif is named twice (line 2 of list.txt); it is taken once" in caplog.text


# Text lists


LIST = """\ufeff# scenes of 2020

a.tif   # the first
  sub/c.tif\t
https://a.b/x.tif?part=1#2
{absolute}
with space #5.tif
"""


def test_a_text_list(rasters, tmp_path, make_raster, monkeypatch):
    make_raster(np.ones((1, 4, 4), np.uint8), "with space")
    path = tmp_path / "list.TXT"
    path.write_text(LIST.format(absolute=rasters[1]).replace("\n", "\r\n"), encoding="utf-8")
    monkeypatch.chdir("/")
    assert scene_paths([str(path)]) == [
        rasters[0],
        rasters[2],
        "https://a.b/x.tif?part=1#2",
        rasters[1],
        str(tmp_path / "with space"),
    ]


def test_a_list_names_its_line(tmp_path, rasters):
    path = tmp_path / "list.txt"
    path.write_text("a.tif\n\ngone.tif\n")
    with pytest.raises(SceneError, match=r"no file .*gone\.tif \(line 3 of .*list\.txt\)"):
        scene_paths([str(path)])


@pytest.mark.parametrize("inner", ["other.txt", "item.json", "https://a.b/list.txt?x=1"])
def test_a_list_within_a_list(tmp_path, inner):
    path = tmp_path / "list.txt"
    path.write_text(f"{inner}\n")
    with pytest.raises(SceneError, match=r"list within a list \(line 1 of .*\(give it on the comm"):
        scene_paths([str(path)])


@pytest.mark.parametrize("content", [b"", b"\n # only\n\n"])
def test_an_empty_list(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"list\.txt names no scene"):
        scene_paths([str(path)])


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"a\0b.tif\n"])
def test_a_list_that_is_no_text(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(SceneError, match="not a text file"):
        scene_paths([str(path)])


@pytest.mark.parametrize("name", ["list.txt", "items.json"])
def test_lists_have_a_largest_size(tmp_path, name, monkeypatch):
    monkeypatch.setattr(scenes, "_MAX_BYTES", 5 << 20)
    path = tmp_path / name
    path.write_bytes(b" " * ((6 << 20) + 1))
    with pytest.raises(SceneError, match="has more than 5 MB"):
        scene_paths([str(path)])
    with pytest.raises(SceneError, match="there is no file"):
        scene_paths([str(tmp_path / f"gone{name}")])
    monkeypatch.setattr(scenes, "_MAX_SCENES", 2)
    with pytest.raises(SceneError, match="more than 2 scenes"):
        scene_paths(["s3://b/1.tif", "s3://b/2.tif", "s3://b/3.tif"])


@pytest.mark.parametrize("name", ["list.txt", "item.json?sig=abc"])
def test_a_list_on_a_network(name):
    with pytest.raises(SceneError, match="list on a network") as error:
        scene_paths([f"https://a.b/{name}"])
    assert "abc" not in str(error.value)


# STAC


def item(name="x", **assets):
    """An item whose `assets` are key = (href, media type, roles)."""
    made = pystac.Item(name, None, None, datetime(2020, 5, 1, tzinfo=UTC), {})
    for key, (href, kind, roles) in assets.items():
        made.add_asset(key, pystac.Asset(href, media_type=kind, roles=roles))
    return made


def saved(path, stac):
    path.write_text(json.dumps(stac.to_dict()))
    return str(path)


PREVIEW = ("p.png", "image/png", ["thumbnail"])
META = ("m.xml", "application/xml", ["metadata"])


@pytest.mark.parametrize(
    "assets",
    [
        {"image": ("a.tif", COG, ["data"])},
        {"image": ("./a.tif", COG, None), "preview": PREVIEW, "meta": META},
        {"image": ("a.tif", None, None), "look": ("p.jpg", "image/jpeg", None)},
        {"image": ("a.tif", COG, ["visual"]), "b": ("b.tif", COG, ["cloud-mask"])},
        {"image": ("a.tif", COG, None), "b": ("x.jp2", "image/jp2", None)},
        {"image": ("a.tif", "image/tiff; application=geotiff", ["data"]), "b": ("b.tif", COG, [])},
        {"image": ("a.tif", COG, ["data", "overview"]), "v": ("v.tif", COG, ["overview"])},
    ],
)
def test_the_asset_of_an_item(rasters, tmp_path, assets):
    path = saved(tmp_path / "item.json", item(**assets))
    (found,) = scene_paths([path])
    assert Path(found).samefile(rasters[0])
    assert (Scene.open(found).read().data == 7).all()


@pytest.mark.parametrize(
    ("assets", "keys"),
    [
        ({"red": ("a.tif", COG, ["data"]), "nir": ("b.tif", COG, ["data"])}, "red, nir"),
        ({"rgb": ("a.tif", COG, ["visual"]), "ms": ("b.tif", COG, ["data"])}, "rgb, ms"),
        ({"one": ("a.tif", COG, None), "two": ("b.tif", COG, None), "m": META}, "one, two"),
    ],
)
def test_an_item_that_leaves_the_choice_open(rasters, tmp_path, assets, keys):
    path = saved(tmp_path / "item.json", item("fields", **assets))
    with pytest.raises(
        SceneError, match=rf"item fields .*several rasters \({keys}\).*a \.txt file"
    ):
        scene_paths([path])


@pytest.mark.parametrize("assets", [{}, {"preview": PREVIEW, "meta": META}])
def test_an_item_without_a_raster(tmp_path, assets):
    with pytest.raises(SceneError, match=rf"no raster among .*\({', '.join(assets) or 'none'}\)"):
        scene_paths([saved(tmp_path / "item.json", item(**assets))])


def test_an_asset_that_is_not_there_names_its_item(tmp_path):
    path = saved(tmp_path / "item.json", item("far", data=("gone.tif", COG, ["data"])))
    with pytest.raises(SceneError, match=r"no file .*gone\.tif \(asset data of item far in .*item"):
        scene_paths([path])


@pytest.mark.parametrize("href", ["s3://bucket/a.tif", "/vsicurl/https://a.b/c.tif", "gs://b/a"])
def test_assets_may_be_addresses(tmp_path, href):
    assert scene_paths([saved(tmp_path / "i.json", item(data=(href, COG, ["data"])))]) == [href]


def test_assets_may_be_file_addresses_and_escaped(tmp_path, make_raster):
    odd = make_raster(np.ones((1, 4, 4), np.uint8), "of May #1.tif")
    for href in (odd.as_uri(), "of%20May%20%231.tif", "of May #1.tif"):
        (found,) = scene_paths([saved(tmp_path / "i.json", item(data=(href, COG, None)))])
        assert odd.samefile(found)


def test_an_item_collection(rasters, tmp_path):
    items = [item(n, data=(f"{n}.tif", COG, ["data"])) for n in ("b", "a")]
    path = saved(tmp_path / "items.geojson", pystac.ItemCollection(items))
    assert scene_paths([path]) == [rasters[1], rasters[0]]


@pytest.mark.parametrize(
    "kind", [pystac.CatalogType.SELF_CONTAINED, pystac.CatalogType.RELATIVE_PUBLISHED]
)
def test_a_collection_and_the_catalog_above_it(rasters, tmp_path, kind):
    extent = pystac.Extent(
        pystac.SpatialExtent([[0, 0, 1, 1]]), pystac.TemporalExtent([[None, None]])
    )
    catalog = pystac.Catalog("all", "all")
    collection = pystac.Collection("year", "a year", extent)
    catalog.add_child(collection)
    for path in rasters:
        name = Path(path).stem
        collection.add_item(item(name, data=(path, COG, ["data"])))
    root = "https://a.b/stac" if kind == pystac.CatalogType.RELATIVE_PUBLISHED else None
    catalog.normalize_hrefs(root or str(tmp_path / "stac"))
    catalog.save(kind, dest_href=str(tmp_path / "stac"))
    for start in ("stac/catalog.json", "stac/year/collection.json", "stac/year/b/b.json"):
        found = scene_paths([str(tmp_path / start)])
        assert list(map(os.path.realpath, found)) == (
            rasters[1:2] if "b.json" in start else rasters
        )


def test_catalogs_that_name_each_other_end(rasters, tmp_path):
    for name, other in (("one", "two"), ("two", "one")):
        catalog = pystac.Catalog(name, name)
        catalog.add_link(pystac.Link("child", f"./{other}.json"))
        catalog.add_link(pystac.Link("item", "./item.json"))
        saved(tmp_path / f"{name}.json", catalog)
    saved(tmp_path / "item.json", item(data=("a.tif", COG, None)))
    (found,) = scene_paths([str(tmp_path / "one.json")])
    assert Path(found).samefile(rasters[0])


@pytest.mark.parametrize(("rel", "href"), [("item", "https://a.b/i.json"), ("items", "./items")])
def test_a_catalog_whose_items_are_on_a_network(tmp_path, rel, href):
    catalog = pystac.Catalog("api", "api")
    catalog.add_link(pystac.Link(rel, href))
    with pytest.raises(SceneError, match="is not a local file"):
        scene_paths([saved(tmp_path / "catalog.json", catalog)])


BROKEN = [
    ("", "is not JSON"),
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ("[1, 2]", "is to be a table|should be an object"),
    ("{}", "is no STAC Item"),
    ('{"type": "Feature"}', "is no STAC Item"),
    ('{"type": "Catalog"}', "is no STAC Item"),
    ('{"type": "FeatureCollection"}', "is no STAC Item"),
    ('{"type": "FeatureCollection", "features": 3}', "is no STAC Item"),
    ('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}', "is no STAC Item"),
    ('{"type": "FeatureCollection", "features": []}', "names no scene"),
    ('{"type": ["Feature"], "stac_version": {}}', "is no STAC Item"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_json_that_is_no_stac(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(SceneError, match=message):
        scene_paths([str(path)])


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda v: st.lists(v, max_size=2), max_leaves=3
)


@given(
    st.sampled_from(
        [
            "type",
            "id",
            "assets",
            "links",
            "stac_version",
            "properties",
            "geometry",
            "bbox",
            "stac_extensions",
            "collection",
        ]
    ),
    VALUES,
)
def test_an_item_with_any_wrong_value_is_read_or_refused(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("stac")
    table = item(data=("s3://bucket/a.tif", COG, ["data"])).to_dict()
    (folder / "i.json").write_text(json.dumps({**table, key: value}))
    try:
        assert scene_paths([str(folder / "i.json")]) == ["s3://bucket/a.tif"]
    except SceneError as e:
        assert "i.json" in str(e)  # noqa: PT017


# Names


def test_names_are_the_stems():
    paths = ["/x/a.tif", "b.b.tif", "s3://bucket/c%20d.tif?sig=1", "https://h/e/", "Zürich (2).vrt"]
    assert list(scene_names(paths).values()) == ["a", "b.b", "c d", "e", "Zürich (2)"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "/x/", "y/", "s3://b/", "https://h/"]),
            st.sampled_from(["a", "A", "b", "..", ".part", "a.part", "é" * 200, "a-", 'c:*"?<d']),
            st.sampled_from([".tif", ".TIF", ".vrt", "", ".tif?sig=1", ".tif?sig=2"]),
        ).map("".join),
        unique=True,
    ),
    st.randoms(),
)
def test_names_are_unique_stable_and_good_for_folders(paths, rng: random.Random):
    names = scene_names(paths)
    assert list(names) == paths
    assert len({n.casefold() for n in names.values()}) == len(paths)
    for name in names.values():
        assert 0 < len(f"{name}.part".encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|\0')
        assert name == name.strip(" .")
        assert not name.endswith(".part")
    rng.shuffle(paths)
    assert scene_names(paths) == names


def test_names_of_clashing_scenes_come_from_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = scene_names(["a.tif", "x/a.tif", "b.tif"])
    assert names["b.tif"] == "b"
    assert names["a.tif"] != names["x/a.tif"]
    assert len(names["a.tif"]) == len("a-123456")
    absolute = {str(tmp_path / path): name for path, name in names.items()}
    assert scene_names(list(absolute)) == absolute
    signed = scene_names([f"s3://{b}/a.tif?sig={s}" for b, s in (("x", 1), ("y", 1))])
    later = scene_names([f"s3://{b}/a.tif?sig={s}" for b, s in (("x", 2), ("y", 2))])
    assert list(signed.values()) == list(later.values())
