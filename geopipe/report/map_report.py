"""The report of a map or of a whole workflow: one HTML file, and the same figures as JSON and text.

`write_report` leaves out the sections that have nothing to say, so a single map gets a short page.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from rasterio import DatasetReader
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RioWindow

from geopipe.classes import ClassScheme
from geopipe.files import atomic_files
from geopipe.metrics import Metrics
from geopipe.raster import Scene
from geopipe.raster.scene import opened
from geopipe.raster.validity import valid_pixels
from geopipe.report.figures import Curve, chart, panel, photo, scale_bar
from geopipe.report.page import render
from geopipe.report.sections import ReportSection, percent

FEATURES_PAGE = "features.html"
"""The map of the vectors, in the folder of the report."""
_BLOCK_PX = 100
"""Pixels a side of what a damaged scene is seen by."""

__all__ = ["CloseUp", "Curve", "Report", "downscale", "write_report"]


@dataclass(frozen=True, eq=False)
class CloseUp:
    """One place seen by several methods."""

    title: str
    image: np.ndarray
    """(3, h, w) uint8"""
    panels: tuple[tuple[str, np.ndarray], ...]
    """(caption, class ids (h, w) uint8; IGNORE stays blank)"""
    gsd: float | None = None
    """Metres on the ground per pixel, for a scale bar."""


@dataclass(frozen=True, eq=False)
class Report:
    """What there is to say; an empty field is a section less."""

    title: str
    scheme: ClassScheme
    summary: tuple[str, ...] = ()
    """Sentences."""
    lead: tuple[tuple[str, ...], ...] = ()
    """The table that the page starts with: a head, and a row for each class."""
    features: tuple[tuple[str, str], ...] = ()
    """(layer, how many) of the vectors that `FEATURES_PAGE` shows; empty: there is no such page."""
    metrics: tuple[tuple[str, Metrics], ...] = ()
    """(method, how well it did); differences are taken to the first"""
    sections: tuple[ReportSection, ...] = ()
    curves: tuple[Curve, ...] = ()
    closeups: tuple[CloseUp, ...] = ()
    overview: tuple[np.ndarray, np.ndarray] | None = None
    """(image (3, h, w) uint8, class ids (h, w) uint8)"""
    overview_gsd: float | None = None
    """Metres on the ground per pixel of it."""
    timings: tuple[tuple[str, float], ...] = ()
    """(step, seconds)"""
    facts: tuple[tuple[str, str], ...] = ()
    """(name, value): areas, provenance"""
    notes: tuple[str, ...] = ()


def write_report(folder: Path, report: Report) -> tuple[Path, Path, Path]:
    """Write ``report.html``, ``report.json`` and ``report.md`` into `folder`; returns their paths.

    The page holds all it shows (images as data URIs, no network) and reads by ``file://``, in the
    dark and on paper. Equal reports give equal bytes. Raises OutputError when it cannot be written.
    """
    texts = {
        "report.html": _html(report),
        "report.json": json.dumps(_tables(report), indent=2, ensure_ascii=False, allow_nan=False)
        + "\n",
        "report.md": _markdown(report),
    }
    paths = [folder / name for name in texts]
    with atomic_files(paths, parents=True) as parts:
        for part, text in zip(parts, texts.values(), strict=True):
            part.write_text(text, encoding="utf-8")
    return paths[0], paths[1], paths[2]


def downscale(scene: Scene, limit: int) -> np.ndarray:
    """`scene` for the eye: (3, h, w) uint8, its longer side at most `limit` px.

    Other dtypes than uint8 are stretched from the 2nd to the 98th percentile of each band; where
    nothing is known the image is light grey. GDAL averages block by block (through overviews where
    there are any), so memory does not grow with the scene.
    """
    shrink = max(1.0, max(scene.shape) / limit)
    shape = (3, *(max(1, round(n / shrink)) for n in scene.shape))
    bands = (scene.bands + scene.bands[-1:] * 2)[:3]  # one band is shown as grey
    resampling = Resampling.average if shrink > 1 else Resampling.nearest
    with opened(scene.path) as src:
        try:
            data, valid = _read_block(src, bands, shape[1:], resampling)
        except RasterioIOError:  # damaged somewhere: all but that
            data, valid = np.zeros(shape, scene.dtype), np.zeros(shape[1:], bool)
            for block in product(*map(_block_slices, shape[1:])):
                size = tuple(s.stop - s.start for s in block)
                on_scene = (
                    slice(s.start * n // m, s.stop * n // m)
                    for s, n, m in zip(block, scene.shape, shape[1:], strict=True)
                )
                window = RioWindow.from_slices(*on_scene)
                with suppress(RasterioIOError):
                    data[:, *block], valid[block] = _read_block(
                        src, bands, size, resampling, window
                    )
    return to_bytes(data, valid)


def _read_block(
    src: DatasetReader,
    bands: tuple[int, ...],
    size: tuple[int, ...],
    resampling: Resampling,
    window: RioWindow | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (3, *size) of `window` and whether they are valid."""
    data = src.read(bands, window=window, out_shape=(3, *size), resampling=resampling)
    return data, valid_pixels(src, bands, window, (size[0], size[1]))


