"""The page of a search result or an index evaluation: one self-contained HTML file."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from markupsafe import Markup
from PIL import Image

from geopipe.errors import SceneError
from geopipe.report.figures import Curve, Picture, chart, photo
from geopipe.report.map_report import downscale
from geopipe.report.page import render, write_page
from geopipe.retrieve.distance import DISTANCE_NAME
from geopipe.retrieve.evaluate import IndexEvaluation
from geopipe.retrieve.hits import polygon
from geopipe.retrieve.measures import RetrievalMetrics
from geopipe.retrieve.query import Hit, Retriever, SearchResult

_SIDE = 140
"""Pixels of the longer side of a thumbnail."""
_MAP_PX = 900
_MAPS = 6
"""Scenes whose maps are drawn: those with most hits."""


@dataclass(frozen=True)
class _Query:
    role: str
    name: str
    picture: Picture | None


@dataclass(frozen=True)
class _HitEntry:
    """A hit on the page."""

    rank: int
    number: int
    distance: float
    similarity: float
    class_name: str
    place: str
    picture: Picture | None


@dataclass(frozen=True)
class _Shape:
    points: str
    colour: str
    opacity: float
    label: str
    x: float
    y: float
    says: str


@dataclass(frozen=True)
class _Map:
    title: str
    says: str
    width: int
    height: int
    line: float
    font: float
    background: Picture | None
    shapes: tuple[_Shape, ...]


@dataclass(frozen=True)
class _Page:
    """What there is to show; an empty field is a section less."""

    title: str
    summary: str
    notes: tuple[str, ...] = ()
    queries: tuple[_Query, ...] = ()
    hits: tuple[_HitEntry, ...] = ()
    maps: tuple[_Map, ...] = ()
    chart: Markup | None = None
    last: int = 0
    table: tuple[tuple[str, ...], ...] = ()


def write_result(path: Path, result: SearchResult, retriever: Retriever) -> None:
    """Write what was asked, the hits, and maps of where they are; SceneError where it cannot be."""
    config = retriever.model.config
    page = _Page(
        "Where else does this occur?",
        f"{len(result.hits)} nearest of {result.chips:,} chips, by {config.feature} of "
        f"{config.backbone}; d is the {DISTANCE_NAME}, s the similarity (1 is the same).",
        result.notes,
        tuple(_Query(e.role, e.name, thumbnail(e.image)) for e in result.examples),
        tuple(_hit_entry(h, retriever) for h in result.hits),
        tuple(_maps(result)),
    )
    write_page(path, render("retrieval.html", page=page))


def write_evaluation(path: Path, evaluation: IndexEvaluation) -> None:
    """Write figures by class and the precision-recall plot; SceneError where it cannot be."""
    metrics = evaluation.metrics
    page = _Page(
        "How good the answers are",
        f"mAP {100 * metrics.mean_ap:.1f} %, ANMRR {metrics.anmrr:.3f}, over {len(metrics.ap):,} "
        f"queries among {evaluation.labelled:,} chips; {evaluation.model['feature']} of "
        f"{evaluation.model['backbone']}.",
        tuple(evaluation.warnings()),
        chart=Markup(chart(pr_curve([("all classes", metrics)]), "pr")),
        last=int(metrics.retrieved[-1]) if len(metrics.retrieved) else 0,
        table=table_of(metrics),
    )
    write_page(path, render("retrieval.html", page=page))


def pr_curve(rankings: Sequence[tuple[str, RetrievalMetrics]]) -> Curve:
    """The precision-recall curve of one or several rankings."""
    return Curve(
        "Precision and recall",
        "recall",
        "precision",
        tuple(
            (name, tuple(j.recall.mean(0).tolist()), tuple(j.precision.mean(0).tolist()))
            for name, j in rankings
        ),
    )


def table_of(metrics: RetrievalMetrics) -> tuple[tuple[str, ...], ...]:
    """Figures by class as text, head and mean included."""
    tens = np.flatnonzero(metrics.retrieved == 10)
    rows = [("class", "queries", "mAP %", "ANMRR", "precision at 10")]
    for name, class_metrics in (*metrics.by_class.items(), ("all", metrics)):
        precision_at_10 = f"{class_metrics.precision[:, tens[0]].mean():.3f}" if len(tens) else "-"
        ap, nmrr = f"{100 * class_metrics.mean_ap:.1f}", f"{class_metrics.anmrr:.3f}"
        rows.append((name, str(len(class_metrics.ap)), ap, nmrr, precision_at_10))
    return tuple(rows)


def thumbnail(image: np.ndarray | None) -> Picture | None:
    """`image` (3, h, w) uint8 as a small JPEG; one that is smaller is enlarged."""
    if image is None:
        return None
    pixels = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)), "RGB")
    scale = _SIDE / max(pixels.size)
    size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return photo(np.asarray(pixels.resize(size, resampling)).transpose(2, 0, 1))


def _hit_entry(hit: Hit, retriever: Retriever) -> _HitEntry:
    row, name = hit.row, Path(hit.row.source).name
    windowed = any(s.path == row.source for s in retriever.index.header.scenes)
    location = f"{name}, row {row.row}, column {row.col}" if windowed else name
    return _HitEntry(
        hit.rank,
        hit.number,
        hit.distance,
        hit.similarity,
        row.class_name,
        location,
        thumbnail(retriever.chip_pixels(row)),
    )


def _maps(result: SearchResult) -> list[_Map]:
    """A map of each scene with hits, with most first, and one of the hits in no scene by CRS."""
    scenes = {s.path: s for s in result.scenes}
    groups: dict[str, list[Hit]] = {}
    for hit in result.hits:
        if hit.row.crs:
            groups.setdefault(
                hit.row.source if hit.row.source in scenes else hit.row.crs, []
            ).append(hit)
    order = sorted(groups, key=lambda key: (-len(groups[key]), key))
    return [_map(key, groups[key], result) for key in order[:_MAPS]]


def _map(key: str, hits: Sequence[Hit], result: SearchResult) -> _Map:
    entry = next((s for s in result.scenes if s.path == key), None)
    examples = [
        e
        for e in result.examples
        if e.row.crs and (e.row.source == key if entry else e.row.crs == key)
    ]
    rows = [*(h.row for h in hits), *(e.row for e in examples)]
    if entry is not None:  # in the scene's own pixels, so that it lies straight whatever its CRS
        to_px = ~entry.scene.geobox.affine
        shapes = [np.array([to_px * tuple(c) for c in r.corners]) for r in rows]
        low, high = np.zeros(2), np.array(entry.shape[::-1], float)
    else:
        shapes = [np.array(polygon(r, key).exterior.coords)[:4] * (1, -1) for r in rows]
        low, high = np.min([s.min(0) for s in shapes], 0), np.max([s.max(0) for s in shapes], 0)
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    scale = _MAP_PX / max(float((high - low).max()), 1e-9)
    width, height = (max(40, round(float(x))) for x in (high - low) * scale)
    labels = [*(str(h.rank) for h in hits), *("?" for _ in examples)]
    descriptions = [
        *(f"rank {h.rank}, distance {h.distance:.4g}" for h in hits),
        *(e.name for e in examples),
    ]
    colours = [*(_colour(h.rank, len(result.hits)) for h in hits), *("#00e5ff" for _ in examples)]
    map_shapes = [
        _shape((s - low) * scale, colour, label, text)
        for s, colour, label, text in zip(shapes, colours, labels, descriptions, strict=True)
    ]
    background = None
    if entry is not None:
        with suppress(SceneError):
            background = photo(downscale(entry.scene, _MAP_PX))
    title = Path(key).name if entry else (key if len(key) < 20 else "other chips")
    title_note = f"{len(hits)} of {len(result.hits)} hits"
    return _Map(
        title, title_note, width, height, 2.5, 16.0, background, tuple(reversed(map_shapes))
    )


def _shape(points: np.ndarray, colour: str, label: str, description: str) -> _Shape:
    center = shapely.Polygon(points).centroid
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return _Shape(text, colour, 0.18, label, round(center.x, 1), round(center.y, 1), description)


def _colour(rank: int, total: int) -> str:
    """Red for the nearest to blue for the farthest hit."""
    position = (rank - 1) / max(1, total - 1)
    near, middle, far = np.array([214, 39, 40]), np.array([244, 192, 79]), np.array([63, 127, 179])
    rgb = (
        near + (middle - near) * 2 * position
        if position < 0.5
        else middle + (far - middle) * (2 * position - 1)
    )
    return "#" + bytes(np.round(rgb).astype(np.uint8)).hex()
