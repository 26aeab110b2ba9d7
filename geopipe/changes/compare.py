"""Compare a map with OpenStreetMap, or with a map of another date."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from geopandas import GeoDataFrame

from geopipe.changes import matching
from geopipe.changes.alignment import Alignment, align_reference
from geopipe.changes.lines import ABSENT, LineOptions, Stretches, cut_lines
from geopipe.changes.matching import ONLY_MAP, ONLY_OSM, ONLY_REFERENCE, UNSURE, MatchOptions
from geopipe.changes.objects import ObjectSet, Plane, Side, plane_of, to_plane
from geopipe.changes.probability import Calibration, Threshold, calibrate, choose_threshold
from geopipe.changes.reading import read_map, read_reference
from geopipe.changes.score_under import mean_scores
from geopipe.changes.truth import truth_samples
from geopipe.classes import load_scheme
from geopipe.errors import ConfigError, LabelError
from geopipe.evaluation.polygon_files import read_area
from geopipe.vectors.footprints import BUILDING
from geopipe.vectors.roads import ROAD

log = logging.getLogger(__name__)

SCHEME = "buildings-roads"


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """How a map is compared."""

    fdr: float = 0.1
    """Highest expected share of wrong ones among what is reported as *only in the image*."""
    max_shift: float = 8.0
    """Metres: how far the reference may be shifted as a whole; 0: it is not aligned."""
    classes: str = SCHEME
    """Scheme whose rules make buildings and roads of OSM tags."""
    buildings: MatchOptions = field(default_factory=MatchOptions)
    roads: LineOptions = field(default_factory=LineOptions)

    def __post_init__(self) -> None:
        if not 0 < self.fdr < 1:
            raise ConfigError(f"fdr is {self.fdr:g}", "give a share between 0 and 1, such as 0.1")
        if not (math.isfinite(self.max_shift) and 0 <= self.max_shift <= 30):
            raise ConfigError(f"max_shift is {self.max_shift:g}", "give 0 to 30 metres")


@dataclass(frozen=True, eq=False)
class Changes:
    """What a comparison says."""

    tables: dict[str, GeoDataFrame]
    """``buildings`` and ``roads``, those that both sides know; in the CRS of the map, see
    `write_changes` for the columns."""
    thresholds: dict[str, Threshold]
    calibrations: dict[str, Calibration]
    notes: tuple[str, ...]
    """What a reader should know: broken geometries, probabilities that are not calibrated..."""
    only_reference: str
    """The status of what the map lacks: ``only in OSM``, or ``only in the reference``."""
    plane: Plane
    footprint: Any
    """Outline of the compared area in the CRS of the map."""

    def counts(self) -> dict[str, dict[str, int | float]]:
        """By layer and status: number of buildings, kilometres of road."""
        result: dict[str, dict[str, int | float]] = {}
        for name, table in self.tables.items():
            if name == "buildings":
                groups = table.drop_duplicates("group")["status"].value_counts()
                result[name] = {str(k): int(v) for k, v in groups.items()}
            else:
                sums = table.groupby("status")["length_m"].sum() / 1000
                result[name] = {str(k): round(float(v), 3) for k, v in sums.items()}
        return result

    def to_dict(self) -> dict[str, Any]:
        """Counts, thresholds and notes as plain values; None for NaN."""
        return {
            **self.counts(),
            "thresholds": {
                name: {
                    "probability": _number(t.probability),
                    "expected_false": _number(t.expected_false),
                    "calibrated_on": self.calibrations[name].source,
                    "completeness": _number(self.calibrations[name].completeness),
                }
                for name, t in self.thresholds.items()
            },
            "notes": list(self.notes),
        }


def compare(
    class_map: Path,
    reference: Path,
    options: CompareOptions | None = None,
    *,
    area: Path | None = None,
    layer: str | None = None,
    all_are: str | None = None,
    truth: Path | None = None,
    truth_area: Path | None = None,
) -> Changes:
    """Say of each building and road of `class_map` and of `reference` what became of it.

    Args:
        class_map: A class map, or its ``features.gpkg``, or lines of ``geopipe roads``.
        reference: OpenStreetMap in any form that labels may have, or a map of another date.
        options: How to compare.
        area: Polygons outside of which nothing is compared; by default the outline of the map.
        layer: One layer of `reference`.
        all_are: The class of every feature of `reference`, of vectors that do not say it.
        truth: True buildings, on which probabilities are calibrated.
        truth_area: Polygons in which `truth` is complete; by default the box around it.

    Raises:
        LabelError: A file is missing, cannot be read, or lies elsewhere.
        SceneError: A map cannot be read or has no CRS.
    """
    options = options or CompareOptions()
    scheme = load_scheme(options.classes)
    if scheme.names[1:3] != (BUILDING, ROAD):
        raise ConfigError(
            f"the scheme '{scheme.name}' has the classes {', '.join(scheme.names)}",
            f"compare needs one with background, {BUILDING} and {ROAD} in this order",
        )
    side, crs, outline = read_map(class_map)
    outline = outline if outline is not None else _extent_of(area, crs, class_map)
    plane = plane_of(crs, outline, class_map)
    if area is not None:
        plane = _limited(plane, area)
    side = to_plane(side, crs, plane)
    other = read_reference(reference, scheme, plane, layer, all_are)
    notes = [*_repairs(side), *_repairs(other), *_empty(side, other)]
    aligned = align_reference(side, other, plane, scheme, options.max_shift)
    notes += _alignment_notes(aligned)
    run = _Comparison(side, aligned, plane, options, ONLY_OSM if other.is_osm else ONLY_REFERENCE)
    tables: dict[str, GeoDataFrame] = {}
    if side.buildings is not None and other.buildings is not None:
        samples = truth_samples(truth, truth_area, plane, side.buildings) if truth else None
        tables["buildings"] = run.compare_buildings(samples).to_crs(crs)
    if side.roads is not None and other.roads is not None:
        tables["roads"] = run.compare_roads().to_crs(crs)
    limit = GeoDataFrame(geometry=[plane.limit], crs=plane.crs).to_crs(crs).geometry.iloc[0]
    return Changes(
        tables,
        run.thresholds,
        run.calibrations,
        (*notes, *run.notes),
        run.only_reference,
        plane,
        limit,
    )


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _extent_of(area: Path | None, crs: Any, path: Path) -> Any:
    if area is None:
        raise LabelError(
            f"{path} has no object and does not say which place it shows", "give the `area`"
        )
    return read_area(area, crs.to_wkt())


def _limited(plane: Plane, area: Path) -> Plane:
    limit = shapely.intersection(plane.limit, read_area(area, plane.crs.to_wkt()))
    if limit.is_empty:
        raise LabelError(f"{area} does not lie on the map", "check the place and CRS of both")
    return Plane(plane.crs, limit)


def _repairs(side: Side) -> list[str]:
    return [f"{side.path.name}: {n} x {reason}" for reason, n in sorted(side.repaired.items())]


def _empty(side: Side, other: Side) -> list[str]:
    notes = []
    for name in (BUILDING, ROAD):
        for one, place in ((side, "the map"), (other, other.path.name)):
            objects = one.of(name)
            if objects is not None and not len(objects):
                notes.append(f"{place} has no {name} here")
    return notes


def _alignment_notes(aligned: Alignment) -> list[str]:
    notes = []
    for name, (accepted, total) in aligned.estimates.items():
        lengths = np.hypot(*aligned.shifts[name].T)
        notes.append(
            f"{name}s of the reference moved by {np.median(lengths):.1f} m in the median before "
            f"comparing ({accepted} of {total} estimates of the shift accepted)"
        )
    return notes


@dataclass(eq=False)
class _Comparison:
    """Both sides in one plane, and what is learned on the way."""

    side: Side
    aligned: Alignment
    plane: Plane
    options: CompareOptions
    only_reference: str
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def compare_buildings(self, samples: tuple[np.ndarray, np.ndarray] | None) -> GeoDataFrame:
        mapped = self.plane.within(_required(self.side.buildings))
        reference, shifts = self._reference(BUILDING)
        matches = matching.match_buildings(mapped.shapes, reference.shapes, self.options.buildings)
        status = matches.status[matches.mapped_group].astype(object)
        probability, status = self._report(
            "buildings", mapped.scores, status, np.ones(len(mapped)), samples
        )
        names = _names(matches.reference_group, reference.ids, len(matches.status))
        rows = pd.DataFrame(
            {
                "group": matches.mapped_group,
                "status": status,
                "probability": probability,
                "mean_score": mapped.scores,
                "distance_m": matches.distance[matches.mapped_group],
                "iou": matches.iou[matches.mapped_group],
                "area_m2": shapely.area(mapped.shapes),
                "map_id": mapped.ids,
                "reference_id": [names[g] for g in matches.mapped_group],
            }
        )
        alone = np.flatnonzero(~np.isin(matches.reference_group, matches.mapped_group))
        groups = matches.reference_group[alone]
        under = mean_scores(self.side, reference.shapes[alone], self.plane, BUILDING)
        missing = pd.DataFrame(
            {
                "group": groups,
                "status": self.only_reference,
                "probability": under,
                "mean_score": np.nan,
                "distance_m": matches.distance[groups],
                "iou": 0.0,
                "area_m2": shapely.area(reference.shapes[alone]),
                "map_id": None,
                "reference_id": reference.ids[alone],
            }
        )
        mean_shift = _mean_by_group(matches.reference_group, shifts, len(matches.status))
        table = pd.concat([rows, missing], ignore_index=True)
        table["shift_east"], table["shift_north"] = mean_shift[table["group"].to_numpy(int)].T
        shapes = np.concatenate([mapped.shapes, reference.shapes[alone]])
        return self._finished(table, shapes)

    def compare_roads(self) -> GeoDataFrame:
        mapped = self.plane.within(_required(self.side.roads))
        reference, shifts = self._reference(ROAD)
        own = cut_lines(mapped.shapes, reference.shapes, self.options.roads)
        other = cut_lines(reference.shapes, mapped.shapes, self.options.roads)
        lengths = shapely.length(own.shapes) if len(own.shapes) else np.empty(0)
        status = np.where(own.status == ABSENT, ONLY_MAP, own.status).astype(object)
        scores = mapped.scores[own.line]
        probability, status = self._report("roads", scores, status, lengths, None)
        new = np.isin(status, (ONLY_MAP, UNSURE))
        rows = _stretch_rows(own, status, new)
        rows = rows.assign(
            probability=probability[new],
            mean_score=scores[new],
            map_id=mapped.ids[own.line[new]],
            reference_id=None,
        )
        known = _stretch_rows(
            other,
            np.where(other.status == ABSENT, self.only_reference, other.status),
            np.ones(len(other.line), bool),
        )
        known = known.assign(
            probability=mean_scores(self.side, other.shapes, self.plane, ROAD),
            mean_score=np.nan,
            map_id=None,
            reference_id=reference.ids[other.line],
        )
        table = pd.concat([rows, known], ignore_index=True)
        shift = np.vstack([np.full((int(new.sum()), 2), np.nan), shifts[other.line]])
        table["shift_east"], table["shift_north"] = shift.T
        table.insert(0, "group", np.arange(len(table)))
        shapes = np.concatenate([own.shapes[new], other.shapes])
        return self._finished(table, shapes)

    def _reference(self, name: str) -> tuple[ObjectSet, np.ndarray]:
        """The objects in the area, and the shift of each."""
        objects = _required(self.aligned.side.of(name))
        shifts = self.aligned.shifts.get(name, np.zeros((len(objects), 2)))
        number = ObjectSet(objects.shapes, np.arange(len(objects)), objects.scores)
        inside = self.plane.within(number)
        index = inside.ids.astype(int)
        tags = tuple(objects.tags[i] for i in index) if objects.tags else ()
        return (
            ObjectSet(inside.shapes, objects.ids[index], inside.scores, tags),
            shifts[index].reshape(-1, 2),
        )

    def _report(
        self,
        layer: str,
        scores: np.ndarray,
        status: np.ndarray,
        weights: np.ndarray,
        samples: tuple[np.ndarray, np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probability that each mapped object is real; status with the unsure ones apart."""
        alone = status == ONLY_MAP
        if len(scores) and not np.isfinite(scores).any():
            self.notes.append(
                f"{layer}: the map has no probabilities, so the share of wrong ones among what is "
                f"only in the image is unknown (map with scores or confidence)"
            )
            return np.full(len(scores), np.nan), status
        fit = calibrate(scores, ~alone, weights, samples)
        self.calibrations[layer] = fit
        probability = np.where(alone, fit.unmatched(scores), fit.probability(scores))
        known = np.where(np.isfinite(probability), probability, 0.0)
        threshold = choose_threshold(known[alone], weights[alone], self.options.fdr)
        self.thresholds[layer] = threshold
        status = status.copy()
        status[np.flatnonzero(alone)[~threshold.reported]] = UNSURE
        if alone.any():
            self.notes.append(_calibration_note(layer, fit, samples))
        return probability, status

    def _finished(self, table: pd.DataFrame, shapes: np.ndarray) -> GeoDataFrame:
        """From west to east, rounded, with a number."""
        rounded = {"probability": 4, "mean_score": 4, "distance_m": 2, "iou": 4}
        rounded |= {"area_m2": 2, "length_m": 2, "shift_east": 2, "shift_north": 2}
        table = table.round({k: n for k, n in rounded.items() if k in table})
        bounds = shapely.bounds(shapes).reshape(-1, 4)
        order = np.lexsort((table["group"], bounds[:, 1], bounds[:, 0]))
        frame = GeoDataFrame(table, geometry=shapes, crs=self.plane.crs).iloc[order]
        frame = frame.reset_index(drop=True)
        frame.insert(0, "change_id", np.arange(1, len(frame) + 1, dtype=np.int32))
        frame["source"] = self.side.path.name
        frame["model_sha256"] = self.side.model_sha256
        return frame


