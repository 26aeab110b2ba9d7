"""--ram and --vram as a user types them, and what --dry-run tells of them."""

import json

import pytest
from tiny_place import fingerprints

from geopipe.errors import ConfigError
from geopipe.mapping import Budget
from geopipe.mapping import scene as mapping

pytestmark = pytest.mark.usefixtures("one_thread")


def plan(geopipe, place, folder, *more):
    words = ["map", place.scene, place.model, "-o", folder / "map", "--dry-run", "--json", *more]
    said = geopipe(*words)
    assert said.exit_code == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [
        ("900", 900),
        ("900MB", 900),
        ("900 mb", 900),
        ("1.5GB", 1500),
        ("2g", 2000),
        ("512m", 512),
        ("1GiB", 1073),
        ("600MiB", 629),
        ("0.6 GB", 600),
    ],
)
def test_sizes_are_read_as_they_are_written(place, geopipe, tmp_path, monkeypatch, text, megabytes):
    def fit(budget, *_):
        raise ConfigError(f"{budget.ram_mb} and {budget.vram_mb}")

    monkeypatch.setattr(Budget, "fit", fit)
    words = [
        "map",
        place.scene,
        place.model,
        "-o",
        tmp_path / "map",
        "--ram",
        text,
        "--vram",
        "6GB",
    ]
    assert geopipe(*words).stderr == f"error: {megabytes} and 6000\n"


@pytest.mark.parametrize("text", ["", "lots", "4TB", "-1GB", "0", "1,5GB", "GB", "4 GB more"])
def test_other_words_are_wrong_usage(place, geopipe, tmp_path, text):
    said = geopipe("map", place.scene, place.model, "-o", tmp_path / "map", "--ram", text)
    assert said.exit_code == 2
    assert "4GB or 800MB" in said.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_a_run_would_take_and_writes_nothing(place, geopipe, tmp_path):
    before = fingerprints(place.scene.parent)
    large = plan(geopipe, place, tmp_path, "--threads", 2)
    small = plan(geopipe, place, tmp_path, "--threads", 2, "--ram", "450MB")
    assert large["core_px"] == 1024
    assert large["memory_mb"] > 450 >= small["memory_mb"]
    assert small["core_px"] < 1024
    assert small["tiles"] > large["tiles"]
    assert small["halo_px"] == large["halo_px"]
    assert small["vram_mb"] == 0
    assert not list(tmp_path.iterdir())
    assert fingerprints(place.scene.parent) == before
    said = geopipe("map", place.scene, place.model, "-o", tmp_path / "map", "--dry-run")
    assert [line.split() for line in said.stdout.splitlines() if "tiles" in line] == [
        ["tiles", "1"],
        ["tiles", "at", "once", "1"],
    ]


def test_a_run_keeps_to_what_its_plan_says(place, geopipe, tmp_path, monkeypatch):
    ram, seen = ("--threads", 2, "--ram", "450MB"), []
    told, works = plan(geopipe, place, tmp_path, *ram), mapping.run_tiles

    def looks(job, tiles, workers, *more):
        tiles = list(tiles)
        seen.append((len(tiles), tiles[0].core.width, workers.threads))
        return works(job, tiles, workers, *more)

    monkeypatch.setattr(mapping, "run_tiles", looks)
    said = geopipe("map", place.scene, place.model, "-o", tmp_path / "map", *ram)
    assert said.exit_code == 0, said.stderr
    assert seen == [(told["tiles"], told["core_px"], told["tiles_at_once"])]


def test_too_little_is_an_error_with_what_is_needed(place, geopipe, tmp_path):
    for ram, more in (("300MB", ()), ("700MB", ("--workers", 4)), ("440MB", ("--tile-size", 1024))):
        said = geopipe("map", place.scene, place.model, "-o", tmp_path / "map", "--ram", ram, *more)
        assert (said.exit_code, said.stdout) == (1, "")
        assert said.stderr.startswith(f"error: {ram[:3]} MB of memory are too little: tiles of ")
        assert f"tiles of {1024 if '--tile-size' in more else 256} px take " in said.stderr
        assert " - give more" in said.stderr
        assert ("fewer --workers" in said.stderr) == ("--workers" in more)
    assert not list(tmp_path.iterdir())
