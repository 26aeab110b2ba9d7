"""Questions on the command line: by image, box and examples; tables, layers, pages, heatmaps."""

import json
import re
import shutil

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image
from pyproj import Transformer
from retrieve_world import NAMES, PLAN, draw_chips, ground

from geopipe.cli import main
from geopipe.retrieve import ChipIndex
from geopipe.retrieve.box import Box
from geopipe.retrieve.build import build_index

pytestmark = pytest.mark.usefixtures("one_thread")
ROOFS = "500136,4699880,500184,4699932"
"""In the third strip."""


def run(*words):
    return CliRunner().invoke(main, ["index", *map(str, words)])


def asked(*words):
    """The result as JSON."""
    found = run("query", *words, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def refused(match, *words):
    found = run(*words)
    assert found.exit_code == 1
    assert re.search(match, found.stderr), found.stderr
    assert found.stderr.count("\n") == 1


def kind(hit):
    """What a hit shows: its class, or the strip of the scene most of it lies in."""
    return hit["class"] or NAMES[(hit["window"][1] + 32) // 64]


@pytest.mark.parametrize("number", range(4))
def test_an_image_finds_its_like(tmp_path, built, number):
    Image.fromarray(ground(number, (40, 40), 77)).save(tmp_path / "new.png")
    hits = asked(built, tmp_path / "new.png", "-k", 3)["hits"]
    assert [kind(h) for h in hits] == [NAMES[number]] * 3
    assert [h["rank"] for h in hits] == [1, 2, 3]
    distances = [h["distance"] for h in hits]
    assert distances == sorted(distances)


def test_an_image_of_the_index_is_no_answer_to_itself(built, chips):
    path = chips / "roofs" / "1.png"
    hits = asked(built, path, "-k", 4)["hits"]
    assert str(path) not in {h["source"] for h in hits}
    first = asked(built, path, "-k", 4, "--with-self")["hits"][0]
    assert first["source"] == str(path)
    assert first["distance"] == pytest.approx(0, abs=0.02)
    assert first["similarity"] == pytest.approx(1, abs=1e-4)
    by_number = asked(built, first["chip"], "-k", 4)["hits"]
    assert [h["chip"] for h in by_number] == [h["chip"] for h in hits]


@pytest.mark.parametrize("crs", ["scene", "lonlat"])
def test_a_box_finds_its_like_elsewhere(built, crs):
    bounds = [float(x) for x in ROOFS.split(",")]
    if crs == "lonlat":
        bounds = Transformer.from_crs("EPSG:32631", "OGC:CRS84", always_xy=True).transform_bounds(
            *bounds
        )
    text = ",".join(map(repr, bounds))
    hits = asked(built, "--box", text, "--box-crs", crs, "-k", 4)["hits"]
    assert [kind(h) for h in hits] == ["roofs"] * 4
    square = Box(tuple(bounds), crs).find(ChipIndex.open(built).header.scenes)[1]
    assert square.shape == (52, 52)
    for h in hits:
        if h["crs"]:  # none that is more than 0.3 under the box
            row, col, height, width = h["window"]
            down = min(square.bottom, row + height) - max(square.row, row)
            along = min(square.right, col + width) - max(square.col, col)
            assert max(down, 0) * max(along, 0) <= 0.3 * 52 * 52


def test_hits_do_not_overlap_unless_they_may(built, chips):
    apart = asked(built, chips / "water" / "0.png", "-k", 99)["hits"]
    free = asked(built, chips / "water" / "0.png", "-k", 99, "--overlap", 1)["hits"]
    assert len(free) == 47  # all but itself
    windows = [h["window"] for h in apart if h["crs"]]
    assert 3 < len(windows) < 28
    for i, (r, c, h, w) in enumerate(windows):
        for r2, c2, _, _ in windows[:i]:
            assert max(0, h - abs(r - r2)) * max(0, w - abs(c - c2)) <= 0.3 * h * w


def test_examples_move_the_question(built, chips):
    forest, water = chips / "forest" / "0.png", chips / "water" / "0.png"
    between = asked(built, forest, "--like", water, "--unlike", forest, "-k", 40, "--overlap", 1)
    plain = asked(built, forest, "-k", 40, "--overlap", 1)

    def place(result):
        return np.mean([h["rank"] for h in result["hits"] if kind(h) == "water"])

    assert place(between) < place(plain)
    only = asked(built, "--like", water, "--like", 16, "-k", 3)["hits"]
    assert [kind(h) for h in only] == ["water"] * 3
    assert 16 not in {h["chip"] for h in only}
    assert asked(built, forest, "--expand", 3, "-k", 3)["hits"]


def test_k_larger_than_the_index(built, chips):
    found = asked(built, chips / "water" / "0.png", "-k", 1000, "--overlap", 1)
    assert len(found["hits"]) == 47
    assert "1000 hits were asked for, there are 47" in found["notes"][0]


def test_a_box_of_another_scale_is_told(built):
    found = asked(built, "--box", "500136,4699880,500156,4699900", "-k", 2)
    assert "the box is 20 m a side, the chips 64 m" in found["notes"][0]


def test_an_approximate_search_answers_alike(tmp_path, model):
    chips = draw_chips(tmp_path / "chips", each=20)
    plan = PLAN.__class__(PLAN.chip_grid, search="ivf", workers=PLAN.workers)
    build_index([str(chips)], tmp_path / "x", model, plan)
    mine = asked(tmp_path / "x", chips / "roofs" / "1.png", "-k", 5)
    exact = asked(tmp_path / "x", chips / "roofs" / "1.png", "-k", 5, "--exact")
    assert mine["search"]["kind"] == "ivf"
    assert [h["chip"] for h in mine["hits"]] == [h["chip"] for h in exact["hits"]]


def test_what_is_refused(tmp_path, built, chips):
    image = chips / "water" / "0.png"
    refused(
        r"lies outside all 1 scenes.*scene.tif: 500000,4699840,500256,4700000",
        "query",
        built,
        "--box",
        "0,0,9,9",
    )
    refused("lonlat.*outside", "query", built, "--box", "0,0,9,9", "--box-crs", "lonlat")
    refused("is empty", "query", built, "--box", "9,9,0,0")
    refused("2 x 2 px", "query", built, "--box", "500136,4699880,500138,4699882")
    refused("too few valid", "query", built, "--box", "500002,4699970,500030,4699998")
    refused("is not in the index", "query", built, "--box", ROOFS, "--scene", tmp_path / "o.tif")
    refused("give one of them", "query", built, image, "--box", ROOFS)
    refused("no chip 48: the index has 0 to 47", "query", built, 48)
    refused("there is no file", "query", built, tmp_path / "none.png")
    refused("holds other weights", "query", built, image, "--weights", "random:3")
    refused("no such folder", "query", tmp_path / "none", image)
    page = tmp_path / "page.html"
    page.touch()
    for command in (("query", tmp_path / "none", image), ("evaluate", tmp_path / "none")):
        refused("no such folder", *command, "--html", page, "--overwrite")
    refused("made with another model", "build", chips, "-o", built, "--rotations", 8)
    assert run("query", built).exit_code == 2
    assert run("query", built, image, "--scene", image).exit_code == 2
    assert run("query", built, image, "--box-crs", "lonlat").exit_code == 2
    assert run("query", built, "--box", "1,2,3").exit_code == 2


def test_chips_without_a_place_make_no_layer(tmp_path, chips, model):
    build_index([str(chips)], tmp_path / "x", model, PLAN)
    refused(
        "none of the 3 hits has a place on Earth",
        "query",
        tmp_path / "x",
        0,
        "-k",
        3,
        "-o",
        tmp_path / "h.gpkg",
    )
    assert not (tmp_path / "h.gpkg").exists()


def test_hits_are_a_styled_layer(tmp_path, built):
    out = tmp_path / "hits.gpkg"
    found = asked(built, "--box", ROOFS, "-k", 12, "-o", out)
    table = gpd.read_file(out, layer="hits")
    placed = [h for h in found["hits"] if h["crs"]]
    assert table["rank"].tolist() == [h["rank"] for h in placed]
    assert table["distance"].tolist() == pytest.approx([h["distance"] for h in placed])
    assert table.crs == "EPSG:32631"
    for shape, h in zip(table.geometry, placed, strict=True):
        corners = np.array(h["corners"])
        assert shape.bounds == (*corners.min(0), *corners.max(0))
    box = gpd.read_file(out, layer="query").geometry[0]
    assert box.bounds == (500_134, 4_699_880, 500_186, 4_699_932)
    styles = pyogrio.read_dataframe(out, layer="layer_styles", read_geometry=False)
    assert set(styles["f_table_name"]) == {"hits", "query"}
    qml = styles.set_index("f_table_name").loc["hits", "styleQML"]
    assert all(f'value="{text}"' in qml for text in set(table["nearness"]))
    refused("exists already", "query", built, "--box", ROOFS, "-o", out)
    assert run("query", built, "--box", ROOFS, "-o", out, "--overwrite").exit_code == 0


def test_hits_of_several_systems_are_in_degrees(tmp_path, built, scene, model):
    from retrieve_world import draw_scene

    folder = tmp_path / "x"
    shutil.copytree(built, folder)
    other = draw_scene(tmp_path / "other.tif", "EPSG:32632", 300_000)
    with rasterio.open(other, "r+") as out:
        out.write(255 - out.read())  # other pixels, or they would be duplicates
    build_index([str(other)], folder, model, PLAN)
    asked(folder, "--box", ROOFS, "-k", 60, "-o", tmp_path / "h.gpkg", "--overlap", 0.6)
    table = gpd.read_file(tmp_path / "h.gpkg", layer="hits")
    assert table["source"].nunique() == 2
    assert table.crs.to_epsg() in (4326, None)
    assert table.total_bounds[2] < 90


def test_the_page_holds_all_it_shows(tmp_path, built, chips):
    odd = tmp_path / "<b>&.png"
    shutil.copy(chips / "roofs" / "2.png", odd)
    page = tmp_path / "page.html"
    found = asked(built, odd, "-k", 6, "--html", page)
    text = page.read_text()
    assert "<b>&.png" not in text
    assert "&lt;b&gt;&amp;.png" in text
    assert text.count('<figure class="hit">') == len(found["hits"]) == 6
    assert "://" not in text
    refused("exists already", "query", built, odd, "--html", page)
    for own in (odd, built / "index.json"):
        refused("would be made from", "query", built, odd, "--html", own, "--overwrite")
    refused("would be made from", "evaluate", built, "--html", built / "index.json", "--overwrite")


def test_a_page_of_chips_that_are_gone(tmp_path, model):
    chips = draw_chips(tmp_path / "chips")
    build_index([str(chips)], tmp_path / "x", model, PLAN)
    shutil.rmtree(chips / "roofs")
    asked(tmp_path / "x", chips / "water" / "1.png", "-k", 19, "--html", tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text().count("not there any more") == 5
    found = asked(tmp_path / "x", 12, "-k", 3, "--html", tmp_path / "q.html")  # the vector serves
    assert [kind(h) for h in found["hits"]] == ["roofs"] * 3
    assert "changed or gone since it was indexed" in found["notes"][0]
    assert found["notes"][0].endswith(" and 2 more")
    assert (tmp_path / "q.html").read_text().count("not there any more") == 4


def test_evaluation(tmp_path, built, chips, model):
    found = run("evaluate", built, "--html", tmp_path / "e.html")
    assert found.exit_code == 0, found.output
    assert "warning: 28 chips have no class, left out" in found.stderr
    assert found.stdout.splitlines()[0].split()[:3] == ["class", "queries", "mAP"]
    told = json.loads(run("evaluate", built, "--json").stdout)
    assert told["queries"] == 20
    assert told["map"] > 0.6
    assert sorted(told["classes"]) == sorted(NAMES)
    text = (tmp_path / "e.html").read_text()
    assert "<svg" in text
    assert f"mAP {100 * told['map']:.1f} %" in text
    few = json.loads(run("evaluate", built, "--json", "--queries", 5).stdout)
    assert few["queries"] == 5
    lonely = tmp_path / "chips"
    shutil.copytree(chips, lonely)
    for number in range(1, 5):
        (lonely / "water" / f"{number}.png").unlink()
    build_index([str(lonely)], tmp_path / "x", model, PLAN)
    said = run("evaluate", tmp_path / "x")
    assert "classes with one image have nothing to find, left out: water" in said.stderr
    shutil.copytree(chips / "roofs", tmp_path / "flat")
    build_index([str(tmp_path / "flat")], tmp_path / "y", model, PLAN)
    refused("no chip of .* has a class", "evaluate", tmp_path / "y")


def test_a_model_of_a_later_version(built, tmp_path, chips):
    folder = tmp_path / "x"
    shutil.copytree(built, folder)
    header = json.loads((folder / "index.json").read_text())
    header["model"]["attention"] = 7
    (folder / "index.json").write_text(json.dumps(header))
    refused("unknown key 'attention'", "query", folder, 0)
    refused("unknown key 'attention'", "build", chips, "-o", folder)


def test_a_build_that_stopped_is_told(built, tmp_path, chips):
    folder = tmp_path / "x"
    shutil.copytree(built, folder)
    header = json.loads((folder / "index.json").read_text())
    header["unfinished"] = {"plan": "p", "first": 0, "batches": 3, "of": 8}
    (folder / "index.json").write_text(json.dumps(header))
    found = asked(folder, chips / "water" / "0.png", "-k", 2)
    assert "3 of 8 batches" in found["notes"][0]
    told = json.loads(run("evaluate", folder, "--json").stdout)
    assert "3 of 8 batches" in told["warnings"][0]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_heatmap_is_warm_where_it_should_be(tmp_path, built, chips, scene, as_bytes):
    out = tmp_path / "heat.tif"
    words = [
        "heatmap",
        built,
        chips / "roofs" / "0.png",
        scene,
        "-o",
        out,
        "--step",
        16,
        "--size",
        32,
    ]
    found = run(*words, *["--uint8"] * as_bytes, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert 500_128 < told["x"] < 500_192
    with rasterio.open(out) as src:
        assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert src.descriptions == ("similarity",)
        assert src.transform.a == 16
        assert src.shape == (10, 16)
        assert src.crs.to_epsg() == 32631
        assert src.tags()["query"].endswith("0.png")
        heat = src.read(1, masked=True) * (src.scales[0] if as_bytes else 1)
    assert heat.mask[0, 0]  # the corner without data
    assert not heat.mask[5:, :].any()
    strips = [float(heat[3:9, 4 * k + 1 : 4 * k + 3].mean()) for k in range(4)]
    assert int(np.argmax(strips)) == 2
    assert heat.max() == pytest.approx(told["highest"], abs=0.003)
    refused("exists already", *words)
    refused("is what it would be made from", *words[:5], scene, "--overwrite")
