"""Whatever is wrong: exit code 1, one line that says what to do, nothing written, nothing touched.

Each case writes its files into `box.inputs` and gives the words of a command that would write into
`box.out`.
"""

import json
import os
import re
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from safetensors.numpy import save_file
from tiny_place import LEFT, TOP, draw_place, fingerprints, write_scene

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

CASES = {}


def case(expected, **options):
    """Register a case by its name; `expected`: a pattern in the line of the error."""

    def put(make):
        CASES[make.__name__] = (make, expected, options)
        return make

    return put


@dataclass(frozen=True)
class Box:
    """Where a case puts its files, and a place that is in order."""

    inputs: Path
    out: Path
    scene: Path
    osm: Path
    model: Path

    def image(self, name="bad.tif", bands=3, shape=(80, 90), **options):
        data = np.random.default_rng(0).integers(1, 255, (bands, *shape)).astype(np.uint8)
        return write_scene(self.inputs / name, data, **options)

    def text(self, name, text):
        path = self.inputs / name
        path.write_text(text)
        return path

    def cut(self, path, share=0.6):
        target = self.inputs / f"cut{path.suffix}"
        target.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return target

    def vectors(self, name="bad.gpkg", *, crs="EPSG:2154", east=0.0, **columns):
        columns = columns or {"building": ["yes"]}
        box = shapely.box(LEFT + east + 10, TOP - 30, LEFT + east + 30, TOP - 10)
        frame = gpd.GeoDataFrame(columns, geometry=[box], crs=crs)
        frame.to_file(self.inputs / name)
        return self.inputs / name

    def map(self, scene=None, model=None, *more):
        return ["map", scene or self.scene, model or self.model, self.out / "map", *more]

    def labels(self, scene=None, osm=None, *more):
        return ["labels", scene or self.scene, osm or self.osm, self.out / "l.tif", *more]

    def run(self, *more, **tables):
        """A workflow of one scene; ``train={...}`` replaces its table."""
        train = {"scene": str(self.scene), "labels": str(self.osm), **tables.pop("train", {})}
        # With an enhancement tile, without which there is a warning.
        tables = {"enhance": {"scene": self.scene, "labels": self.osm}, **tables}
        lines = ['name = "w"', f'out = "{self.out}/made"', "[coarse]", "steps = 1", "batch = 2"]
        for name, table in {"train": train, **tables}.items():
            lines += [f"[{name}]", *(f"{k} = {json.dumps(str(v))}" for k, v in table.items())]
        return ["run", self.text("w.toml", "\n".join(lines)), *more]


