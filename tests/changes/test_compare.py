"""Changes whose truth is known by construction."""

import json
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from click.testing import CliRunner
from shapely.affinity import translate

from geopipe.changes.change_file import write_changes
from geopipe.changes.compare import CompareOptions, compare
from geopipe.changes.josm import josm_document
from geopipe.changes.matching import (
    AGREE,
    MOVED,
    ONLY_MAP,
    ONLY_OSM,
    ONLY_REFERENCE,
    UNSURE,
)
from geopipe.classes import load_scheme
from geopipe.cli.main import main
from geopipe.labels.extent import Extent
from geopipe.labels.tables import open_tables

LEFT, TOP = 789_000.0, 6_501_000.0

SHIFT = (2.5, -1.5)
"""Metres by which OSM is off."""

DELETED = range(5, 140, 7)
"""Houses that OSM lacks, of those with a high score."""

AGREEING = 144 - len(DELETED) - 2


def box(x, y, width=10.0, height=10.0):
    return shapely.box(x, y, x + width, y + height)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A map of 12 x 12 houses and two roads, and OSM that is shifted and edited."""
    folder = tmp_path_factory.mktemp("town")
    rng = np.random.default_rng(3)
    sizes = rng.uniform(8, 12, (144, 2))
    at = [(LEFT + 25 * (i % 12), TOP - 25 * (i // 12)) for i in range(144)]
    houses = [box(x, y, *size) for (x, y), size in zip(at, sizes, strict=True)]
    scores = np.where(np.arange(144) < 140, 0.99, 0.4)
    roads = [
        shapely.LineString([(LEFT - 10, TOP + 16), (LEFT + 290, TOP + 16)]),
        shapely.LineString([(LEFT - 10, TOP - 284), (LEFT + 290, TOP - 284)]),
    ]
    features = folder / "features.gpkg"
    columns = {"class": "building", "building_id": range(1, 145), "mean_score": scores}
    gpd.GeoDataFrame(columns, geometry=houses, crs="EPSG:2154").to_file(features, layer="buildings")
    columns = {"class": "road", "road_id": [1, 2], "mean_score": 0.95}
    gpd.GeoDataFrame(columns, geometry=roads, crs="EPSG:2154").to_file(features, layer="roads")
    kept = [i for i in range(144) if i not in (*DELETED, 140)]
    shapes = [translate(houses[i], *SHIFT) for i in kept]
    shapes[kept.index(60)] = translate(shapes[kept.index(60)], 5, 3)
    shapes.append(box(LEFT + 312, TOP - 100))
    shapes += [translate(roads[0], *SHIFT)]
    ids = [*(100 + i for i in kept), 999, 7]
    tags = {
        "osm_id": ids,
        "osm_type": "way",
        "building": ["yes"] * (len(kept) + 1) + [None],
        "highway": [None] * (len(kept) + 1) + ["residential"],
    }
    frame = gpd.GeoDataFrame(tags, geometry=shapes, crs="EPSG:2154")
    area = folder / "area.gpkg"
    around = shapely.box(LEFT - 20, TOP - 300, LEFT + 350, TOP + 40)
    gpd.GeoDataFrame(geometry=[around], crs="EPSG:2154").to_file(area)
    frame.to_crs(4326).to_file(folder / "osm.geojson")
    return folder, frame


@pytest.fixture(scope="module")
def changes(town):
    folder, _ = town
    wide = folder / "wide.gpkg"
    _with_footprint(folder / "features.gpkg", wide)
    return compare(wide, folder / "osm.geojson")


def _with_footprint(source, target):
    """The features with the outline of a map around them, as `geopipe map` writes it."""
    outline = shapely.to_wkt(shapely.box(LEFT - 30, TOP - 310, LEFT + 360, TOP + 50))
    for layer in ("buildings", "roads"):
        pyogrio.write_dataframe(
            pyogrio.read_dataframe(source, layer=layer),
            target,
            layer=layer,
            driver="GPKG",
            layer_metadata={"footprint": outline},
        )


def test_planted_edits_are_told(changes):
    table = changes.tables["buildings"].set_index("map_id")
    alone = table[table["status"] == ONLY_MAP]
    assert sorted(alone.index.astype(int) - 1) == [*DELETED]
    assert table.loc["141", "status"] == UNSURE  # its score is 0.4
    assert table.loc["141", "probability"] < 0.4
    assert table.loc["61", "status"] == MOVED
    assert table.loc["61", "distance_m"] == pytest.approx(np.hypot(5, 3), abs=0.7)
    assert table.loc["61", "reference_id"] == "way/160"
    missing = changes.tables["buildings"].query("status == @ONLY_OSM")
    assert missing["reference_id"].tolist() == ["way/999"]
    assert (changes.tables["buildings"]["status"] == AGREE).sum() == AGREEING
    assert any("not calibrated on ground truth" in note for note in changes.notes)


def test_osm_is_aligned_before_it_is_compared(changes):
    agree = changes.tables["buildings"].query("status == @AGREE")
    assert agree["shift_east"].median() == pytest.approx(-SHIFT[0], abs=0.3)
    assert agree["shift_north"].median() == pytest.approx(-SHIFT[1], abs=0.3)
    assert agree["distance_m"].median() < 0.5


def test_roads_are_compared_along_their_length(changes):
    counts = changes.counts()["roads"]
    assert counts[AGREE] == pytest.approx(0.3, abs=0.01)
    assert counts.get(ONLY_MAP, 0) + counts.get(UNSURE, 0) == pytest.approx(0.3, abs=0.01)


def test_the_file_opens_in_qgis_with_its_style(changes, tmp_path):
    out = tmp_path / "changes.gpkg"
    write_changes(changes, out)
    assert {n for n, kind in pyogrio.list_layers(out) if kind} == {"buildings", "roads"}
    with closing(sqlite3.connect(out)) as db:
        styles = dict(db.execute("SELECT f_table_name, styleQML FROM layer_styles"))
    assert f'label="{ONLY_MAP}"' in styles["buildings"]
    frame = pyogrio.read_dataframe(out, layer="buildings")
    assert frame.crs.to_epsg() == 2154
    first = out.read_bytes()
    write_changes(changes, tmp_path / "again.gpkg")
    assert (tmp_path / "again.gpkg").read_bytes() == first


def test_josm_gets_new_objects_where_they_fit_osm(changes, town, tmp_path):
    folder, _ = town
    josm = tmp_path / "changes.osm"
    write_changes(changes, tmp_path / "c.gpkg", josm, reference=folder / "osm.geojson")
    root = ET.parse(josm).getroot()
    assert root.get("upload") == "never"
    assert not root.findall("*[@action]")
    ways = {int(w.get("id")): {t.get("k"): t.get("v") for t in w.iter("tag")} for w in root}
    known = {i: tags for i, tags in ways.items() if i > 0}
    assert set(known) == {160, 999}
    assert known[999]["geopipe:status"] == ONLY_OSM
    new = {i: tags for i, tags in ways.items() if tags.get("building") and i < 0}
    assert len(new) == len(DELETED)
    assert all("made by a machine" in tags["source"] for tags in new.values())
    houses = pyogrio.read_dataframe(folder / "features.gpkg", layer="buildings")
    expected = gpd.GeoSeries([translate(houses.geometry[5], *SHIFT)], crs=2154)
    scheme = load_scheme("buildings-roads")
    table = open_tables(josm, scheme, Extent(changes.plane.geobox))[0].frame.to_crs(2154)
    both = table.geometry.intersection(expected[0]).area.max() / expected[0].area
    assert both > 0.9


def test_osm_objects_keep_ids_nodes_and_versions(town, tmp_path):
    folder, frame = town
    osm = tmp_path / "ways.osm"
    _write_osm(osm, frame.to_crs(4326))
    result = compare(folder / "features.gpkg", osm, CompareOptions(max_shift=0))
    write_changes(result, tmp_path / "c.gpkg", tmp_path / "c.osm", reference=osm)
    root = ET.parse(tmp_path / "c.osm").getroot()
    way = root.find("way[@id='160']")
    assert way.get("version") == "4"
    refs = [int(n.get("ref")) for n in way.iter("nd")]
    assert refs[0] == refs[-1]
    assert min(refs) > 0
    assert all(root.find(f"node[@id='{ref}']") is not None for ref in refs)
    tags = {t.get("k"): t.get("v") for t in way.iter("tag")}
    assert tags["name"] == "<160> & more"
    assert tags["geopipe:status"] == MOVED


def test_objects_that_are_new_in_josm_are_not_lost(town, tmp_path):
    """Reference and result have negative ids, and no object has that of another."""
    folder, frame = town
    osm = tmp_path / "ways.osm"
    _write_osm(osm, frame.assign(osm_id=-frame["osm_id"]).to_crs(4326), new=True)
    result = compare(folder / "features.gpkg", osm, CompareOptions(max_shift=0))
    write_changes(result, tmp_path / "c.gpkg", tmp_path / "c.osm", reference=osm)
    root = ET.parse(tmp_path / "c.osm").getroot()
    for kind in ("node", "way"):
        ids = [int(e.get("id")) for e in root.iter(kind)]
        assert len(set(ids)) == len(ids)
        assert max(ids) < 0
    status = {
        int(w.get("id")): t.get("v")
        for w in root.iter("way")
        for t in w.iter("tag")
        if t.get("k") == "geopipe:status"
    }
    assert status[-160] == MOVED
    table = result.tables["buildings"].query("status != @AGREE and status != @UNSURE")
    names = table["reference_id"].dropna()
    existing = {int(n.removeprefix("way/")) for n in names if n}
    assert existing <= set(status)
    new = sum((t["status"] == ONLY_MAP).sum() for t in result.tables.values())
    assert list(status.values()).count(ONLY_MAP) == new >= len(DELETED)
    assert not root.findall("*[@version]")


def _write_osm(path, frame, *, new=False):
    root, number = ET.Element("osm", version="0.6"), 1
    ways = []
    for row in frame.itertuples():
        way = ET.Element("way", {"id": str(row.osm_id)} | ({} if new else {"version": "4"}))
        shape = row.geometry
        xy = list(shape.exterior.coords if shape.geom_type == "Polygon" else shape.coords)
        closed = xy[0] == xy[-1]
        refs = []
        for lon, lat in xy[: -1 if closed else None]:
            about = {"id": str(-number if new else number)} | ({} if new else {"version": "2"})
            ET.SubElement(root, "node", about, lat=f"{lat:.9f}", lon=f"{lon:.9f}")
            refs.append(int(about["id"]))
            number += 1
        for ref in refs + refs[:1] * closed:
            ET.SubElement(way, "nd", ref=str(ref))
        key, value = ("building", "yes") if closed else ("highway", "residential")
        ET.SubElement(way, "tag", k=key, v=value)
        ET.SubElement(way, "tag", k="name", v=f"<{row.osm_id}> & more")
        ways.append(way)
    root.extend(sorted(ways, key=lambda w: int(w.get("id"))))
    ET.ElementTree(root).write(str(path), encoding="utf-8")


def test_two_maps_of_the_same_date_agree(town):
    folder, _ = town
    same = folder / "features.gpkg"
    result = compare(same, same, CompareOptions(max_shift=2))
    assert set(result.tables["buildings"]["status"]) == {AGREE}
    assert result.only_reference == ONLY_REFERENCE
    assert result.counts()["roads"] == {AGREE: pytest.approx(0.6, abs=0.01)}


def test_nothing_mapped_in_osm_is_no_error(town, tmp_path):
    folder, _ = town
    empty = tmp_path / "empty.geojson"
    empty.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    result = compare(folder / "features.gpkg", empty)
    assert set(result.tables["buildings"]["status"]) <= {ONLY_MAP, UNSURE}
    assert "empty.geojson has no building here" in result.notes


def test_broken_geometries_are_counted(town, tmp_path):
    folder, frame = town
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    shapes = [translate(bow, LEFT + 312, TOP - 50), None, *frame.geometry[:-1]]
    broken = tmp_path / "broken.gpkg"
    tags = {"building": ["yes"] * len(shapes)}
    gpd.GeoDataFrame(tags, geometry=shapes, crs="EPSG:2154").to_file(broken)
    result = compare(folder / "features.gpkg", broken, CompareOptions(max_shift=0))
    assert "broken.gpkg: 1 x broken geometry, repaired" in result.notes


def test_without_probabilities_it_says_so(town, tmp_path):
    folder, _ = town
    frame = pyogrio.read_dataframe(folder / "features.gpkg", layer="buildings")
    plain = tmp_path / "plain.gpkg"
    frame.drop(columns="mean_score").to_file(plain, layer="buildings")
    result = compare(plain, folder / "osm.geojson", CompareOptions(max_shift=0))
    assert not result.thresholds
    assert any("has no probabilities" in note for note in result.notes)
    assert UNSURE not in set(result.tables["buildings"]["status"])


def run(*words):
    return CliRunner().invoke(main, ["compare", *map(str, words)])


def test_on_the_command_line(town, tmp_path):
    folder, _ = town
    out, josm = tmp_path / "c.gpkg", tmp_path / "c.osm"
    given = [folder / "features.gpkg", folder / "osm.geojson", "-o", out, "--josm", josm]
    done = run(*given, "--area", folder / "area.gpkg", "--max-shift", 4, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["buildings"][AGREE] == AGREEING
    assert result["thresholds"]["buildings"]["calibrated_on"] == "reference"
    assert out.exists()
    assert josm.exists()
    again = run(*given)
    assert again.exit_code == 1
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("elsewhere.geojson", "does not overlap the map"),
        ("nothing.gpkg", "there is no file"),
        ("plain.geojson", "does not say which class"),
    ],
)
def test_bad_references_leave_nothing_behind(town, tmp_path, reference, message):
    folder, frame = town
    far = frame.to_crs(4326)
    far.geometry = far.geometry.translate(5, 5)
    far.to_file(tmp_path / "elsewhere.geojson")
    frame[["geometry"]].to_crs(4326).to_file(tmp_path / "plain.geojson")
    out = tmp_path / "out"
    out.mkdir()
    given = [folder / "features.gpkg", tmp_path / reference]
    done = run(*given, "-o", out / "c.gpkg", "--josm", out / "c.osm")
    assert done.exit_code == 1
    assert message in done.stderr
    assert not list(out.iterdir())


def test_outlines_without_a_class_are_compared_when_it_is_given(town, tmp_path):
    folder, _ = town
    osm = gpd.read_file(folder / "osm.geojson")
    houses = osm[osm["building"].notna()]
    houses[["geometry"]].to_file(tmp_path / "plain.geojson")
    houses[["building", "geometry"]].to_file(tmp_path / "tagged.geojson")
    counts = []
    for name, more in (("plain", ["--all-are", "building"]), ("tagged", [])):
        given = [folder / "features.gpkg", tmp_path / f"{name}.geojson", "--no-align", "--json"]
        done = run(*given, "-o", tmp_path / f"{name}.gpkg", *more)
        assert done.exit_code == 0, done.output
        counts.append(json.loads(done.stdout.splitlines()[-1])["buildings"])
    plain, tagged = counts
    assert plain[MOVED] == tagged[MOVED] > 100
    assert plain[ONLY_MAP] == tagged[ONLY_MAP]


def test_a_map_without_objects_says_that_all_is_only_in_osm(town, tmp_path):
    folder, _ = town
    path = tmp_path / "none.gpkg"
    frame = pyogrio.read_dataframe(folder / "features.gpkg", layer="buildings").iloc[:0]
    frame.to_file(path, layer="buildings", geometry_type="Polygon")
    result = compare(path, folder / "osm.geojson", area=folder / "area.gpkg")
    assert set(result.tables["buildings"]["status"]) == {ONLY_OSM}
    assert "the map has no building here" in result.notes


def test_ids_of_another_map_are_no_osm_ids(town, tmp_path):
    """Else JOSM would load objects elsewhere on earth that have them."""
    folder, _ = town
    other = tmp_path / "earlier.gpkg"
    for layer in ("buildings", "roads"):
        rows = pyogrio.read_dataframe(folder / "features.gpkg", layer=layer)
        rows.iloc[: len(rows) - 20 if layer == "buildings" else None].to_file(other, layer=layer)
        if layer == "buildings":  # the last are new; the first went
            later = tmp_path / "later.gpkg"
            rows.iloc[1:].to_file(later, layer=layer)
    result = compare(later, other, CompareOptions(max_shift=2, fdr=0.9))
    assert ONLY_REFERENCE in result.counts()["buildings"]
    root = ET.fromstring(josm_document(result, other))
    assert root.findall("way")
    assert all(int(thing.get("id")) < 0 for thing in root)
