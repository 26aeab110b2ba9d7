"""How well a map agrees with the truth."""

from pathlib import Path

from geopipe.api.html import Facts, as_html, as_text
from geopipe.api.labels import Labels
from geopipe.api.mapping import MapResult
from geopipe.classes import load_scheme
from geopipe.evaluation import map_accuracy as raster_evaluation
from geopipe.metrics import Metrics


class MapAccuracy(Metrics):
    """The confusion matrix of a map (rows are the truth) and the figures that follow from it."""

    def _facts(self) -> Facts:
        lost = [
            f"IoU {_percent(i)}, F1 {_percent(f)}" for i, f in zip(self.iou, self.f1, strict=True)
        ]
        return [
            ("overall accuracy", _percent(self.overall_accuracy)),
            ("mean IoU", _percent(self.mean_iou)),
            ("mean F1", _percent(self.mean_f1)),
            ("kappa", f"{self.kappa:.4f}"),
            *zip(self.names, lost, strict=True),
            ("pixels", f"{self.pixels:,} compared, {self.ignored:,} left out"),
        ]

    def __repr__(self) -> str:
        return as_text("geopipe.MapAccuracy", self._facts())

    def _repr_html_(self) -> str:
        return as_html("geopipe.MapAccuracy", self._facts())


def evaluate(
    class_map: MapResult | str | Path,
    truth: Labels | str | Path,
    *,
    classes: str | Path | None = None,
    area: str | Path | None = None,
    layer: str | None = None,
    all_are: str | None = None,
) -> MapAccuracy:
    """Compare a class map with the truth, pixel by pixel, as ``geopipe evaluate``.

    Args:
        class_map: A map, or its class raster.
        truth: A raster of class ids or vectors, on any grid.
        classes: A class scheme; default the classes that the map names (or the labels').
        area: Polygons to which the comparison is limited.
        layer: One layer of a GeoPackage of truth; default all.
        all_are: The class of every feature of truth, of vectors that do not say it.

    Raises:
        LabelError: Map and truth do not overlap, or one holds a class that is not known.
        ConfigError: The map names no classes and `classes` is not given.
    """
    path = class_map.classes if isinstance(class_map, MapResult) else class_map
    if isinstance(truth, Labels):
        layer, area, all_are = layer or truth.layer, area or truth.area, all_are or truth.all_are
        truth = truth.path
    metrics = raster_evaluation.evaluate_map(
        Path(path),
        Path(truth),
        scheme=load_scheme(classes) if classes else None,
        area=Path(area) if area else None,
        layer=layer,
        all_are=all_are,
    )
    return MapAccuracy(metrics.names, metrics.matrix, metrics.ignored)


def _percent(share: float) -> str:
    return "n/a" if share != share else f"{100 * share:.2f} %"
