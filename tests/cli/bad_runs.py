"""Outputs, machines and workflows that cannot be."""

import shutil

from bad_cases import Cases

case = Cases()


# -- outputs


@case(r"l.png would hold a GeoTIFF - call it .tif")
def labels_that_are_called_a_picture(box):
    return ["labels", box.scene, box.osm, "-o", box.out / "l.png"]


@case(r"l.tif exists already - give another name, or set --overwrite", stays=["l.tif"])
def labels_onto_a_file(box):
    (box.out / "l.tif").write_text("mine")
    return box.labels()


@case(r"scene.tif is what it would be made from - give another name")
def labels_onto_the_scene(box):
    return ["labels", box.scene, box.osm, "-o", box.scene, "--overwrite"]


@case(r"there is no folder .*none - make it first")
def labels_into_no_folder(box):
    return ["labels", box.scene, box.osm, "-o", box.out / "none" / "l.tif"]


@case(r"map holds files that are no map of geopipe's - give a new folder", stays=["map/a.doc"])
def map_onto_a_folder_of_others(box):
    (box.out / "map").mkdir()
    (box.out / "map" / "a.doc").write_text("mine")
    return box.map(None, None, "--overwrite")


@case(r"map exists already - give another folder, or set --overwrite", stays=["map/item.json"])
def map_onto_a_map(box):
    (box.out / "map").mkdir()
    (box.out / "map" / "item.json").write_text("{}")
    return box.map()


@case(r"map is a file - give a folder", stays=["map"])
def map_onto_a_file(box):
    (box.out / "map").write_text("mine")
    return box.map()


@case(r"cannot write .*its folder is a file - give", stays=["file"])
def map_below_a_file(box):
    (box.out / "file").write_text("mine")
    return ["map", box.scene, box.model, "-o", box.out / "file" / "map"]


@case(r"cannot write .* - choose")
def map_below_proc(box):
    return ["map", box.scene, box.model, "-o", "/proc/1/map"]


@case(r"cannot write .*: .* - choose", stays=["file"])
def run_below_a_file(box):
    (box.out / "file").write_text("mine")
    return box.run("--set", f"out={box.out}/file/made")


@case(r"cannot write into /proc/1/made: .* - choose")
def run_below_proc(box):
    return box.run("--set", "out=/proc/1/made")


@case(r"(there is no folder|cannot write) .* - ")
def labels_below_proc(box):
    return ["labels", box.scene, box.osm, "-o", "/proc/1/l.tif"]


# -- where it runs


@case(r"a tile size of 300 is not a multiple of 256; try 256")
def map_with_an_odd_core(box):
    return box.map(None, None, "--tile-size", 300)


@case(r"no device cuda:9: \d GPU\(s\) found - choose the device cpu")
def map_on_a_gpu_that_is_not_there(box):
    return box.map(None, None, "--device", "cuda:9")


@case(r"device 'tpu' is not one of auto, cpu, cuda:N")
def map_on_a_device_of_another_kind(box):
    return box.map(None, None, "--device", "tpu")


@case(r"give --workers or --scheduler, not both")
def map_by_workers_and_a_scheduler(box):
    return box.map(None, None, "--workers", 2, "--scheduler", "tcp://127.0.0.1:8786")


@case(r"workers=-1 is negative - 0 runs in this process")
def map_by_less_than_nobody(box):
    return box.map(None, None, "--workers", -1)


@case(r"no dask scheduler answers at no-address.* - ")
def map_by_a_scheduler_without_an_address(box):
    return box.map(None, None, "--scheduler", "no-address")


@case(r"none.tif")
def map_planned_for_nothing(box):
    return box.map("none.tif", None, "--dry-run")


# -- workflows


@case(r"w.toml is empty - start from workflows/new-scene.toml")
def run_of_an_empty_file(box):
    return ["run", box.text("w.toml", "")]


@case(r"w.toml is not valid TOML: .*line 2")
def run_of_a_file_that_is_not_toml(box):
    return ["run", box.text("w.toml", "name = 'x'\nout =\n")]


@case(r"w.toml is not a text file.* - ")
def run_of_a_picture(box):
    (box.inputs / "w.toml").write_bytes(b"\x89PNG\xff\xfe")
    return ["run", box.inputs / "w.toml"]


@case(r"there is no file none.toml - check the path")
def run_of_nothing(box):
    return ["run", "none.toml"]


@case(r"'area' is empty - give a path, or leave it out")
def run_with_an_empty_path(box):
    return box.run("--set", "train.area=")


@case(r"unknown key 'train.robust', which \[base\] has")
def run_with_a_key_of_another_table(box):
    return box.run("--set", "train.robust=1")


@case(r"unknown key 'base.step', did you mean 'steps'\?")
def run_with_a_misspelt_key(box):
    return box.run("--set", "base.step=5")


@case(r"base.steps: Input should be .*integer.*\(got 'many'\)")
def run_with_a_word_for_a_number(box):
    return box.run("--set", "base.steps=many")


@case(r"--set base.steps - write it as KEY=VALUE, e.g. seed=3")
def run_with_a_setting_without_a_value(box):
    return box.run("--set", "base.steps")


@case(r"a tile size of 300 is not a multiple of 256; try 256")
def run_with_an_odd_core(box):
    return box.run("--set", "map.tile_size=300")


@case(r"100 % of the \[test\] region is part of \[train\] too - move them apart")
def run_with_a_test_that_is_trained_on(box):
    twin = shutil.copy(box.scene, box.inputs / "twin.tif")
    return box.run(test={"scene": twin, "labels": box.osm})


@case(r"there is no file .*none.tif - check the path")
def run_with_a_scene_to_map_that_is_not_there(box):
    return box.run("--set", "map.scenes=none.tif")


@case(r"no device cuda:9")
def run_on_a_gpu_that_is_not_there(box):
    return box.run("--set", "device=cuda:9")


@case(
    r"training the base network: the loss is (nan|inf) at step .* - lower the learning rate",
    stays=None,
)
def run_with_a_learning_rate_too_high(box):
    return box.run("--set", "base.lr=1e30", "--set", "base.steps=12")
