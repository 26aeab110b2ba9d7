"""Compare a map with ground truth: pixels with pixels, or road lines with road lines."""

from pathlib import Path

from geopipe.classes import ClassScheme
from geopipe.evaluation.line_files import has_lines
from geopipe.evaluation.map_accuracy import evaluate_map
from geopipe.evaluation.road_accuracy import RoadMetrics, evaluate_roads
from geopipe.metrics import Metrics


def evaluate(
    mapped: Path,
    truth: Path,
    *,
    scheme: ClassScheme | None = None,
    area: Path | None = None,
    layer: str | None = None,
) -> Metrics | RoadMetrics:
    """`evaluate_roads` where `mapped` is a file of lines, else `evaluate_map`."""
    if mapped.exists() and has_lines(mapped):
        return evaluate_roads(mapped, truth, scheme=scheme, area=area, layer=layer)
    return evaluate_map(mapped, truth, scheme=scheme, area=area, layer=layer)
