"""geopipe labels check, align and --ignore-buffer as a user meets them; and what they refuse."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.warp import Resampling, calculate_default_transform, reproject
from tiny_place import GSD, LEFT, TOP, draw_place, fingerprints, write_scene

pytestmark = pytest.mark.usefixtures("one_thread")

EAST, NORTH = 3.5, -0.5
"""By so much the map is off, all of it: then what the classifiers learn is off as well, by some."""


def nearer(found, true=(-EAST, -NORTH)):
    """Whether moving by `found` leaves clearly less than there was."""
    return np.hypot(*np.subtract(found, true)) < 0.7 * np.hypot(*true)


@dataclass(frozen=True)
class Here:
    scene: Path
    osm: Path
    model: Path


@pytest.fixture(scope="session")
def shifted_place(tmp_path_factory, make_model):
    folder = tmp_path_factory.mktemp("shifted")
    scene, osm = draw_place(folder, "scene", (440, 420), seed=2)
    frame = gpd.read_file(osm)
    frame["timestamp"] = [f"20{10 + i % 9}-05-01T00:00:00Z" for i in range(len(frame))]
    moved = frame.set_geometry(frame.geometry.translate(EAST, NORTH))
    moved.to_file(osm, layer="osm", driver="GPKG")
    make_model(seed=1).save(folder / "model.safetensors")
    return Here(scene, osm, folder / "model.safetensors")


@pytest.fixture
def here(shifted_place, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return Here(
        *(
            Path(shutil.copy(getattr(shifted_place, k), tmp_path / "in"))
            for k in ("scene", "osm", "model")
        )
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "labels.gpkg"


def test_check_tells_the_shift(geopipe, here, out):
    said = geopipe(
        "labels",
        "check",
        here.scene,
        here.osm,
        "-o",
        out,
        "--json",
        "--qc-tile",
        100,
        "--image-date",
        "2016-01-01",
    )
    told = json.loads(said.out)
    assert said.code == 0, said.err
    blocks = [b for b in told["tiles"] if b["class"] == "building" and b["features"]]
    blocks = [b for b in blocks if not b["rejected"]]
    assert len(blocks) >= 4
    for b in blocks:
        assert nearer((b["dx_m"], b["dy_m"]))
        assert b["error_m"] >= 0
        assert b["score"] > 1.7
        assert "shifted" in b["status"]
        assert b["oldest"] <= b["median_date"] <= b["newest"]
    assert "geopipe labels align" in " ".join(told["suggestions"])
    assert "were last edited after the image was taken (2016-01-01)" in " ".join(
        told["suggestions"]
    )
    assert told["left_out"] == {}
    layers = {name for name, _ in pyogrio.list_layers(out)}
    assert {"building", "road", "shifts", "layer_styles"} <= layers
    frame = pyogrio.read_dataframe(out, layer="building")
    assert len(frame) == len([b for b in told["tiles"] if b["class"] == "building"])
    assert frame["dx_m"].dtype == "float64"
    features = pyogrio.read_dataframe(out, layer="features")
    assert features["kind"].tolist() == [f["kind"] for f in told["features"]]
    off = features[features["kind"] == "shifted"]
    assert len(off) > 10
    assert off["feature_id"].is_unique
    assert off["feature_id"].notna().all()
    assert np.allclose(np.hypot(off["dx_m"], off["dy_m"]), off["shift_m"], atol=0.02)
    lines = pyogrio.read_dataframe(out, layer="shifts")
    assert np.allclose(lines.length / 20, lines["metres"], atol=0.02)


def test_check_prints_a_table(geopipe, here):
    said = geopipe("labels", "check", here.scene, here.osm)
    assert said.code == 0
    head, *rest = said.out.splitlines()
    assert head.split() == [
        "at",
        "(m)",
        "class",
        "features",
        "dx",
        "dy",
        "+-",
        "score",
        "omission",
        "commission",
        "edited",
        "status",
    ]
    assert re.match(r" +0, +0 building +\d+ ", rest[0])
    assert re.match(r" +0, +0 road +\d+ ", rest[1]) or "road" in said.out
    assert "labels are off by" in said.out
    assert "the image does not say when it was taken (give its date)" in said.out


def test_align_brings_the_map_to_the_image(geopipe, here, out):
    said = geopipe("labels", "align", here.scene, here.osm, "-o", out, "--json")
    told = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    before, after = gpd.read_file(here.osm), gpd.read_file(out, layer="osm")
    assert told["features"] == len(before) == len(after)
    assert after["source_id"].tolist() == before["osm_id"].tolist()
    house = before["building"].notna().to_numpy()
    went = after[["shift_east", "shift_north"]].to_numpy()[house]
    assert nearer(np.median(went, axis=0))
    assert told["longest_m"] <= 8
    assert told["estimates"]["building"]["accepted"] > 20
    assert geopipe("labels", "align", here.scene, here.osm, "-o", out).code == 1
    said = geopipe(
        "labels", "align", here.scene, here.osm, "-o", out, "--overwrite", "--max-shift", 2
    )
    assert re.search(r"(\d+) of \1|\d+ of \d+ features moved", said.out)
    assert re.search(r"building: \d+ of \d+ estimates of the shift accepted", said.out)
    shifts = gpd.read_file(out)[["shift_east", "shift_north"]].to_numpy()
    assert np.hypot(*shifts.T).max() <= 2.02


def test_a_model_may_look(geopipe, here, out):
    said = geopipe("labels", "check", here.scene, here.osm, "-o", out, "--model", here.model)
    assert said.code == 0, said.err
    assert out.exists()


def test_osm_files_are_checked_and_aligned(geopipe, here, tmp_path, out):
    """Written by hand from the same map."""
    frame = gpd.read_file(here.osm).to_crs(4326)
    text, nodes = ['<osm version="0.6">'], 0
    for i, (shape, kind) in enumerate(zip(frame.geometry, frame["building"], strict=True)):
        xy = shapely.get_coordinates(shape)
        refs = [nodes + k + 1 for k in range(len(xy))]
        nodes += len(xy)
        text += [
            f'<node id="{n}" lon="{x:.8f}" lat="{y:.8f}"/>'
            for n, (x, y) in zip(refs, xy, strict=True)
        ]
        kind = isinstance(kind, str)
        refs = [*refs[:-1], refs[0]] if kind else refs
        tag = '<tag k="building" v="house"/>' if kind else '<tag k="highway" v="residential"/>'
        text.append(
            f'<way id="{i + 1}">' + "".join(f'<nd ref="{n}"/>' for n in refs) + tag + "</way>"
        )
    source = tmp_path / "in" / "a.osm"
    # Nodes first, as OSM files have it.
    source.write_text("\n".join([text[0], *sorted(text[1:], key=lambda t: t[1] != "n"), "</osm>"]))
    said = geopipe("labels", "align", here.scene, source, "-o", out)
    assert said.code == 0, said.err
    areas = gpd.read_file(out, layer="areas")
    assert areas["source_id"].str.match(r"way/\d+").all()
    assert nearer(areas[["shift_east", "shift_north"]].median().to_numpy())
    said = geopipe("labels", "check", here.scene, source)
    assert "no feature says when it was last edited" in said.out


def test_a_band_is_not_labelled(geopipe, here, tmp_path):
    counts = {}
    for metres in (0, 2):
        words = ["labels", here.scene, here.osm, "-o", tmp_path / "out" / f"{metres}.tif", "--json"]
        told = json.loads(geopipe(*words, "--ignore-buffer", metres).out)
        counts[metres] = told["ignored"]
        assert "OpenStreetMap" in told["credit"]
    assert counts[2] > counts[0] + 10_000
    with (
        rasterio.open(tmp_path / "out" / "0.tif") as a,
        rasterio.open(tmp_path / "out" / "2.tif") as b,
    ):
        plain, banded = a.read(1), b.read(1)
    assert np.array_equal(banded[banded != 255], plain[banded != 255])


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "turned"])
def test_scenes_in_any_crs(geopipe, here, tmp_path, crs):
    """The shift in metres on the ground; in a turned scene along its rows and columns."""
    with rasterio.open(here.scene) as src:
        data, transform, old = src.read(), src.transform, src.crs
    if crs == "turned":
        # A quarter: what was north is to the right.
        data = np.rot90(data, -1, (1, 2))
        transform = rasterio.Affine(0, GSD, LEFT, GSD, 0, TOP - 440 * GSD)
        target, expected = old, (-NORTH, EAST)
    else:
        target, expected = crs, (-EAST, -NORTH)
        transform, width, height = calculate_default_transform(
            old, target, 420, 440, *rasterio.transform.array_bounds(440, 420, transform)
        )
        warped = np.zeros((3, height, width), np.uint8)
        reproject(
            data,
            warped,
            src_transform=rasterio.Affine(GSD, 0, LEFT, 0, -GSD, TOP),
            src_crs=old,
            dst_transform=transform,
            dst_crs=target,
            resampling=Resampling.bilinear,
        )
        data = warped
    scene = write_scene(
        tmp_path / "in" / "other.tif",
        np.ascontiguousarray(data),
        crs=target,
        transform=transform,
        nodata=0,
    )
    said = geopipe(
        "labels", "check", scene, here.osm, "--json", "--qc-tile", 500, "--classes", "buildings"
    )
    assert said.code == 0, said.err
    (block,) = [b for b in json.loads(said.out)["tiles"] if b["class"] == "building"]
    assert nearer((block["dx_m"], block["dy_m"]), expected)


@pytest.mark.parametrize("kind", ["one band", "16 bits"])
def test_other_pixels(geopipe, here, tmp_path, kind):
    with rasterio.open(here.scene) as src:
        data = src.read()
    data = data[:1] if kind == "one band" else data.astype(np.uint16) * 200
    scene = write_scene(tmp_path / "in" / "other.tif", data, nodata=0)
    said = geopipe(
        "labels", "check", scene, here.osm, "--json", "--qc-tile", 500, "--classes", "buildings"
    )
    assert said.code == 0, said.err
    (block,) = [b for b in json.loads(said.out)["tiles"] if b["class"] == "building"]
    assert nearer((block["dx_m"], block["dy_m"]))


def test_outside_the_area_no_block_is_judged(geopipe, here, tmp_path):
    west = shapely.box(LEFT - 10, TOP - 300, LEFT + 130, TOP + 10)
    gpd.GeoDataFrame(geometry=[west], crs="EPSG:2154").to_file(tmp_path / "in" / "area.gpkg")
    words = ["labels", "check", here.scene, here.osm, "--json", "--qc-tile", 70]
    said = geopipe(*words, "--area", tmp_path / "in" / "area.gpkg", "--classes", "buildings")
    assert said.code == 0, said.err
    assert {b["column"] for b in json.loads(said.out)["tiles"]} == {0, 70}


def test_what_is_not_used_is_counted(geopipe, here, tmp_path, out):
    frame = gpd.read_file(here.osm)
    x, y = LEFT + 60, TOP - 60
    bow = shapely.Polygon([(x, y), (x + 9, y - 9), (x + 9, y), (x, y - 9)])
    shapes = [*frame.geometry, bow, shapely.Point(x, y), frame.geometry.iloc[-1]]
    more = gpd.GeoDataFrame(
        {
            "building": [*frame["building"], "yes", "yes", "yes"],
            "highway": [*frame["highway"], None, None, None],
        },
        geometry=shapes,
        crs=frame.crs,
    )
    more.to_file(tmp_path / "in" / "osm.gpkg", layer="osm")
    for words in (
        ["check", here.scene, tmp_path / "in" / "osm.gpkg"],
        ["align", here.scene, tmp_path / "in" / "osm.gpkg", "-o", out],
    ):
        said = geopipe("labels", *words, "--classes", "buildings")
        assert said.code == 0
        assert "left out: 1 x point where a polygon is wanted\n" in said.err
        assert "1 x invalid polygon, repaired\n" in said.err


# -- what is not


def bad_raster_labels(here, folder):
    path = folder / "l.tif"
    write_scene(path, np.zeros((1, 440, 420), np.uint8))
    return here.scene, path


def bad_tiny_scene(here, folder):
    with rasterio.open(here.scene) as src:
        data, place = src.read()[:, 40:90, 40:90], src.transform
    place = place * place.translation(40, 40)
    return write_scene(folder / "tiny.tif", data, transform=place), here.osm


def bad_no_roads(here, folder):
    frame = gpd.read_file(here.osm)
    frame[frame["building"].notna()].to_file(folder / "b.gpkg")
    return here.scene, folder / "b.gpkg"


def bad_elsewhere(here, folder):
    frame = gpd.read_file(here.osm)
    frame.set_geometry(frame.geometry.translate(90_000, 0)).to_file(folder / "e.gpkg")
    return here.scene, folder / "e.gpkg"


def bad_empty_scene(here, folder):
    return write_scene(folder / "z.tif", np.zeros((3, 440, 420), np.uint8), nodata=0), here.osm


BAD = {
    bad_raster_labels: r"a raster of labels has no outlines to move - give the vectors",
    bad_tiny_scene: r"too few labelled pixels of .* to learn .* - give a --model",
    bad_no_roads: r"too few labelled pixels of road to learn .*--classes",
    bad_elsewhere: r"OSM does not overlap the scene: .* - ",
    bad_empty_scene: r"too few labelled pixels of background, building, road",
}


@pytest.mark.parametrize("command", ["check", "align"])
@pytest.mark.parametrize("make", BAD, ids=lambda m: m.__name__[4:])
def test_bad_input_is_one_line(geopipe, here, tmp_path, out, make, command):
    scene, osm = make(here, tmp_path / "in")
    before = fingerprints(tmp_path / "in")
    said = geopipe("labels", command, scene, osm, "-o", out)
    assert (said.code, said.out) == (1, "")
    assert re.fullmatch(rf"error: .*{BAD[make]}.*\n", said.err), said.err
    assert fingerprints(tmp_path / "in") == before
    assert not list(out.parent.iterdir())


def test_without_roads_buildings_alone_are_checked(geopipe, here, tmp_path):
    scene, osm = bad_no_roads(here, tmp_path / "in")
    said = geopipe("labels", "check", scene, osm, "--classes", "buildings")
    assert said.code == 0
    assert "labels are off by" in said.out


@pytest.mark.parametrize("command", ["check", "align"])
def test_where_it_must_not_go(geopipe, here, tmp_path, out, command, monkeypatch):
    """Said at once, before the image is looked at."""
    monkeypatch.setattr("geopipe.workflow.sources.open_labels", None)
    made = {
        "labels.gpkg": "exists already",
        "none/labels.gpkg": "there is no folder",
        "labels.tif": "would be a GeoPackage",
    }
    out.write_text("old")
    for name, expected in made.items():
        said = geopipe("labels", command, here.scene, here.osm, "-o", out.parent / name)
        assert (said.code, said.out) == (1, "")
        assert re.fullmatch(rf"error: .*{expected}.* - .*\n", said.err)
    words = ["-o", here.osm, "--overwrite"]
    said = geopipe("labels", command, here.scene, here.osm, *words)
    assert said.code == 1
    assert "is what it would be made from" in said.err
    assert out.read_text() == "old"


@pytest.mark.parametrize("command", ["check", "align"])
def test_ctrl_c_leaves_nothing(geopipe, here, out, command, monkeypatch):
    write = pyogrio.write_dataframe

    def stopped(*words, **more):
        write(*words, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(pyogrio, "write_dataframe", stopped)
    said = geopipe("labels", command, here.scene, here.osm, "-o", out, "--classes", "buildings")
    assert (said.code, said.err) == (130, "stopped\n")
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    "words", [["--max-shift", 0], ["--max-shift", 31], ["--qc-tile", 10], ["--image-date", "soon"]]
)
def test_nonsense_is_wrong_usage(geopipe, here, words):
    said = geopipe("labels", "check", here.scene, here.osm, *words)
    assert said.code == 2
    assert "Error: " in said.err
