"""Connected parts of the strips of a class map, and which class the small areas take."""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_MERGE_AT = 4_000_000
"""Borders that are held before equal ones are added up."""


@dataclass
class Borders:
    """Parts of areas, strip by strip, numbered from 0 on."""

    class_count: int
    _classes: list[np.ndarray] = field(default_factory=list)
    _sizes: list[np.ndarray] = field(default_factory=list)
    _joined: list[np.ndarray] = field(default_factory=list)
    """(2, n) parts of two strips that are one area."""
    _touching: list[np.ndarray] = field(default_factory=list)
    """(3, n) int64: two parts, one of them small in its strip, and pixel sides between them."""
    _count: int = 0

    @property
    def classes(self) -> np.ndarray:
        """(parts,) uint8."""
        return np.concatenate([*self._classes, np.zeros(0, np.uint8)])

    @property
    def sizes(self) -> np.ndarray:
        """(parts,) int64, pixels."""
        return np.concatenate([*self._sizes, np.zeros(0, np.int64)])

    @property
    def joined(self) -> np.ndarray:
        """(2, n) int64."""
        return np.concatenate([*self._joined, np.zeros((2, 0), np.int64)], 1)

    def area_counts(self, classes: np.ndarray) -> tuple[int, ...]:
        """Of each class, connected areas when the parts have the class ids `classes` (parts,).

        Only small parts may have got another class than they had: what touches it is known of them.
        """
        one, other, _ = self.touching
        met = classes[one] == classes[other]
        a, b = np.concatenate([self.joined, [one[met], other[met]]], 1)
        count, area = _connected(a, b, len(classes))
        of_area = np.zeros(count, np.uint8)
        of_area[area] = classes
        return tuple(np.bincount(of_area, minlength=self.class_count)[: self.class_count].tolist())

    @property
    def touching(self) -> np.ndarray:
        """(3, n) int64."""
        return np.concatenate([*self._touching, np.zeros((3, 0), np.int64)], 1)

    def add(self, classes: np.ndarray, sizes: np.ndarray) -> int:
        """Parts of the next strip; returns the number of the first."""
        first = self._count
        self._classes.append(classes)
        self._sizes.append(sizes.astype(np.int64))
        self._count += len(classes)
        return first

    def touch(self, a: np.ndarray, b: np.ndarray, small: np.ndarray, base: int) -> None:
        """Pixels `a` and `b` of a strip share a side; labels from 1 on, 0 where nothing is known.

        `small` (labels,) bool: only their borders are asked for.
        """
        at = (a != b) & (a > 0) & (b > 0)
        first, second = a[at].astype(np.int64), b[at].astype(np.int64)
        wanted = small[first] | small[second]
        self._note(first[wanted] + base - 1, second[wanted] + base - 1)

    def join(
        self, ids: np.ndarray, parts: np.ndarray, ids_below: np.ndarray, parts_below: np.ndarray
    ) -> None:
        """The last row of a strip and the first of the next: class ids and parts, -1 for none."""
        there = (parts >= 0) & (parts_below >= 0)
        equal = there & (ids == ids_below)
        self._joined.append(_distinct(parts[equal], parts_below[equal])[0])
        other = there & ~equal
        self._note(parts[other], parts_below[other])

    def _note(self, a: np.ndarray, b: np.ndarray) -> None:
        if not len(a):
            return
        self._touching.append(_summed(np.stack([a, b, np.ones_like(a)])))
        if len(self._touching) > 64 and sum(t.shape[1] for t in self._touching) > _MERGE_AT:
            self._touching = [_summed(self.touching)]


def new_classes(result: Borders, least: np.ndarray) -> np.ndarray:
    """(parts,) uint8: the class of each part when areas below `least` pixels (classes,) are gone.

    Round by round, a small area next to areas that have a class for good takes the one with the
    longest border, of equals the lowest id; then it has one for good too. All of a round look at
    the state before it, so the order of the areas has no part in it.
    """
    return new_classes_of_window(result, least, np.zeros(len(result.classes), bool))[0]


def new_classes_of_window(
    result: Borders, least: np.ndarray, cut: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `new_classes`, from a window of a larger map, with (parts,) bool: which are certain.

    `cut` (parts,) bool: parts that may go on beyond the window. How large they are is not known,
    unless they are large enough already; what could depend on it is not certain.
    """
    parts = result.classes
    if not len(parts):
        return parts, np.zeros(0, bool)
    count, area = _connected(result.joined[0], result.joined[1], len(parts))
    sizes = np.bincount(area, weights=result.sizes, minlength=count)
    classes = np.zeros(count, np.uint8)
    classes[area] = parts
    settled = sizes >= least[classes]
    unknown = ~settled & (np.bincount(area, weights=cut, minlength=count) > 0)
    one, other, sides = result.touching
    source, beside = area[np.concatenate([one, other])], area[np.concatenate([other, one])]
    sides = np.concatenate([sides, sides])
    while True:
        open_ = ~(settled | unknown)[source]
        source, beside, sides = source[open_], beside[open_], sides[open_]
        affected = source[unknown[beside]]
        unknown[affected] = True
        ready = settled[beside] & ~unknown[source]
        if not (len(affected) or ready.any()):
            return np.asarray(classes[area]), np.asarray(~unknown[area])
        areas, row = np.unique(source[ready], return_inverse=True)
        borders = np.bincount(
            row * result.class_count + classes[beside[ready]],
            weights=sides[ready],
            minlength=len(areas) * result.class_count,
        )
        taken = borders.reshape(len(areas), result.class_count).argmax(1)
        classes[areas], settled[areas] = taken, True


def _connected(a: np.ndarray, b: np.ndarray, parts: int) -> tuple[int, np.ndarray]:
    """How many areas `parts` are when each of `a` is one with that of `b`; (parts,) their areas."""
    links = coo_array((np.ones(len(a), bool), (a, b)), shape=(parts, parts))
    count, area = connected_components(links, directed=False)
    return int(count), area


def _summed(borders: np.ndarray) -> np.ndarray:
    """Equal pairs once, with the sum of their sides."""
    a, b, sides = borders
    pairs, at = _distinct(np.minimum(a, b), np.maximum(a, b))
    return np.concatenate([pairs, np.bincount(at, weights=sides)[None].astype(np.int64)])


def _distinct(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2, n) the distinct pairs of `a` and `b`, in order, and which of them each pair is.

    As ``np.unique(axis=1)``, but of one number per pair, which sorts ten times as fast.
    """
    count = int(b.max(initial=0)) + 1
    pairs, at = np.unique(a * count + b, return_inverse=True)
    return np.stack(np.divmod(pairs, count)), at
