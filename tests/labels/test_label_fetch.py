"""OSM from Overpass: asked once, never half kept. No test here leaves this machine."""

import json
import os

import geopandas as gpd
import osmnx
import pandas as pd
import pytest
import requests
import shapely

from geopipe.errors import LabelError, OutputError
from geopipe.labels import fetch_labels, open_labels
from geopipe.labels.overpass import _Answers


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder that answers are kept in; Overpass is a closed port of this machine."""
    monkeypatch.setattr(osmnx.settings, "overpass_url", "http://127.0.0.1:9/api")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "geopipe" / "osm"


def fetch_osm(plane, scheme):
    return fetch_labels("fetch", plane, scheme)


@pytest.fixture
def answer(mapped):
    """What osmnx returns: degrees, an index of kind and id, and columns that clash in a table."""
    frame = mapped.to_crs(4326)
    ids = [("way", 100 + i) for i in range(len(frame))]
    frame.index = pd.MultiIndex.from_tuples(ids, names=["element", "id"])
    return frame.assign(**{"name:en": "a", "name:EN": "b", "nodes": [[1, 2]] * len(frame)})


@pytest.fixture
def asked(monkeypatch, answer):
    """The questions put to Overpass."""
    questions = []

    def features_from_bbox(bbox, tags):
        questions.append((bbox, tags))
        assert not osmnx.settings.use_cache
        return answer

    monkeypatch.setattr(osmnx, "features_from_bbox", features_from_bbox)
    return questions


def test_the_question_and_the_answer(scheme, plane, asked, mapped):
    path = fetch_osm(plane, scheme)
    ((bbox, tags),) = asked
    west, south, east, north = plane.extent.to_crs(4326).boundingbox
    assert bbox == pytest.approx(
        (west - 0.0013, south - 0.0009, east + 0.0013, north + 0.0009), abs=3e-4
    )
    assert tags["building"] is True
    assert "residential" in tags["highway"]
    assert "footway" not in tags["highway"]
    labels = open_labels(path, scheme, plane)
    assert labels.counts == (0, 2, 2)
    assert labels.credit == "(c) OpenStreetMap contributors, ODbL 1.0"
    assert set(gpd.read_file(path).osm_type) == {"way"}


def test_the_same_scene_asks_once(cache, scheme, plane, asked):
    first = fetch_osm(plane, scheme)
    second = fetch_osm(plane, scheme)
    assert first == second
    assert len(asked) == 1
    assert os.listdir(cache) == [first.name]  # noqa: PTH208


def test_another_extent_or_scheme_asks_again(scheme, plane, asked):
    from geopipe.classes import load_scheme

    paths = {
        fetch_osm(plane, scheme),
        fetch_osm(plane, load_scheme("buildings")),
        fetch_osm(plane[:150, :], scheme),
    }
    assert len(paths) == len(asked) == 3


def test_a_cache_hit_does_not_touch_the_network(scheme, plane, asked, monkeypatch):
    path = fetch_osm(plane, scheme)

    def fail(*_, **__):
        raise AssertionError("asked again")

    monkeypatch.setattr(osmnx, "features_from_bbox", fail)
    assert fetch_osm(plane, scheme) == path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (requests.exceptions.ConnectionError("no route to host"), "no answer from Overpass"),
        (requests.exceptions.ReadTimeout("timed out"), r"no answer from Overpass .*timed out"),
        (osmnx._errors.ResponseStatusCodeError("400 Bad"), r"no answer from Overpass .*400 Bad"),
        (osmnx._errors.InsufficientResponseError("empty"), r"OSM has no building or highway"),
    ],
)
def test_no_answer(cache, scheme, plane, monkeypatch, error, message):
    def features_from_bbox(bbox, tags):
        raise error

    monkeypatch.setattr(osmnx, "features_from_bbox", features_from_bbox)
    with pytest.raises(LabelError, match=message) as caught:
        fetch_osm(plane, scheme)
    assert "file" in caught.value.hint
    assert list(cache.iterdir()) == []
    assert osmnx.settings.use_cache


def test_really_offline(cache, scheme, plane, monkeypatch):
    """A closed port of this machine: osmnx itself gives up at once, without a minute's pause."""
    with pytest.raises(LabelError, match=r"no answer from Overpass \(http://127\.0\.0\.1:9/api\)"):
        fetch_osm(plane, scheme)
    assert list(cache.iterdir()) == []


def test_nothing_half_written_when_writing_fails(cache, scheme, plane, asked, monkeypatch):
    import pyogrio

    def torn(frame, path, **_):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyogrio, "write_dataframe", torn)
    with pytest.raises(OutputError, match="the disk is full"):
        fetch_osm(plane, scheme)
    assert list(cache.iterdir()) == []


def test_a_cache_folder_that_cannot_be(tmp_path, scheme, plane, asked, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=r"cannot write .*osm-.*gpkg: .*folder is a file"):
        fetch_osm(plane, scheme)
    assert asked == []


def test_mixed_geometries_survive_the_cache(scheme, plane, answer, asked):
    answer.loc[("way", 100), "geometry"] = shapely.MultiPolygon([answer.geometry.iloc[0]])
    frame = gpd.read_file(fetch_osm(plane, scheme))
    assert set(frame.geom_type) == {"Polygon", "MultiPolygon", "LineString"}


@pytest.mark.parametrize(
    ("remark", "refused"), [("runtime error: Query run out of memory", True), ("old areas", False)]
)
def test_an_answer_that_is_cut_short(remark, refused, caplog):
    """Osmnx takes what came for all there is."""
    response = requests.Response()
    response.status_code = 200
    response._content = json.dumps({"elements": [], "remark": remark}).encode()
    if refused:
        with pytest.raises(LabelError, match=r"cut short: .*out of memory"):
            _Answers()(response)
    else:
        _Answers()(response)
        assert "old areas" in caplog.text
