"""The noisy map has the noise asked for, by construction; the areas of Banepa are apart."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
import shapely.affinity
from odc.geo.geobox import GeoBox
from pyproj import Geod

from geopipe.classes import load_scheme
from geopipe.labels.extent import Extent
from geopipe.labels.vectorfile import OSM_CREDIT, read_vector_file
from geopipe.workflow.schema import load_workflow

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("GEOPIPE_DATA", ROOT.parent / "shared" / "data")) / "banepa"
AREAS = ("train", "enhance", "test")
UTM = 32645
ROWS, COLS = 20, 25
PITCH = 40.0


def script():
    spec = importlib.util.spec_from_file_location("noise_osm", ROOT / "workflows" / "noise_osm.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


noise_osm = script()


def town(crs=4326) -> gpd.GeoDataFrame:
    """500 houses of 10 x 10 m near Banepa, one every 40 m."""
    rows, cols = np.divmod(np.arange(ROWS * COLS), COLS)
    x, y = 354_000 + PITCH * cols, 3_057_000 + PITCH * rows
    tags = {
        "building": np.where(rows % 2, "yes", "house"),
        "roof:material": "concrete",
        "osm_id": 206_057_139 + np.arange(ROWS * COLS),
    }
    houses = gpd.GeoDataFrame(tags, geometry=shapely.box(x, y, x + 10, y + 10), crs=UTM)
    return houses.to_crs(crs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.geojson"
    town().to_file(path)
    return path


def run(source: Path, out: Path, *options: str) -> gpd.GeoDataFrame:
    noise_osm.main([str(source), str(out), *options])
    return pyogrio.read_dataframe(out)


def moves(before: gpd.GeoDataFrame, after: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Metres east and north on the ellipsoid, of each house that is on both maps."""
    centres = [
        gpd.GeoDataFrame(
            {"osm_id": f.osm_id}, geometry=f.to_crs(UTM).centroid.to_crs(4326)
        ).set_index("osm_id")
        for f in (before, after[after.osm_id.notna()])
    ]
    both = centres[0].loc[centres[1].index]
    old, new = both.geometry, centres[1].geometry
    azimuth, _, metres = Geod(ellps="WGS84").inv(old.x, old.y, new.x, new.y)
    angle = np.radians(azimuth)
    return both.assign(east=metres * np.sin(angle), north=metres * np.cos(angle), metres=metres)


@pytest.mark.parametrize("crs", [4326, 3857, UTM])
def test_shift_is_in_metres_on_the_ground_in_every_crs(tmp_path, crs):
    """At 27.6 N a Mercator metre is 0.89 m: shifts in units of the CRS would leave the range."""
    source = tmp_path / "in.gpkg"
    town(crs).to_file(source)
    noisy = run(source, tmp_path / "out.gpkg", "--jitter", "0", "--shift", "4", "5")
    assert noisy.crs.to_epsg() == crs
    metres = moves(town(), noisy).metres
    assert len(metres) == 400
    assert metres.min() > 3.98
    assert metres.max() < 5.02
    assert np.ptp(metres) > 0.7


def test_shift_field_is_smooth_and_turns(source, tmp_path):
    noisy = run(source, tmp_path / "out.gpkg", "--jitter", "0", "--left-out", "0")
    m = moves(town(), noisy).sort_index()
    field = np.stack([m.east, m.north], axis=-1).reshape(ROWS, COLS, 2)
    aside = np.linalg.norm(np.diff(field, axis=1), axis=-1)
    across = np.linalg.norm(field.reshape(-1, 1, 2) - field.reshape(1, -1, 2), axis=-1)
    assert np.median(aside) < 0.5 * np.median(across)
    assert across.max() > 5  # no single translation would mend it


