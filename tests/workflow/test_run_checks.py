"""What a workflow tells before hours are spent."""

import shutil

import geopandas as gpd
import pytest
import rasterio
import rasterio.shutil
import shapely
from tiny_place import LEFT, TOP, draw_place

from geopipe.errors import ConfigError, GeopipeError, LabelError, SceneError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_test_region_that_is_trained_on_is_refused(run, tiles):
    scene, _ = draw_place(tiles, "near", (170, 150), east=50, seed=2)
    with pytest.raises(ConfigError, match=r"% of the \[test\] region is part of \[train\] too"):
        run(test__scene=scene, test__labels=tiles / "near.gpkg")
    copy = shutil.copy(tiles / "enhance.tif", tiles / "twin.tif")
    with pytest.raises(ConfigError, match=r"100 % of the \[test\] region is part of \[enhance\]"):
        run(test__scene=copy, test__labels=tiles / "enhance.gpkg")
    assert not (tiles / "made").exists()


def areas(tiles, **boxes):
    """Polygons in metres east and south of the corner."""
    for name, (left, top, right, bottom) in boxes.items():
        box = shapely.box(LEFT + left, TOP - bottom, LEFT + right, TOP - top)
        frame = gpd.GeoDataFrame(geometry=[box], crs="EPSG:2154").to_crs("EPSG:4326")
        frame.to_file(tiles / f"{name}.geojson")


def test_one_scene_trains_and_tests_in_areas_that_are_apart(run, tiles):
    draw_place(tiles, "wide", (180, 400))
    areas(tiles, west=(0, 0, 100, 90), east=(110, 0, 200, 90), middle=(90, 0, 130, 90))
    scene = {"scene": tiles / "wide.tif", "labels": tiles / "wide.gpkg"}
    settings = {f"{t}__{k}": v for t in ("train", "test") for k, v in scene.items()}
    settings |= {"train__area": tiles / "west.geojson", "test__area": tiles / "east.geojson"}
    outcome = run(**settings)
    assert len(outcome.mean_iou) == 3
    with rasterio.open(tiles / "made/labels/test.tif") as src:
        ids = src.read(1)
    assert (ids[:, :218] == 255).all()
    assert (ids[:, 222:398] != 255).all()
    settings["test__area"] = tiles / "middle.geojson"
    with pytest.raises(ConfigError, match=r"25 % of the \[test\] region is part of \[train\]"):
        run(**settings)


def test_a_training_scene_at_the_other_end_of_the_earth_is_apart(run, tiles):
    with rasterio.open(tiles / "train.tif") as src:
        data, profile = src.read(), src.profile
    far = {**profile, "crs": "EPSG:32719"}  # Chile
    far["transform"] = rasterio.transform.from_origin(300_000, 6_200_000, 0.5, 0.5)
    with rasterio.open(tiles / "far.tif", "w", **far) as out:
        out.write(data)
    box = shapely.box(300_010, 6_199_930, 300_030, 6_199_960)
    line = shapely.LineString([(300_000, 6_199_990), (300_090, 6_199_990)])
    frame = gpd.GeoDataFrame(
        {"class": ["building", "road"]}, geometry=[box, line], crs="EPSG:32719"
    )
    frame.to_file(tiles / "far.gpkg")
    outcome = run(train__scene=tiles / "far.tif", train__labels=tiles / "far.gpkg")
    assert len(outcome.mean_iou) == 3


def test_a_class_without_a_label_is_named(run, tiles):
    frame = gpd.read_file(tiles / "train.gpkg")
    frame[frame["building"].notna()].to_file(tiles / "houses.gpkg")
    with pytest.raises(
        LabelError,
        match=r"the train labels .*houses.gpkg have no pixel of class "
        r"road on .*train.tif",
    ) as caught:
        run(train__labels=tiles / "houses.gpkg")
    assert "a class scheme without it" in caught.value.hint
    assert not (tiles / "made/base.safetensors").exists()
    outcome = run(
        train__labels=tiles / "houses.gpkg",
        enhance__labels=tiles / "enhance.gpkg",
        classes="buildings",
    )
    assert len(outcome.mean_iou) == 3


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"train__scene": "none.tif"}, SceneError, "there is no file .*none.tif"),
        ({"map__scenes": "none.tif"}, SceneError, "there is no file .*none.tif"),
        ({"enhance__bands": "[1]"}, SceneError, r"enhance.tif gives 1 bands, the training .* 3"),
        ({"map__bands": "[1, 2]"}, SceneError, r"test.tif gives 2 bands, the training .* 3"),
        ({"device": "cuda:7"}, ConfigError, "no device cuda:7"),
        ({"classes": "nonsense"}, ConfigError, "no class scheme 'nonsense'"),
        ({"test__bands": "[1, 2, 9]"}, SceneError, "bands 1 to 3, not 9"),
        ({"map__tile_size": 300}, GeopipeError, "a tile size of 300 is not a multiple of 256"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(run, tiles, settings, kind, text):
    with pytest.raises(kind, match=text):
        run(**settings)
    assert not (tiles / "made").exists()


@pytest.mark.parametrize("role", ["train", "enhance"])
def test_a_scene_smaller_than_a_patch_is_told(run, tiles, role):
    scene, osm = draw_place(tiles, "small", (120, 200), east=500)
    with pytest.raises(SceneError, match=rf"the {role} scene .* 60 x 100 px .* patch of 64 x 64"):
        run(**{f"{role}__scene": scene, f"{role}__labels": osm})
    assert not (tiles / "made").exists()


def test_labels_that_are_not_there_are_told_before_training(run, tiles):
    with pytest.raises(LabelError, match=r"there is no file .*none.gpkg"):
        run(test__labels="none.gpkg")
    assert not (tiles / "made/base.safetensors").exists()


def test_a_step_that_writes_at_a_place_that_cannot_be(run, tiles):
    (tiles / "file").write_text("")
    with pytest.raises(SceneError, match="cannot write into"):
        run(out=tiles / "file" / "made")


def test_an_out_folder_with_files_of_ones_own_is_refused(run, tiles):
    mine = tiles / "home"
    (mine / "labels").mkdir(parents=True)
    (mine / "labels/train.tif").write_text("drawn by hand")
    with pytest.raises(ConfigError, match="holds files that no workflow made"):
        run(out=mine)
    assert (mine / "labels/train.tif").read_text() == "drawn by hand"