@pytest.fixture
def box(drawn, tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    place = {}
    for kind in ("scene", "osm", "model"):
        original = getattr(drawn, kind)
        place[kind] = Path(shutil.copy(original, tmp_path / "in" / original.name))
    return Box(tmp_path / "in", tmp_path / "out", **place)


# -- scenes


@case(r"bad.tif has no CRS - .*EPSG")
def map_without_crs(box):
    return box.map(box.image(crs=None))


@case(r"bad.tif has no CRS - .*EPSG")
def labels_without_crs(box):
    return box.labels(box.image(crs=None))


@case(r"bad.tif has no CRS - .*EPSG")
def run_without_crs(box):
    return box.run(train={"scene": box.image(crs=None)})


@case(r"bad.tif has no geotransform - georeference it")
def map_without_place(box):
    return box.map(box.image(transform=rasterio.Affine.identity()))


@case(r"pixels of .* m cannot serve a net made for 1 m - .*nearer ground sample distance")
def map_of_giant_pixels(box):
    return box.map(box.image(transform=rasterio.Affine(900, 0, LEFT, 0, -900, TOP)))


@case(r"cannot read rows .*cut.tif.* - .*truncated or damaged")
def map_of_a_truncated_scene(box):
    return box.map(box.cut(box.scene))


@case(r"cannot read rows .*cut.tif.* - .*truncated or damaged")
def map_of_a_truncated_scene_by_a_worker(box):
    return box.map(box.cut(box.scene), None, "--workers", 1, "--nodata", 0)


@case(r"cannot read rows .*cut.tif.* - .*truncated or damaged")
def labels_on_a_truncated_scene(box):
    return box.labels(box.cut(box.scene))


@case(r"cannot read rows .*cut.tif.* - .*truncated or damaged")
def run_on_a_truncated_scene(box):
    return box.run(train={"scene": box.cut(box.scene)})


@case(r"cut.tif is not a raster that GDAL can open.* - ")
def map_of_a_scene_without_its_header(box):
    return box.map(box.cut(box.scene, 0.001))


@case(r"bad.tif is not a raster that GDAL can open.* - ")
def map_of_a_text(box):
    return box.map(box.text("bad.tif", "Dear sir,\nhere is the scene.\n"))


@case(r"bad.tif is not a raster that GDAL can open.* - ")
def labels_on_a_text(box):
    return box.labels(box.text("bad.tif", "no"))


@case(r"bad.tif is not a raster that GDAL can open.* - ")
def run_on_an_empty_file(box):
    return box.run(train={"scene": box.text("bad.tif", "")})


@case(r"in is a folder of rasters - name them: .*tif")
def map_of_a_folder(box):
    return box.map(box.inputs)


@case(r"there is no file none.tif - check the path")
def map_of_nothing(box):
    return box.map("none.tif")


@case(r"the train scene .*bad.tif is 40 x 45 px of 1 m, less than one training patch .* - ")
def run_on_a_scene_smaller_than_a_patch(box):
    return box.run(train={"scene": box.image()})


@case(r"the model takes 3 bands, .*bad.tif gives 2 - choose 3 with --bands")
def map_with_too_few_bands(box):
    return box.map(box.image(bands=2))


@case(r"the model takes 3 bands, .*scene.tif gives 1 - choose 3 with --bands")
def map_with_too_few_bands_chosen(box):
    return box.map(None, None, "--bands", "2")


@case(r"scene.tif has bands 1 to 3, not 4")
def map_with_a_band_that_is_not_there(box):
    return box.map(None, None, "--bands", "4,3,2")


@case(r"bad.tif holds complex numbers.* - ")
def map_of_complex_numbers(box):
    data = np.ones((3, 80, 80), np.complex64)
    return box.map(write_scene(box.inputs / "bad.tif", data))


# -- labels


@case(r"the labels do not overlap the scene: .*lon .* lat .* - ")
def labels_elsewhere(box):
    return box.labels(None, box.vectors(east=50_000))


@case(r"the labels do not overlap the scene: .*lon .* lat .* - ")
def run_with_labels_elsewhere(box):
    return box.run(train={"labels": box.vectors(east=50_000)})


@case(r"the train labels .*bad.gpkg have no pixel of class road on .*scene.tif - give labels",
      stays=None)  # fmt: skip
def run_without_a_label_of_a_class(box):
    return box.run(train={"labels": box.vectors()})


@case(r"bad.gpkg does not say which class a feature is: .*colour.* - .*building")
def labels_without_tags(box):
    return box.labels(None, box.vectors(colour=["red"]))


@case(r"bad.gpkg does not say .*: its column 'class' holds shed - .*building")
def labels_of_a_class_that_there_is_not(box):
    return box.labels(None, box.vectors(**{"class": ["shed"]}))


@case(r"bad.geojson.* - ")
def labels_of_broken_json(box):
    return box.labels(None, box.text("bad.geojson", '{"type": "FeatureCollection", "feat'))


@case(r"bad.gpkg.* - ")
def labels_of_a_text(box):
    return box.labels(None, box.text("bad.gpkg", "no"))


@case(r"bad.osm.* - ")
def labels_of_broken_osm(box):
    return box.labels(None, box.text("bad.osm", "<osm><node id='1' lat='4"))


@case(r"bad.shp.* has no CRS - set it")
def labels_without_a_crs(box):
    path = box.vectors("bad.shp")
    path.with_suffix(".prj").unlink()
    return box.labels(None, path)


@case(r"there is no file none.osm - check the path")
def labels_of_nothing(box):
    return box.labels(None, "none.osm")


@case(r"has no layer 'roads' - layers: osm")
def labels_of_a_layer_that_is_not_there(box):
    return box.labels(None, None, "--layer", "roads")


@case(r"there is no file none.geojson - check the path")
def labels_in_an_area_that_is_not_there(box):
    return box.labels(None, None, "--area", "none.geojson")


@case(r"none of the 1 polygons of .*bad.gpkg lies on the scene - ")
def labels_in_an_area_elsewhere(box):
    return box.labels(None, None, "--area", box.vectors(east=9000))


@case(r"no class scheme 'forests' - give a .toml file or one of buildings, buildings-roads")
def labels_of_unknown_classes(box):
    return box.labels(None, None, "--classes", "forests")


@case(r"c.toml: key 'classes.0.color' is missing")
def labels_of_classes_half_described(box):
    text = 'name = "c"\n[[classes]]\nname = "a"\n[[classes]]\nname = "b"\ncolor = "#000000"\n'
    return box.labels(None, None, "--classes", box.text("c.toml", text))


# -- outputs


@case(r"l.png would hold a GeoTIFF - call it .tif")
def labels_that_are_called_a_picture(box):
    return ["labels", box.scene, box.osm, box.out / "l.png"]


@case(r"l.tif exists already - give another name or --overwrite", stays=["l.tif"])
def labels_onto_a_file(box):
    (box.out / "l.tif").write_text("mine")
    return box.labels()


@case(r"scene.tif is the scene itself - give the labels another name")
def labels_onto_the_scene(box):
    return ["labels", box.scene, box.osm, box.scene, "--overwrite"]


@case(r"there is no folder .*none - make it first")
def labels_into_no_folder(box):
    return ["labels", box.scene, box.osm, box.out / "none" / "l.tif"]


@case(r"map holds files that are no map of geopipe's - give a new folder", stays=["map/a.doc"])
def map_onto_a_folder_of_others(box):
    (box.out / "map").mkdir()
    (box.out / "map" / "a.doc").write_text("mine")
    return box.map(None, None, "--overwrite")


@case(r"map exists already - give another folder or --overwrite", stays=["map/item.json"])
def map_onto_a_map(box):
    (box.out / "map").mkdir()
    (box.out / "map" / "item.json").write_text("{}")
    return box.map()


@case(r"map is a file - give a folder", stays=["map"])
def map_onto_a_file(box):
    (box.out / "map").write_text("mine")
    return box.map()


@case(r"cannot write .*Not a directory - choose", stays=["file"])
def map_below_a_file(box):
    (box.out / "file").write_text("mine")
    return ["map", box.scene, box.model, box.out / "file" / "map"]


@case(r"cannot write .* - choose")
def map_below_proc(box):
    return ["map", box.scene, box.model, "/proc/1/map"]


@case(r"cannot write .*: .* - choose", stays=["file"])
def run_below_a_file(box):
    (box.out / "file").write_text("mine")
    return box.run("--set", f"out={box.out}/file/made")


@case(r"cannot write into /proc/1/made: .* - choose")
def run_below_proc(box):
    return box.run("--set", "out=/proc/1/made")


@case(r"(there is no folder|cannot write) .* - ")
def labels_below_proc(box):
    return ["labels", box.scene, box.osm, "/proc/1/l.tif"]


# -- models


@case(r"there is no model none.safetensors - train one with geopipe run")
def map_with_no_model(box):
    return box.map(None, "none.safetensors")


@case(r"bad.safetensors is not a geopipe model.* - ")
def map_with_a_text_for_a_model(box):
    return box.map(None, box.text("bad.safetensors", "weights"))


@case(r"cut.safetensors is not a geopipe model.* - ")
def map_with_a_truncated_model(box):
    return box.map(None, box.cut(box.model))


@case(r"bad.safetensors is not a geopipe model.* - ")
def map_with_weights_of_another_program(box):
    save_file({"w": np.ones(3, np.float32)}, box.inputs / "bad.safetensors")
    return box.map(None, box.inputs / "bad.safetensors")


@case(r"bad.safetensors .* - ")
def map_with_a_header_that_is_no_table(box):
    path = box.inputs / "bad.safetensors"
    save_file({"w": np.ones(3, np.float32)}, path, {"geopipe": "[1]"})
    return box.map(None, path)


@case(r"bad.safetensors has format 99, this geopipe reads \d - use the geopipe version")
def map_with_a_model_of_the_future(box):
    path = box.inputs / "bad.safetensors"
    header = {"format": 99, "geopipe": "7.0"}
    save_file({"w": np.ones(3, np.float32)}, path, {"geopipe": json.dumps(header)})
    return box.map(None, path)


# -- where it runs


@case(r"core=300 is not a multiple of 256; try 256")
def map_with_an_odd_core(box):
    return box.map(None, None, "--core", 300)


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


# -- comparing


@case(r"there is no file none.gpkg - check the path")
def evaluate_without_truth(box):
    mapped = write_scene(box.inputs / "m.tif", np.zeros((1, 60, 60), np.uint8))
    return ["evaluate", mapped, "none.gpkg", "--classes", "buildings"]


@case(r"scene.tif names no classes - keep its .aux.xml next to it, or give a class scheme")
def evaluate_of_an_image(box):
    return ["evaluate", box.scene, box.osm]


@case(r"bad.tif is not a raster that GDAL can open.* - ")
def evaluate_of_a_text(box):
    return ["evaluate", box.text("bad.tif", "no"), box.osm, "--classes", "buildings"]


@case(r"scene.tif has 3 bands of uint8 - give one band of whole numbers")
def evaluate_of_colours(box):
    return ["evaluate", box.scene, box.osm, "--classes", "buildings"]


@case(
    r"scene.gpkg does not say .* - wanted: a column 'class' with nothing, roof, or a .*scheme with"
)
def evaluate_with_names_that_no_tag_leads_to(box):
    from geopipe.classes import ClassScheme
    from geopipe.raster.cog import write_class_cog

    raw = write_scene(box.inputs / "raw.tif", np.zeros((1, 60, 60), np.uint8), nodata=255)
    classes = [{"name": n, "color": "#102030"} for n in ("nothing", "roof")]
    scheme = ClassScheme.from_dict({"name": "tops", "classes": classes})
    write_class_cog(raw, box.inputs / "m.tif", scheme, {})
    return ["evaluate", box.inputs / "m.tif", box.osm]


@case(r"the labels do not overlap the scene.* - ")
def evaluate_elsewhere(box):
    mapped = write_scene(box.inputs / "m.tif", np.zeros((1, 60, 60), np.uint8))
    return ["evaluate", mapped, box.vectors(east=9000), "--classes", "buildings"]


@case(r"there is no file none.tif - check the path")
def evaluate_of_nothing(box):
    return ["evaluate", "none.tif", box.osm, "--classes", "buildings"]


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


@case(r"cannot read none.toml: No such file or directory - check the path")
def run_of_nothing(box):
    return ["run", "none.toml"]


@case(r"'area' is empty - give a path, or leave it out")
def run_with_an_empty_path(box):
    return box.run("--set", "train.area=")


@case(r"unknown key 'train.robust', which \[coarse\] has")
def run_with_a_key_of_another_table(box):
    return box.run("--set", "train.robust=1")


@case(r"unknown key 'coarse.step', did you mean 'steps'\?")
def run_with_a_misspelt_key(box):
    return box.run("--set", "coarse.step=5")


@case(r"coarse.steps: Input should be .*integer.*\(got 'many'\)")
def run_with_a_word_for_a_number(box):
    return box.run("--set", "coarse.steps=many")


@case(r"--set coarse.steps - write it as KEY=VALUE, e.g. seed=3")
def run_with_a_setting_without_a_value(box):
    return box.run("--set", "coarse.steps")


@case(r"core=300 is not a multiple of 256; try 256")
def run_with_an_odd_core(box):
    return box.run("--set", "map.core=300")


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


@case(r"training the coarse net: the loss is (nan|inf) at step .* - lower the learning rate",
      stays=None)  # fmt: skip
def run_with_a_learning_rate_too_high(box):
    return box.run("--set", "coarse.lr=1e30", "--set", "coarse.steps=12")


SAYS_WHAT_TO_DO = re.compile(
    r" - \w|; try \d|did you mean '|which \[coarse\]|is not one of|not both|Input should|bands "
    r"1 to \d|key '\S+' is missing|\(at line"
)


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_is_wrong_and_what_to_do(geopipe, box, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, expected, options = CASES[name]
    words = make(box)
    before, others = fingerprints(box.inputs), fingerprints(box.out)
    said = geopipe(*words)
    assert said.code == 1, said
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("error: ")
    assert re.search(expected, said.err), said.err
    if "map_planned" not in name:
        assert SAYS_WHAT_TO_DO.search(said.err), said.err
    assert fingerprints(box.inputs) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    stays = options.get("stays", [])
    if stays is None:
        left = {p.suffix for p in box.out.rglob("*") if p.is_file()}
        assert left <= {".tif", ".xml", ".json"}, "labels that are whole, and their record"
        assert not list(box.out.rglob("*.part*"))
        return
    assert fingerprints(box.out) == others
    files = sorted(str(p.relative_to(box.out)) for p in box.out.rglob("*") if p.is_file())
    assert files == stays or name.startswith("run")
    if name.startswith("map"):
        assert not [p for p in box.out.rglob("*") if p.is_dir() and not any(p.iterdir())]


# -- places that cannot be written, disks that are full


@pytest.mark.parametrize("command", ["map", "run"])
def test_a_folder_without_permission(geopipe, box, command, monkeypatch):
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(box.out)))
    said = geopipe(*getattr(box, command)())
    assert said.code == 1
    assert re.fullmatch(r"error: cannot write into .* - choose a folder .*\n", said.err)
    assert not [p for p in box.out.rglob("*") if p.is_file()]