def test_jitter_is_what_the_field_does_not_explain(source, tmp_path):
    still = moves(town(), run(source, tmp_path / "a.gpkg", "--jitter", "0", "--left-out", "0"))
    shaken = moves(town(), run(source, tmp_path / "b.gpkg", "--jitter", "0.8", "--left-out", "0"))
    rest = (shaken[["east", "north"]] - still[["east", "north"]]).to_numpy()
    assert rest.std(axis=0) == pytest.approx([0.8, 0.8], rel=0.1)
    assert abs(np.corrcoef(rest.T)[0, 1]) < 0.15


def test_left_out_and_phantoms_have_the_shares_asked_for(source, tmp_path, capsys):
    before = town()
    noisy = run(source, tmp_path / "out.gpkg", "--left-out", "0.3", "--phantom", "0.1")
    phantom = noisy[noisy.osm_id.isna()]
    assert len(noisy) - len(phantom) == 350
    assert len(phantom) == 50
    assert set(noisy.osm_id.dropna().astype(int)) < set(before.osm_id)
    stands = before.to_crs(UTM).union_all().buffer(-0.01)
    assert not phantom.to_crs(UTM).intersects(stands).any()
    assert phantom.building.isin(["yes", "house"]).all()
    assert phantom.to_crs(UTM).area.to_numpy() == pytest.approx(100, rel=0.01)
    said = capsys.readouterr().out
    assert "left out: 150 (30.0%)" in said
    assert "phantom: 50 (10.0%)" in said


def test_houses_are_left_out_in_patches(source, tmp_path):
    """Neighbours share their fate more often than two houses drawn at random (0.58)."""
    noisy = run(source, tmp_path / "out.gpkg", "--left-out", "0.3", "--scale", "400")
    kept = town().osm_id.isin(noisy.osm_id).to_numpy().reshape(ROWS, COLS)
    assert (kept[:, 1:] == kept[:, :-1]).mean() > 0.62


def test_what_is_printed_is_what_was_done(source, tmp_path, capsys):
    noisy = run(source, tmp_path / "out.gpkg")
    said = re.search(r"shift: ([\d.]+) / ([\d.]+) / ([\d.]+) m", capsys.readouterr().out)
    measured = np.percentile(moves(town(), noisy).metres, (5, 50, 95))
    assert [float(g) for g in said.groups()] == pytest.approx(measured, abs=0.06)
    assert 0.5 < measured[0] < measured[2] < 6.5


def test_the_same_seed_gives_the_same_bytes(source, tmp_path):
    paths = [tmp_path / n for n in ("a.gpkg", "b.gpkg", "c.gpkg")]
    for path, seed in zip(paths, "001", strict=True):
        noise_osm.main([str(source), str(path), "--seed", seed])
    a, b, c = (p.read_bytes() for p in paths)
    assert a == b
    assert a != c


def test_geopipe_knows_the_result_as_osm_buildings(tmp_path):
    source, out = tmp_path / "in.geojson", tmp_path / "noisy.gpkg"
    town().drop(columns="osm_id").to_file(source)  # neither a column nor a name tells of OSM
    noisy = run(source, out)
    assert set(noisy["roof:material"]) == {"concrete"}
    plane = GeoBox.from_bbox(tuple(town().total_bounds), crs=4326, resolution=1e-4)
    features, credit = read_vector_file(out, load_scheme("buildings"), Extent(plane))
    assert credit == OSM_CREDIT
    assert sum(len(f.ids) for f in features) == len(noisy) == 425
    assert {int(i) for f in features for i in f.ids} == {1}


def test_other_features_and_broken_shapes_are_no_buildings(tmp_path, capsys):
    houses = town()
    houses.loc[0, "building"] = None
    houses.loc[1, "building"] = "no"
    houses.loc[2, "geometry"] = houses.geometry[2].centroid
    houses.loc[3, "geometry"] = shapely.Polygon()
    source = tmp_path / "in.gpkg"
    houses.to_file(source)
    run(source, tmp_path / "out.gpkg", "--left-out", "0", "--phantom", "0")
    said = capsys.readouterr().out
    assert "496 buildings -> 496 on the noisy map" in said
    assert "not buildings, not written: 4" in said


