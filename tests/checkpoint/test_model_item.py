"""The STAC item beside a model: valid, complete, and what maps point to."""

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pystac
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from tiny_place import draw_place

from geopipe.checkpoint.stac_item import model_item_path, write_model_item
from geopipe.mapping import Budget, Engine
from geopipe.raster import Scene
from geopipe.workflow.bundle import MapOptions, write_bundle

SCHEMA = json.loads(Path(__file__).with_name("mlm_item.json").read_text())
PLACE = GeoBox((700, 900), Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000), "EPSG:2154")


def validate(item):
    jsonschema.Draft7Validator(SCHEMA).validate(item)
    core = get_local_schema_cache()
    registry = Registry().with_resources([(u, Resource.from_contents(s)) for u, s in core.items()])
    (schema,) = (s for uri, s in core.items() if uri.endswith("/item.json"))
    jsonschema.Draft7Validator(schema, registry=registry).validate(item)


@pytest.fixture
def saved(tmp_path, make_model):
    def save(name="base", **fields):
        path = tmp_path / f"{name}.safetensors"
        make_model(**fields).save(path)
        return path

    return save


def test_the_item_says_what_the_model_takes_and_gives(saved):
    note = {"base": {"steps": 7, "lr": 0.01}, "credit": "(c) OpenStreetMap contributors, ODbL"}
    mean, std = (80.0, 90.0, 100.0), (30.0, 40.0, 50.0)
    base = saved(iterations=0, mean=mean, std=std)
    path = saved("refined", mean=mean, std=std, gsd=0.5, provenance=note)
    made = write_model_item(
        path,
        place=PLACE,
        training_data={"scene": "town.tif", "labels": "osm.gpkg"},
        derived_from=[base],
        metrics={"mean_iou": 0.6},
    )
    assert made == path.with_name("refined.stac.json")
    item = json.loads(made.read_text())
    validate(item)
    assert pystac.Item.from_dict(item).bbox[0] == pytest.approx(4.13, abs=0.1)
    properties = item["properties"]
    (image,), (scores,) = properties["mlm:input"], properties["mlm:output"]
    assert image["bands"] == ["red", "green", "blue"]
    assert image["value_scaling"][2] == {"type": "z-score", "mean": 100.0, "stddev": 50.0}
    assert [c["name"] for c in scores["classification:classes"]] == [
        "background",
        "building",
        "road",
    ]
    assert scores["result"]["shape"] == [-1, 3, -1, -1]
    assert properties["mlm:architecture"] == "MnihCNN + RefinementRNN"
    assert properties["mlm:hyperparameters"] == {"base": {"steps": 7, "lr": 0.01}}
    assert (properties["gsd"], properties["geopipe:metrics"]) == (0.5, {"mean_iou": 0.6})
    asset = item["assets"]["model"]
    assert asset["href"] == "./refined.safetensors"
    assert asset["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    hrefs = {link["rel"]: link["href"] for link in item["links"]}
    assert hrefs["derived_from"] == "./base.stac.json"
    assert "odbl" in hrefs["license"]


def test_every_kind_of_bands_and_names_gives_a_valid_item(saved):
    for fields in ({"bands": 1}, {"bands": 5, "dtype": "uint16"}, {"iterations": 0}):
        validate(json.loads(write_model_item(saved("Städte 2", **fields)).read_text()))


def test_the_schema_refuses_what_the_extension_does(saved):
    item = json.loads(write_model_item(saved()).read_text())
    validate(item)

    def broken(change):
        other = copy.deepcopy(item)
        change(other)
        with pytest.raises(jsonschema.ValidationError):
            validate(other)

    broken(lambda i: i["assets"]["model"].pop("mlm:artifact_type"))
    broken(lambda i: i["assets"]["model"]["roles"].remove("mlm:model"))
    broken(lambda i: i["properties"].pop("mlm:input"))
    broken(lambda i: i["properties"].update({"mlm:unknown": 1}))
    broken(lambda i: i["properties"]["mlm:input"][0]["value_scaling"][0].pop("stddev"))
    classes = item["properties"]["mlm:output"][0]["classification:classes"]
    assert [c["description"] for c in classes] == ["background", "building", "road"]
    for key in ("value", "name", "description"):
        broken(
            lambda i, k=key: i["properties"]["mlm:output"][0]["classification:classes"][0].pop(k)
        )
    broken(lambda i: i["stac_extensions"].pop())
    broken(lambda i: i["assets"]["model"].update({"mlm:name": "x y z"}))


def test_equal_items_are_left_alone(saved):
    path = saved()
    made = write_model_item(path)
    before = made.stat().st_mtime_ns
    assert write_model_item(path).stat().st_mtime_ns == before


def test_a_map_points_to_the_item_of_its_model(tmp_path, saved):
    path = saved(iterations=0, gsd=2.0)
    write_model_item(path)
    scene = Scene.open(draw_place(tmp_path, "scene", (64, 80))[0])
    options = MapOptions(Engine("cpu", budget=Budget(256)))
    for number, linked in enumerate((True, False)):
        folder = tmp_path / "maps" / str(number)
        write_bundle(scene, path, folder, replace(options))
        item = json.loads((folder / "item.json").read_text())
        hrefs = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
        assert hrefs == (["../../base.stac.json"] if linked else [])
        assert all((folder / href).is_file() for href in hrefs)
        model_item_path(path).unlink(missing_ok=True)