def _required(objects: ObjectSet | None) -> ObjectSet:
    assert objects is not None
    return objects


def _stretch_rows(stretches: Stretches, status: np.ndarray, kept: np.ndarray) -> pd.DataFrame:
    lengths = shapely.length(stretches.shapes) if len(stretches.shapes) else np.empty(0)
    return pd.DataFrame(
        {
            "status": status[kept],
            "distance_m": stretches.distance[kept],
            "length_m": lengths[kept],
        }
    )


def _names(groups: np.ndarray, ids: np.ndarray, count: int) -> list[str | None]:
    """The ids of each group, joined by semicolons as in OSM; None where it has none."""
    names: list[list[str]] = [[] for _ in range(count)]
    for group, name in zip(groups.tolist(), ids.tolist(), strict=True):
        names[group].append(name)
    return [";".join(n) if n else None for n in names]


def _mean_by_group(groups: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(count, 2) means; NaN of a group without members."""
    if not count:
        return np.empty((0, 2))
    number = np.bincount(groups, minlength=count)
    sums = [np.bincount(groups, column, minlength=count) for column in values.T]
    with np.errstate(invalid="ignore"):
        return np.column_stack(sums) / np.where(number, number, np.nan)[:, None]


def _calibration_note(
    layer: str, fit: Calibration, samples: tuple[np.ndarray, np.ndarray] | None
) -> str:
    share = f"the reference is estimated to be {100 * fit.completeness:.0f} % complete"
    if fit.source == "truth":
        assert samples is not None
        return f"{layer}: probabilities are calibrated on {len(samples[0])} true objects; {share}"
    few = f" (only {len(samples[0])} of the map lie on it)" if samples is not None else ""
    return (
        f"{layer}: probabilities are not calibrated on ground truth{few}; they rest on the map's "
        f"scores and on how often the reference confirms them; {share}"
    )