def test_holes_and_several_parts_survive(tmp_path):
    box = shapely.box(354_000, 3_057_000, 354_040, 3_057_040)
    ring = box - shapely.box(354_010, 3_057_010, 354_030, 3_057_030)
    two = shapely.union(shapely.affinity.translate(box, 100), shapely.affinity.translate(box, 200))
    source = tmp_path / "in.gpkg"
    gpd.GeoDataFrame({"building": ["yes"] * 2}, geometry=[ring, two], crs=UTM).to_file(source)
    noisy = run(source, tmp_path / "out.gpkg", "--left-out", "0", "--phantom", "0")
    areas = sorted(noisy.area)
    assert areas[1] == pytest.approx(3200, rel=0.02)
    assert areas[0] == pytest.approx(1200, rel=0.02) or areas[0] == pytest.approx(1600, rel=0.02)


def test_refusals_leave_nothing(source, tmp_path, monkeypatch):
    out = tmp_path / "out.gpkg"
    out.write_text("mine")
    with pytest.raises(SystemExit):
        noise_osm.main([str(source), str(out)])
    assert out.read_text() == "mine"
    bare = tmp_path / "bare.geojson"
    town()[["geometry"]].to_file(bare)
    with pytest.raises(SystemExit, match="no column 'building'"):
        noise_osm.main([str(bare), str(tmp_path / "new.gpkg")])

    def full_disk(self, target):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(SystemExit, match="No space left"):
        noise_osm.main([str(source), str(tmp_path / "new.gpkg")])
    assert not list(tmp_path.glob("*new*"))


def areas() -> gpd.GeoSeries:
    folder = ROOT / "workflows" / "banepa"
    frames = [gpd.read_file(folder / f"{name}.geojson") for name in AREAS]
    assert all(f.crs.to_epsg() == 4326 and len(f) == 1 and f.is_valid.all() for f in frames)
    return gpd.GeoSeries([f.geometry[0] for f in frames], index=AREAS, crs=4326)


def test_the_test_part_of_banepa_is_40_m_from_the_others():
    ground = areas().to_crs(UTM)
    for name in ("train", "enhance"):
        assert ground["test"].distance(ground[name]) > 40
    assert ground["train"].intersection(ground["enhance"]).area < 1
    assert areas()["train"].centroid.x < areas()["enhance"].centroid.x < areas()["test"].centroid.x


def test_the_workflow_of_banepa_is_one():
    flow = load_workflow(ROOT / "workflows" / "banepa.toml")
    assert flow.train.labels == ROOT / "outputs" / "banepa-osm-noisy.gpkg"
    assert flow.enhance.labels == flow.test.labels != flow.train.labels
    chosen = (flow.train, flow.enhance, flow.test)
    assert [c.area.stem for c in chosen] == list(AREAS)
    assert all(c.area.is_file() and c.nodata == 255 for c in chosen)


@pytest.mark.data
def test_osm_of_banepa_fills_the_areas_and_gets_noisy(tmp_path):
    source = DATA / "osm_buildings.geojson"
    if not source.exists():
        pytest.skip(f"no {source}: set GEOPIPE_DATA")
    osm, ground = gpd.read_file(source).to_crs(UTM), areas().to_crs(UTM)
    block = shapely.concave_hull(shapely.MultiPoint(osm.centroid.to_numpy()), 0.3)
    assert 0.12 < ground["enhance"].area / block.area < 0.18
    for name in AREAS:
        centres = osm.centroid[osm.centroid.within(ground[name])]
        assert len(centres) > 200
        assert ground[name].difference(block.buffer(25)).area < 0.02 * ground[name].area
    noisy = run(source, tmp_path / "out.gpkg")
    assert len(noisy) == 1466 - 293 + 73
    low, high = np.percentile(moves(osm, noisy).metres, (5, 95))
    assert 0.5 < low < 1.5
    assert 4.5 < high < 6
