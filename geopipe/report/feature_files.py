"""The vectors of a map bundle: features as files, and as a page to look at."""

from dataclasses import replace
from pathlib import Path

from geopipe.classes import ClassScheme
from geopipe.raster import Scene
from geopipe.raster.inputs import scene_names
from geopipe.raster.scene import opened
from geopipe.report.feature_map import read_layers, write_feature_map
from geopipe.report.map_report import FEATURES_PAGE
from geopipe.vectors.features import FeatureFiles, layer_names, write_features


def write_feature_files(
    scene: Scene,
    class_map: Path,
    folder: Path,
    scheme: ClassScheme,
    *,
    orthogonalize: bool,
    cores: Path | None = None,
) -> FeatureFiles:
    """Write what `write_features` writes, and ``features.html``, its layers over the scene.

    `cores`: as `footprint_tables` takes them. Raises SceneError or LabelError where a file cannot
    be read or written.
    """
    name = scene_names([scene.path])[scene.path]
    features = write_features(
        class_map, folder, scheme, name=name, orthogonalize=orthogonalize, cores=cores
    )
    colors = {
        layer: scheme.classes[class_id].color for class_id, layer in layer_names(scheme).items()
    }
    layers = read_layers(features.files["features"], colors)
    page = folder / FEATURES_PAGE
    with opened(class_map) as src:
        credit = src.tags().get("credit", "")
    write_feature_map(page, f"Features of {name}", scene, layers, credit)
    return replace(features, files=features.files | {"features_page": page})
