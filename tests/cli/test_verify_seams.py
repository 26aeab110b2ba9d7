"""``geopipe verify-seams``: figures on stdout, exit code 1 where there are seams."""

import json
import re

import pytest
import rasterio
from tiny_nets import Blind, Padding, Squeezing, Tiny, tiny_net, with_net
from torch import nn

from geopipe.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def verify(geopipe, place, *words):
    return geopipe("verify-seams", place.scene, place.model, "--device", "cpu", *words)


def test_tiles_that_agree_are_said_to(geopipe, drawn):
    said = verify(geopipe, drawn)
    assert said.code == 0, said.err
    assert said.err == ""
    lines = said.out.splitlines()
    assert "rows 0-180, columns 0-200 of" in lines[0]
    assert "valid px compared, 2 x 2 of them per net px" in lines[1]
    assert "halo 36 px declared, 36 measured; stride 4" in lines[2]
    table = [line for line in lines if line.startswith(("one window", "256", "512", "1024"))]
    assert len(table) == 5
    # Kernels that sum in another order than the whole may flip a tie, alike in every tiling.
    changed = {tuple(line.split()[-2:]) for line in table}
    assert changed in ({("0", "0")}, {("1", "0")})
    assert re.match(r"[0-5] changed pixels in 8 tiles; max \|difference\| ", lines[-1])


def test_figures_for_machines(geopipe, drawn):
    said = verify(geopipe, drawn, "--json", "--tile-size", "256", "--crop", "64", "--at", "90,100")
    assert said.code == 0, said.err
    assert said.err == ""
    report = json.loads(said.out)
    assert report["ok"] is True
    assert report["errors"] == 0
    assert report["max_difference"] < report["tolerance"] < 5e-5
    assert report["crop"] == {"row": 58, "col": 68, "height": 64, "width": 64}
    assert [w["core"] for w in report["tilings"]] == [64, 256, 256]
    assert report["scene"] == str(drawn.scene)


def test_cores_may_be_chosen(geopipe, drawn):
    said = verify(
        geopipe, drawn, "--json", "--tile-size", "512", "--tile-size", "768", "--crop", "40"
    )
    assert [w["core"] for w in json.loads(said.out)["tilings"]] == [40, 512, 768, 512]


def test_bands_and_holes_may_be_told(geopipe, drawn):
    with rasterio.open(drawn.scene) as src:
        value = int(src.read(1)[60, 60])
    few = json.loads(
        verify(geopipe, drawn, "--json", "--bands", "1,1,1", "--nodata", value, "--crop", "80").out
    )
    assert few["pixels"] < 80 * 80 - 1


@pytest.fixture
def broken(drawn, monkeypatch):
    """``broken(net)``: the drawn place, whose model has another net."""

    def swap(net):
        model = with_net(Checkpoint.load(drawn.model), net)
        monkeypatch.setattr(Checkpoint, "load", lambda _: model)
        # One net per process is kept by path and digest: the map's must not be another one.
        monkeypatch.setattr("geopipe.checkpoint.model_file.file_hash", lambda _: f"{id(net)}")
        return drawn

    return swap


@pytest.mark.parametrize("net", [(Tiny(4), 0, Blind), (Padding(4), 0)])
@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
def test_seams_are_an_error_after_the_figures(geopipe, broken, net, words):
    said = verify(geopipe, broken(tiny_net(*net)), "--tile-size", "256", *words)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: tiles and the whole image do not match: ")
    if words:
        report = json.loads(said.out)
        assert report["ok"] is False
        assert f": {report['errors']} pixels have another class" in said.err
    else:
        assert "changed pixels in 6 tiles" in said.out


def test_layers_that_look_everywhere_are_told(geopipe, broken):
    net = tiny_net(Squeezing(4, nn.InstanceNorm2d(6)))
    said = verify(geopipe, broken(net), "--tile-size", "256")
    assert said.code == 1
    assert "looks at all of a tile: base.conv2.1: InstanceNorm2d" in said.out
    assert "the map of this model has seams" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tile-size", "300"], "a tile size of 300 is not a multiple of 256; try 256"),
        (["--crop", "9999"], "take 1 to"),
        (["--crop", "20", "--at", "180,0"], "not in the scene of 180 x 200 px"),
        (["--crop", "9", "--at", "5,5"], "no valid pixel - compare another place"),
        (["--nodata", "x"], "is not a valid float"),
        (["--at", "7"], "give a row and a column, e.g. 2000,3000"),
    ],
)
def test_bad_words_are_told_in_one_line(geopipe, drawn, words, says):
    said = verify(geopipe, drawn, *words)
    usage = words[0] == "--nodata" or words == ["--at", "7"]
    assert said.code == (2 if usage else 1)
    assert says in said.err
    assert said.out == ""
    assert usage or said.err.count("\n") == 1
