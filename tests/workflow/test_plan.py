"""What a run would do: steps, their inputs, and options that are keys."""

import pytest
import rasterio
import rasterio.shutil
from run_world import STEPS
from tiny_place import fingerprints

from geopipe.classes import load_scheme
from geopipe.errors import ConfigError, LabelError, SceneError
from geopipe.workflow import sources
from geopipe.workflow.run import plan_workflow
from geopipe.workflow.schema import LabelledScene, SceneSettings, load_workflow
from geopipe.workflow.sources import label_files, scene_files

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_source_of_a_vrt_is_an_input(tiles):
    source = tiles / "train.tif"
    vrt = tiles / "train.vrt"
    rasterio.shutil.copy(str(source), str(vrt), driver="VRT")
    files = scene_files(SceneSettings(scene=str(vrt)))
    assert {vrt.resolve(), source.resolve()} <= {f.resolve() for f in files}


def test_what_belongs_to_a_shapefile_is_an_input(tiles):
    for suffix in (".shp", ".dbf", ".prj"):
        (tiles / f"labels{suffix}").touch()
    choice = LabelledScene(scene=str(tiles / "train.tif"), labels=tiles / "labels.shp")
    names = {f.name for f in label_files(choice, load_scheme("buildings-roads"))}
    assert names == {"labels.shp", "labels.dbf", "labels.prj"}


def test_a_plan_names_the_steps_and_writes_nothing(tiles):
    before = fingerprints(tiles)
    plan = plan_workflow(load_workflow(tiles / "tiny.toml"))
    assert plan.steps == tuple((name, False) for name in STEPS)
    assert plan.estimate is None  # a few steps are not worth measuring
    assert fingerprints(tiles) == before


def test_a_plan_knows_what_is_unchanged(made):
    plan = plan_workflow(load_workflow(made.parent / "tiny.toml", {"map.vectors": "true"}))
    assert dict(plan.steps) == {name: name != "map-test" for name in STEPS}


def test_labels_of_every_role_are_opened_before_any_is_aligned(run, tiles, monkeypatch):
    (tiles / "enhance.gpkg").write_bytes(b"nothing")
    monkeypatch.setattr(sources, "aligned", lambda *_: pytest.fail("aligned before"))
    with pytest.raises(LabelError, match="enhance"):
        run()


def test_scenes_that_cannot_be_read_are_left_out_where_that_is_allowed(tiles):
    scenes = f'["{tiles / "test.tif"}", "{tiles / "gone.tif"}"]'
    with pytest.raises(SceneError, match=r"gone\.tif"):
        plan_workflow(load_workflow(tiles / "tiny.toml", {"map.scenes": scenes}))
    settings = {"map.scenes": scenes, "map.skip_bad": "true"}
    plan = plan_workflow(load_workflow(tiles / "tiny.toml", settings))
    assert [name for name, _ in plan.steps if name.startswith("map-")] == ["map-test"]
    assert list(plan.left_out) == [str(tiles / "gone.tif")]
    none = {"map.scenes": f'["{tiles / "gone.tif"}"]', "map.skip_bad": "true"}
    with pytest.raises(SceneError, match="no scene is left"):
        plan_workflow(load_workflow(tiles / "tiny.toml", none))


def test_options_of_map_are_keys(tiles):
    settings = {"map.ram": "4GB", "map.threads": "3", "map.orthogonalize": "false"}
    chosen = load_workflow(tiles / "tiny.toml", settings).map
    assert (chosen.ram, chosen.threads, chosen.orthogonalize) == (4000, 3, False)
    with pytest.raises(ConfigError, match="4GB or 800MB"):
        load_workflow(tiles / "tiny.toml", {"map.ram": "much"})
