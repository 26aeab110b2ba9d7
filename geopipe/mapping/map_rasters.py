"""The rasters of a map as files for a GIS: Cloud Optimized GeoTIFFs and their styles for QGIS."""

from pathlib import Path

from geopipe.checkpoint import Checkpoint
from geopipe.mapping.scene import MapFiles
from geopipe.raster.cog import write_class_cog, write_confidence_cog, write_score_cog
from geopipe.raster.style import CERTAINTY, write_qml, write_ramp_qml


def write_map_rasters(
    files: MapFiles, model: Checkpoint, folder: Path, tags: dict[str, str]
) -> dict[str, Path]:
    """Write the rasters of `files` into `folder`, each with its style; the paths by asset key.

    ``classes.tif`` with names and colours, ``confidence.tif`` and ``scores.tif`` where there are
    any. Each gets `tags`.
    """
    assets = {"classes": folder / "classes.tif"}
    write_class_cog(files.classes[-1], assets["classes"], model.scheme, tags)
    write_qml(folder / "classes.qml", model.scheme)
    assets["style"] = folder / "classes.qml"
    if files.confidence:
        assets["confidence"] = folder / "confidence.tif"
        write_confidence_cog(files.confidence, assets["confidence"], tags)
        assets["confidence_style"] = folder / "confidence.qml"
        style = assets["confidence_style"]
        write_ramp_qml(style, 1, 0, 1, ramp=CERTAINTY, transparent=False)
    if files.scores:
        assets["scores"] = folder / "scores.tif"
        write_score_cog(files.scores, assets["scores"], model.scheme, tags)
        band = 2 if model.scheme.background == 0 else 1
        ramp = ("#ffffff", model.scheme.classes[band - 1].color)
        assets["scores_style"] = folder / "scores.qml"
        write_ramp_qml(assets["scores_style"], band, 0, 1, ramp=ramp)
    return assets