def _block_slices(size: int) -> Iterator[slice]:
    """Slices that cover `size` pixels."""
    return (slice(i, min(i + _BLOCK_PX, size)) for i in range(0, size, _BLOCK_PX))


def to_bytes(data: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(bands, h, w) of any dtype for the eye, uint8: stretched as in `downscale`."""
    if data.dtype != np.uint8:
        valid = valid & np.isfinite(data).all(axis=0)
        data = np.stack([_stretch(band, valid) for band in data])
    return np.asarray(np.where(valid, data, 225), np.uint8)


def _stretch(band: np.ndarray, valid: np.ndarray) -> np.ndarray:
    if not valid.any():
        return np.zeros(band.shape, np.uint8)
    low, high = np.percentile(band[valid].astype(np.float64), (2, 98))
    scaled = (np.where(valid, band, low) - low) / ((high - low) or 1.0)
    return np.asarray(np.round(np.clip(scaled, 0, 1) * 255), np.uint8)


def _tables(report: Report) -> dict[str, Any]:
    """The figures as plain values."""
    return {
        "title": report.title,
        "summary": list(report.summary),
        "lead": [list(row) for row in report.lead],
        "classes": [{"name": c.name, "color": c.color} for c in report.scheme.classes],
        "metrics": {name: m.to_dict() for name, m in report.metrics},
        **{section.key: section.data for section in report.sections},
        "curves": [
            {
                "title": c.title,
                "x_label": c.x_label,
                "y_label": c.y_label,
                "series": [
                    {"name": name, "x": _finite(xs), "y": _finite(ys)} for name, xs, ys in c.series
                ],
            }
            for c in report.curves
        ],
        "timings": {name: round(seconds, 3) for name, seconds in report.timings},
        "facts": dict(report.facts),
        "notes": list(report.notes),
    }


def _finite(values: Sequence[float]) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in values]


def _html(report: Report) -> str:
    filters = {"percent": percent, "points": _points, "duration": _duration, "kappa": _kappa}
    overview = None
    if report.overview:
        image, ids = report.overview
        # Over the image the background would hide everything.
        over = panel(ids, report.scheme, hidden=report.scheme.background)
        overview = photo(image), over, panel(ids, report.scheme)
    return render(
        "report.html",
        filters,
        report=report,
        features_page=FEATURES_PAGE if report.features else None,
        feature_counts=_feature_counts(report),
        scheme=report.scheme,
        sections=[
            (s, [_charted(c, f"{s.key}{i}") for i, c in enumerate(s.charts)])
            for s in report.sections
        ],
        curves=[_charted(c, f"curve{i}") for i, c in enumerate(report.curves)],
        closeups=[
            (
                c.title,
                photo(c.image),
                [(name, panel(ids, report.scheme)) for name, ids in c.panels],
                scale_bar(c.image.shape[2], c.gsd),
            )
            for c in report.closeups
        ],
        overview=overview,
        scale=scale_bar(overview[0].width, report.overview_gsd) if overview else None,
        swatches={c.name: c.color for c in report.scheme.classes},
        slowest=max((seconds for _, seconds in report.timings), default=0.0) or 1.0,
    )


def _feature_counts(report: Report) -> str:
    return "; ".join(f"{number} {layer}" for layer, number in report.features)


def _charted(curve: Curve, prefix: str) -> tuple[str, Markup]:
    return curve.title, Markup(chart(curve, prefix))  # matplotlib has escaped the labels


def _markdown(report: Report) -> str:
    """The report as text: what the page says less its pictures."""
    blocks = [f"# {report.title}", " ".join(report.summary)]
    if report.lead:
        blocks.append(_table(list(report.lead[0]), [list(row) for row in report.lead[1:]]))
    if report.features:
        blocks.append(f"[Features on the map]({FEATURES_PAGE}): {_feature_counts(report)}")
    for name, m in report.metrics:
        blocks += [f"## {name}", m.to_markdown().strip()]
    if len(report.metrics) > 1:
        (first, base), *others = report.metrics
        blocks.append(f"## Difference to {first}, in points")
        rows = [
            [name, _points(m.overall_accuracy - base.overall_accuracy)]
            + [_points(b - a) for a, b in zip(base.iou, m.iou, strict=True)]
            + [_points(m.mean_iou - base.mean_iou)]
            for name, m in others
        ]
        ious = [f"IoU {name}" for name in report.scheme.names]
        blocks.append(_table(["method", "overall accuracy", *ious, "mean IoU"], rows))
    for section in report.sections:
        blocks += [f"## {section.title}", section.note]
        if section.table:
            blocks.append(_table(list(section.table[0]), [list(row) for row in section.table[1:]]))
    if report.timings:
        rows = [[name, _duration(seconds)] for name, seconds in report.timings]
        blocks += ["## Time", _table(["step", "time"], rows)]
    if report.facts:
        blocks += ["## Facts", _table(["what", "value"], [list(fact) for fact in report.facts])]
    if report.notes:
        blocks += ["## Notes", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "/") for c in line) + " |" for line in lines)


def _points(x: float) -> str:
    return "–" if math.isnan(x) else f"{100 * x:+.2f}".replace("-", "−")


def _kappa(x: float) -> str:
    return "–" if math.isnan(x) else f"{x:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, remaining_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {remaining_s:02d} s"
