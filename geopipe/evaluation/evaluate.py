"""Compare a map with ground truth: pixels, building polygons or road lines."""

from pathlib import Path

from geopipe.classes import ClassScheme
from geopipe.errors import LabelError
from geopipe.evaluation.line_files import has_lines, layers_of
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.evaluation.objects import ObjectMetrics, evaluate_objects
from geopipe.evaluation.polygon_files import has_polygons
from geopipe.evaluation.road_accuracy import RoadMetrics, evaluate_roads
from geopipe.labels.source import is_raster
from geopipe.metrics import Metrics


def evaluate(
    mapped: Path,
    truth: Path,
    *,
    scheme: ClassScheme | None = None,
    area: Path | None = None,
    layer: str | None = None,
    all_are: str | None = None,
) -> Metrics | ObjectMetrics | RoadMetrics:
    """Compare by what `mapped` holds: lines only, polygons, or pixels.

    `all_are` is the class of every feature of `truth`, where it does not say it; of lines, every
    one is a road then.

    `evaluate_roads`, `evaluate_objects` and `evaluate_map` say what they raise.
    """
    if mapped.exists() and has_lines(mapped):
        return evaluate_roads(mapped, truth, scheme=scheme, area=area, layer=layer)
    if mapped.exists() and has_polygons(mapped):
        return evaluate_objects(mapped, truth, area=area, layer=layer, all_are=all_are)
    if mapped.exists() and (layers := layers_of(mapped)) and not is_raster(mapped):
        kinds = ", ".join(sorted(set(layers.values())))
        raise LabelError(
            f"{mapped} holds {kinds}, neither lines alone nor polygons",
            "give footprints, road lines, or a class map",
        )
    return evaluate_map(mapped, truth, scheme=scheme, area=area, layer=layer, all_are=all_are)
