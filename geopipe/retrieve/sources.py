"""Sources of an index: folders and scenes, and the batches they are processed in."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from geopipe.errors import ConfigError, GridError, SceneError
from geopipe.mapping import Workers
from geopipe.raster import Scene
from geopipe.raster.chips import ChipFolder, require_bytes
from geopipe.raster.inputs import scene_paths
from geopipe.raster.remote import is_remote
from geopipe.retrieve.batches import FILES, Batch, FileItem, grouped, scene_windows, stamp
from geopipe.retrieve.header import SceneEntry, VectorDtype
from geopipe.retrieve.rows import crs_name
from geopipe.retrieve.store import ChipIndex

CHIPS_PER_PART = 4096
"""Chips in a part: a file of rows, and a step of the header."""


@dataclass(frozen=True, slots=True)
class ChipGrid:
    """How scenes are cut into chips."""

    size: float = 64.0
    """Metres on the ground a side."""
    step: float = 32.0
    """Metres from one chip to the next."""
    valid: float = 0.5
    """Least share of valid pixels."""
    bands: tuple[int, ...] | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        if self.size <= 0 or self.step <= 0 or not 0 <= self.valid <= 1:
            raise ConfigError(
                f"size={self.size:g}, step={self.step:g}, valid={self.valid:g}: "
                "positive metres and a share"
            )


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """How an index is built."""

    chip_grid: ChipGrid = field(default_factory=ChipGrid)
    dtype: VectorDtype | None = None
    """float32 or float16; None: as the index has it, a new one float32."""
    search: str = "auto"
    """exact, ivf, hnsw, pq, or auto: by the number of chips."""
    skip_bad: bool = False
    keep_duplicates: bool = False
    """Equal pixels from another place are chips of their own."""
    cache: Path | None = None
    """Where vectors are kept for other builds."""
    workers: Workers = field(default_factory=Workers)


def list_sources(
    sources: Sequence[str], plan: BuildPlan
) -> tuple[list[FileItem], list[SceneEntry], list[str]]:
    """Image files and scenes, each once, and why others are left out.

    SceneError or GridError where there are none, or for a scene that cannot be cut (`skip_bad`
    leaves it out).
    """
    files: dict[str, FileItem] = {}
    others = []
    for source in sources:
        if not Path(source).is_dir():
            others.append(source)
            continue
        for chip in ChipFolder.open(Path(source)).chips:
            path = str(Path(chip.path).resolve())
            files[path] = FileItem(path, stamp(path), chip.class_name)
    scenes: list[SceneEntry] = []
    unreadable: list[str] = []
    paths = scene_paths(others) if others else []
    for path in paths:
        try:
            entry = scene_entry(path, plan.chip_grid)
            scene_windows(entry)  # fails now, not in the first batch
            scenes.append(entry)
        except (SceneError, GridError) as e:
            if not plan.skip_bad or len(unreadable) + 1 == len(paths) + len(
                files
            ):  # nothing is left
                raise
            unreadable.append(e.message)
    return list(files.values()), scenes, unreadable


def scene_entry(path: str, chip_grid: ChipGrid) -> SceneEntry:
    """A scene as it is to be cut; SceneError for one that a net of ImageNet cannot see."""
    scene = Scene.open(path, chip_grid.bands, chip_grid.nodata)
    if len(scene.bands) not in (1, 3):
        raise SceneError(
            f"{path}: {len(scene.bands)} bands, a net of ImageNet sees 1 or 3",
            "choose them with `bands`",
        )
    require_bytes(path, scene.dtype)
    assert scene.geobox.crs is not None
    name = path if is_remote(path) else str(Path(path).resolve())
    return SceneEntry(
        name,
        stamp(name),
        scene.shape,
        crs_name(scene.geobox.crs.proj),
        tuple(scene.geobox.affine)[:6],
        scene.bands,
        scene.dtype,
        scene.nodata,
        (chip_grid.size, chip_grid.step, chip_grid.valid),
    )


def batches_of(
    index: ChipIndex, files: Sequence[FileItem], scenes: Sequence[SceneEntry], first: int
) -> tuple[list[Batch], int]:
    """The work: all but what the first chips of `index` are already; and how many those are.

    ConfigError where a scene is in the index as other pixels: its chips would be of two kinds.
    """
    for scene in scenes:
        _require_same_reading(scene, index.header.scenes)
    sources = {f.path for f in files} | {s.path for s in scenes}
    indexed_keys = {r.key for r in index.all_rows(first) if r.source in sources}
    indexed_files = {key.rpartition("|")[0] for key in indexed_keys}
    remaining = [f for f in files if f"{f.path}|{f.stamp}" not in indexed_files]
    known_count = len(files) - len(remaining)
    batches = [
        Batch(0, files=tuple(remaining[i : i + FILES])) for i in range(0, len(remaining), FILES)
    ]
    for scene in scenes:
        windows = scene_windows(scene)
        if replace(scene, whole=True) in index.header.scenes:
            known_count += len(windows)
            continue
        missing = {
            w
            for w in windows
            if f"{scene.path}|{scene.stamp}|{w.row},{w.col},{w.height},{w.width}"
            not in indexed_keys
        }
        known_count += len(windows) - len(missing)
        # Neighbours stay together: what lies between the windows of a batch is read with them.
        groups = (tuple(w for w in g if w in missing) for g in grouped(windows))
        batches += [Batch(0, scene=scene, windows=g) for g in groups if g]
    return [replace(p, index=i) for i, p in enumerate(batches)], known_count


def _require_same_reading(scene: SceneEntry, existing: Sequence[SceneEntry]) -> None:
    for other in existing:
        is_same_file = (other.path, other.stamp) == (scene.path, scene.stamp)
        if is_same_file and (other.bands, other.nodata) != (scene.bands, scene.nodata):
            raise ConfigError(
                f"{scene.path} is in the index with bands {other.bands} and nodata {other.nodata}, "
                f"not {scene.bands} and {scene.nodata}",
                "give `bands` and `nodata` as then, or build another index",
            )


def work_digest(batches: Sequence[Batch], plan: BuildPlan) -> str:
    """Equal for equal work."""
    values = [
        plan.keep_duplicates,
        CHIPS_PER_PART,
        [str((p.files, p.scene, p.windows)) for p in batches],
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
