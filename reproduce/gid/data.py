"""The crops of the Gaofen Image Dataset and foreign photographs, and how they are divided."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geopipe.classes import IGNORE, ClassScheme, load_scheme
from geopipe.errors import LabelError, SceneError
from geopipe.grid import Window
from geopipe.learn.patches import ChipRaster, PatchGrid
from geopipe.learn.patches.model import PatchSource
from geopipe.raster.chips import ChipFolder
from reproduce.gid.overlap import overlap_groups

GSD = 4.0
"""Metres per pixel of Gaofen-2's multispectral bands."""
CELL = 56
UNLABELLED = 5
"""Id in the masks of the crops."""
FINE = {
    "industrial_land": "built-up",
    "urban_residential": "built-up",
    "rural_residential": "built-up",
    "traffic_land": "built-up",
    "paddy_field": "farmland",
    "irrigated_land": "farmland",
    "dry_cropland": "farmland",
    "garden_plot": "farmland",
    "arbor_woodland": "forest",
    "shrub_land": "forest",
    "natural_grassland": "meadow",
    "artificial_grassland": "meadow",
    "river": "water",
    "lake": "water",
    "pond": "water",
}
"""The fifteen classes of the target, merged as Tong et al. 2020 do (their Fig. 2)."""
FOREIGN = {
    "buildings": "built-up",
    "denseresidential": "built-up",
    "mediumresidential": "built-up",
    "sparseresidential": "built-up",
    "mobilehomepark": "built-up",
    "agricultural": "farmland",
    "forest": "forest",
    "chaparral": "forest",
    "golfcourse": "meadow",
    "river": "water",
}
"""Classes of UC Merced that have a counterpart. Chaparral counts as forest, since the dataset's
forest holds shrub land; golf courses as meadow, since it holds artificial grassland. Left out:
beaches (half sand), harbours (boats on water), roads and all that is a single object."""


def scheme() -> ClassScheme:
    """The five classes."""
    return load_scheme("land-cover")


def data_folder(name: str) -> Path:
    """A folder of the real data; SceneError where it is missing."""
    root = Path(os.environ.get("GEOPIPE_DATA", "../shared/data"))
    if not (root / name).is_dir():
        raise SceneError(
            f"there is no folder {root / name}",
            f"set GEOPIPE_DATA to the folder that holds {name}/",
        )
    return root / name


def crops(images: Path, masks: Path, excluded: frozenset[str] = frozenset()) -> PatchGrid:
    """All cells of all crops below a folder, with the class of most of their labelled pixels.

    `excluded`: names (folder/stem) of crops to leave out.
    """
    source = PatchSource((str(images),), masks=masks, unlabelled=UNLABELLED)
    planes = source.rasters(scheme(), GSD, labelled=True)
    return PatchGrid.of([p for p in planes if class_name_of(Path(p.path)) not in excluded], CELL)


def class_name_of(path: Path) -> str:
    """folder/stem: what a crop is called whatever its format."""
    return f"{path.parent.name}/{path.stem}"


def photographs(folder: Path, each: int) -> PatchGrid:
    """`each` photographs of every class, whose class is that of the folder they lie in."""
    chips = [c for c in ChipFolder.open(folder).chips if c.class_name in FOREIGN]
    selected = alternating([c.class_name for c in chips], FOREIGN, each)
    ids = scheme().id_of
    return PatchGrid.of(
        [ChipRaster(chips[i], 3, ids(FOREIGN[chips[i].class_name])) for i in selected], CELL
    )


def alternating(names: Sequence[str], merged: Mapping[str, str], each: int) -> list[int]:
    """Indices of `each` of every merged class, its fine ones by turns; fewer where there are no
    more.
    """
    counts: dict[str, int] = {}
    ranks = []
    for name in names:
        ranks.append(counts.get(name, 0))
        counts[name] = ranks[-1] + 1
    order = sorted(range(len(names)), key=lambda i: (ranks[i], names[i]))
    by_class: dict[str, list[int]] = {}
    for i in order:
        by_class.setdefault(merged[names[i]], []).append(i)
    return sorted(i for members in by_class.values() for i in members[:each])


def folders(patches: PatchGrid) -> list[str]:
    """Of each plane, the name of the folder it lies in: its scene class."""
    return [Path(plane.path).parent.name for plane in patches.rasters]


def check_merged(patches: PatchGrid, merged: Mapping[str, str], classes: ClassScheme) -> None:
    """Raise LabelError where most cells of a folder are not of the class it is merged into."""
    names = np.array(folders(patches))[patches.positions[:, 0]]
    for name in np.unique(names):
        ids = patches.ids[(names == name) & (patches.ids != IGNORE)]
        majority = np.bincount(ids, minlength=len(classes)).argmax()
        if name not in merged or classes.names[majority] != merged[name]:
            raise LabelError(
                f"most cells of {name} are {classes.names[majority]}, not "
                f"{merged.get(name, 'of a class that is known')}",
                "labels and folders do not belong together",
            )


def of_rasters(patches: PatchGrid, planes: np.ndarray) -> PatchGrid:
    """The cells of these planes."""
    return patches.subset(np.isin(patches.positions[:, 0], planes))


def halves(
    names: Sequence[str], seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two halves, class by class; the second has the odd one of a class.

    `groups` (n,): those of one group, which share pixels, lie in one half, that of the class of
    the group's first member.
    """
    groups = np.arange(len(names)) if groups is None else groups
    leaders = {int(g): i for i, g in reversed(list(enumerate(groups)))}
    first: list[int] = []
    for k, name in enumerate(sorted(set(names))):
        own = [g for g, i in leaders.items() if names[i] == name]
        sizes = {g: int((groups == g).sum()) for g in own}
        taken, half = 0, sum(sizes.values()) // 2
        for g in np.random.default_rng([seed, k]).permutation(sorted(own)).tolist():
            if taken + sizes[g] <= half:
                first += np.flatnonzero(groups == g).tolist()
                taken += sizes[g]
    in_first = np.isin(np.arange(len(names)), first)
    return np.flatnonzero(in_first), np.flatnonzero(~in_first)


def balanced(names: Sequence[str], among: np.ndarray, each: int, seed: int) -> np.ndarray:
    """At most `each` of every class, of the indices `among`."""
    selected = []
    for k, name in enumerate(sorted(set(names))):
        members = [i for i in among.tolist() if names[i] == name]
        selected.append(np.random.default_rng([seed, k]).permutation(members)[:each])
    return np.sort(np.concatenate(selected)).astype(np.int64)


def groups(patches: PatchGrid, planes: np.ndarray | None = None) -> np.ndarray:
    """(planes,) equal for the planes, all or these, that share pixels; see `overlap_groups`."""
    numbers = range(len(patches.rasters)) if planes is None else planes.tolist()
    chips = [patches.rasters[i] for i in numbers]
    return overlap_groups(
        [c.pixels(Window.of_shape(c.shape))[0].numpy().astype(np.uint8) for c in chips]
    )


def names_digest(patches: PatchGrid) -> str:
    """sha256 over the crops' names: whether two runs saw the same ones."""
    numbers = np.unique(patches.positions[:, 0]).tolist()
    names = ["/".join(Path(patches.rasters[i].path).parts[-3:]) for i in numbers]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