@pytest.fixture
def small_disk():
    """``small_disk(n)``: from now on no file grows beyond n bytes, as when a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda n: resource.setrlimit(resource.RLIMIT_FSIZE, (n, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [2_000, 9_000, 60_000, 300_000])
@pytest.mark.parametrize("command", ["map", "labels", "run"])
def test_a_full_disk(geopipe, box, small_disk, command, limit):
    # Noise: nothing of it compresses well.
    scene, _ = draw_place(box.inputs, "scene", (300, 400))
    more = {"map": (None, None, "--scores", "--vectors"), "labels": (), "run": ()}[command]
    words = getattr(box, command)(*more)
    before = fingerprints(box.inputs)
    small_disk(limit)
    said = geopipe(*words)
    small_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    if said.code == 0:
        assert max(p.stat().st_size for p in box.out.rglob("*")) <= limit
        return
    assert said.code == 1, said
    assert said.out == ""
    # libtiff and GDAL, which are C, may add lines of their own.
    lines = [x for x in said.err.splitlines() if not x.startswith(("_tiff", "ERROR 1: TIFF"))]
    assert len(lines) == 1, said.err
    (line,) = lines
    assert re.fullmatch(r"error: .* - .*", line), said.err
    assert fingerprints(box.inputs) == before
    left = [p for p in box.out.rglob("*") if p.is_file()]
    assert not [p for p in left if "part" in str(p.relative_to(box.out)) or "tmp" in p.name]
    if command != "run":
        assert not left
    assert scene.exists()


# -- tracebacks


def test_a_traceback_only_for_those_who_ask(geopipe, box):
    words = box.map("none.tif")
    for more in ((), ("-v",)):
        said = geopipe(*more, *words)
        assert said.err == "error: there is no file none.tif - check the path\n"
    said = geopipe("-vv", *words)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Traceback (most recent call last):")
    assert "SceneError" in said.err
    assert said.err.endswith("error: there is no file none.tif - check the path\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MemoryError(), 1, "error: out of memory - use a smaller --core or fewer workers"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device"), 1, "error: .*No space left on device"),
    ],
    ids=["memory", "ctrl-c", "disk"],
)
def test_what_comes_from_outside(geopipe, box, monkeypatch, error, code, line):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("geopipe.raster.Scene.open", fails)
    said = geopipe(*box.map())
    assert said.code == code
    assert re.fullmatch(line + "\n", said.err), said.err
