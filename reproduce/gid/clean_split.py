"""Source and target crops that share no pixels, and how a seed divides them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.learn.patches import PatchGrid
from geopipe.learn.patches.model import PatchSource
from reproduce.gid import data
from reproduce.gid.mixes import main_classes
from reproduce.gid.overlap import shared_with_source
from reproduce.gid.sensor import Sensor, write_simulated

SOURCE_CROPS = 70
"""Of each class that are looked at."""
LEARNT = 55
"""Of each class that a seed learns from; the others are held out."""


@dataclass(frozen=True, eq=False)
class Crops:
    """All cells of crops, and which crops share pixels."""

    patches: PatchGrid
    groups: np.ndarray
    """(crops,) equal for crops that share pixels"""


@dataclass(frozen=True)
class CropFolders:
    """Where the crops lie."""

    gid: Path
    out: Path
    """Where simulated crops are kept."""

    def crops(self, name: str) -> Crops:
        """Of the "source", as many of each class; of the "target", those that share nothing with
        the source; or these "shifted", as another sensor would see them."""
        if name == "source":
            images, masks = (self.gid / "source" / kind for kind in ("image", "label"))
            rasters = self._rasters(images, masks)
            names = [Path(r.path).parent.name for r in rasters]
            chosen = data.balanced(names, np.arange(len(rasters)), SOURCE_CROPS, 0)
            patches = PatchGrid.of([rasters[i] for i in chosen], data.CELL)
            return Crops(patches, data.groups(patches))
        images, masks = (self.gid / "target" / kind for kind in ("image", "label"))
        if name == "shifted":
            folder = self.out / "shifted"
            if not folder.exists():
                part = folder.with_suffix(".part")
                write_simulated(images, part, Sensor())
                part.rename(folder)
            images = folder
        kept = [
            r for r in self._rasters(images, masks)
            if data.class_name_of(Path(r.path)) in self._target_groups
        ]  # fmt: skip
        groups = [self._target_groups[data.class_name_of(Path(r.path))] for r in kept]
        return Crops(PatchGrid.of(kept, data.CELL), np.array(groups))

    @cached_property
    def _target_groups(self) -> dict[str, int]:
        """Name of a target crop -> its group; noise would hide what simulated ones share."""
        folder, shared = self.gid / "target", shared_with_source(self.gid)
        rasters = self._rasters(folder / "image", folder / "label")
        kept = [r for r in rasters if data.class_name_of(Path(r.path)) not in shared]
        groups = data.groups(PatchGrid.of(kept, data.CELL)).tolist()
        return dict(zip((data.class_name_of(Path(r.path)) for r in kept), groups, strict=True))

    def _rasters(self, images: Path, masks: Path) -> list[Any]:
        source = PatchSource((str(images),), masks=masks, unlabelled=data.UNLABELLED)
        return source.rasters(data.scheme(), data.GSD, labelled=True)


def training_cells(ids: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """(n,) bool: the source cells that a seed learns from; ids and groups (n,) of the cells."""
    return _drawn(ids, groups, (seed, 5), lambda groups: LEARNT)


def adaptation_cells(ids: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """(n,) bool: the half of the target's cells that methods may look at, without labels."""
    return _drawn(ids, groups, (seed,), lambda groups: groups // 2)


def _drawn(
    ids: np.ndarray, groups: np.ndarray, seed: tuple[int, ...], count: Callable[[int], int]
) -> np.ndarray:
    """Cells of so many groups of each class, that of most cells of a group."""
    drawn = np.zeros(len(groups), bool)
    main = main_classes(ids, groups)
    for class_id in range(len(data.scheme())):
        own = sorted(g for g, k in main.items() if k == class_id)
        shuffled = np.random.default_rng([*seed, class_id]).permutation(own)
        drawn |= np.isin(groups, shuffled[: count(len(own))])
    return drawn
