"""Scenes, labels, models and maps that are not what they should be."""

import json

import numpy as np
import rasterio
from bad_cases import Cases
from safetensors.numpy import save_file
from tiny_place import LEFT, TOP, write_scene

case = Cases()


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


@case(
    r"the train labels .*bad.gpkg have no pixel of class road on .*scene.tif - give labels",
    stays=None,
)
def run_without_a_label_of_a_class(box):
    return box.run(train={"labels": box.vectors()})


@case(r"bad.gpkg does not say which class a feature is: .*colour.* - .*building")
def labels_without_tags(box):
    return box.labels(None, box.vectors(colour=["red"]))


@case(r"bad.gpkg does not say .*: its columns are class \(shed\) - .*building")
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


# -- models


@case(r"there is no model none.safetensors - give the file of a model; geopipe train, .* makes one")
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


@case(r"scene.gpkg does not say .* wanted: a column 'class' with nothing, roof, or a .*scheme with")
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
