"""Object voting: base scores take the outlines of segments, which never exceed a known extent.

Tong et al. 2020 (Remote Sensing of Environment 237:111322): patches are classified,
and in the segments of a hierarchical segmentation the majority decides. Segmentation by Boruvka
rounds: Wei et al. 2018 (IEEE TIP 27:10, 4838-4849). Extents are bounded so that tiles agree, in the
spirit of Lassalle et al. 2015 (IEEE TGRS 53:10, 5473-5485).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geopipe.errors import ConfigError
from geopipe.nets.base import MIN_PROBABILITY

SCALES = (128,)
"""Largest sides of the segments, net pixels: on average a little larger than a patch of 56 px."""
MARGIN = 128
"""Net pixels beyond the largest segment that have a say in its outline, in practice (record 12)."""
CONTRAST = 2.0
"""Regions further apart do not join: of the normalised image's deviations, bands' root mean square.
"""
_SIGMA, _TRUNCATE = 0.8, 4.0
_DOUBLINGS = 3
"""Doublings: a segment joins at most 2^3 links away, so that no chain carries news far."""

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


FLOATS = 40
"""float32 values per pixel that are held at most, about."""


class SegmentVote(nn.Module):
    """Scores to log shares of votes, per pixel averaged over its segments of all `scales`.

    Inputs (N, classes, H + 2 receptive_radius, W + 2 receptive_radius) and (N, bands, the same),
    the image normalised and 0 in all bands where it is invalid; output (N, classes, H, W), whose
    softmax is the shares.
    A pixel votes for the class of its highest score. Invalid ones neither vote nor join, and keep
    their own vote. Nothing is learned, and no gradient passes.

    `scales`: largest sides of the segments in pixels, increasing; segments of a scale are unions of
    the finer one's. Tiles agree where `receptive_radius`, the context used up on each side, holds
    the segments and what shapes them: default is the largest scale and MARGIN.
    """

    def __init__(
        self, classes: int, *, scales: tuple[int, ...] = SCALES, receptive_radius: int | None = None
    ) -> None:
        super().__init__()
        scales = tuple(scales)
        if not scales or scales[0] < 2 or sorted(set(scales)) != list(scales):
            raise ConfigError(f"scales {scales} must increase and start at 2 px or more")
        receptive_radius = scales[-1] + MARGIN if receptive_radius is None else receptive_radius
        if receptive_radius < scales[-1]:
            raise ConfigError(
                f"a receptive-field radius of {receptive_radius} px cuts segments "
                f"of {scales[-1]} px",
                f"take {scales[-1] + MARGIN} px, or smaller scales",
            )
        self.classes, self.scales, self.receptive_radius = classes, scales, receptive_radius
        self.iterations = 1

    @property
    def architecture(self) -> dict[str, Any]:
        """What `build_postprocessor` makes an untrained one from (JSON values)."""
        return {
            "segments": {"scales": list(self.scales), "receptive_radius": self.receptive_radius}
        }

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        return self.steps(scores, image)[-1]

    def steps(self, scores: Tensor, image: Tensor) -> list[Tensor]:
        """u_0 as given and u_1, smaller by `receptive_radius` on every side.

        Both are float32 and on the device of `scores`.
        """
        height, width = (n - 2 * self.receptive_radius for n in scores.shape[-2:])
        if min(height, width) < 1 or scores.shape[-2:] != image.shape[-2:]:
            raise ConfigError(
                f"scores of {tuple(scores.shape[-2:])} px and an image of "
                f"{tuple(image.shape[-2:])} px leave nothing "
                f"within a receptive-field radius of {self.receptive_radius} px"
            )
        votes = scores.argmax(1).cpu().numpy()
        bands = image.detach().float().cpu().numpy()
        core = np.s_[
            ...,
            self.receptive_radius : self.receptive_radius + height,
            self.receptive_radius : self.receptive_radius + width,
        ]
        shares = [self._shares(v, b, core) for v, b in zip(votes, bands, strict=True)]
        u1 = torch.from_numpy(np.stack(shares)).permute(0, 3, 1, 2).clamp(min=MIN_PROBABILITY).log()
        return [scores, u1.to(scores.device, torch.float32)]

    def _shares(self, votes: NDArray[np.int64], image: NDArray[np.float32], core: Any) -> Floats:
        """(H, W, classes) of one image."""
        valid: Bools = (image != 0).any(0)
        own = votes[core]
        out: Floats = np.zeros((*own.shape, self.classes))
        for labels in segment(image, valid, self.scales):
            segments = int(labels.max()) + 1
            ballots = (labels * np.int64(self.classes) + votes)[valid]
            count = np.bincount(ballots, minlength=segments * self.classes)
            count = count.reshape(segments, self.classes)
            share = count / np.maximum(count.sum(1, keepdims=True), 1)
            out += (share / len(self.scales))[labels[core]]
        cast = own[..., None] == np.arange(self.classes)
        return np.where(valid[core][..., None], out, cast)


def segment(
    image: NDArray[np.floating[Any]], valid: Bools, scales: Sequence[int]
) -> Iterator[Ints]:
    """Labels (h, w) int32 per scale of an image (bands, h, w); no segment's side exceeds the scale.

    Segments are 4-connected and numbered by their first pixels, row by row. Every step compares
    only neighbours, and breaks ties by an order of positions that is the same in any window, so
    what lies far away has no say. Invalid pixels are segments of their own.
    """
    regions, labels = _pixels(_smooth(image, valid), valid)
    done = 0
    for scale in scales:
        for _ in range(done, rounds := _rounds(scale)):
            regions, new = _contracted(regions, _merge_targets(regions, scale))
            labels = new[labels]
        done = rounds
        yield labels.reshape(valid.shape)


def _rounds(scale: int) -> int:
    """Boruvka rounds up to a scale: a round makes areas 3 times as large, sides not quite twice.

    More would fill the segments up to their bounds, and news of who did would travel far.
    """
    return math.ceil(math.log2(scale))


@dataclass(frozen=True, slots=True)
class _Regions:
    """Regions and which of them touch."""

    size: Floats
    """(n,) pixels."""
    total: Floats
    """(bands, n): sums of the pixels' values."""
    box: tuple[Ints, Ints, Ints, Ints]
    """First row and column, last row and column, (n,) each."""
    a: Ints
    """(edges,): a < b touch; edges are in the order of (a, b)."""
    b: Ints

    def squared_distance(self, a: Ints, b: Ints) -> Floats:
        """Squared distance of the means, summed over bands."""
        distance = np.zeros(len(a))
        for total in self.total:
            mean = total / self.size
            distance += (mean[a] - mean[b]) ** 2
        return distance

    def cost(self) -> Floats:
        """(edges,): by how much joining raises the sum of squared errors (Ward)."""
        a, b, size = self.a, self.b, self.size
        cost: Floats = self.squared_distance(a, b) * (size[a] * size[b] / (size[a] + size[b]))
        return cost

    def may_join(self, a: Ints, b: Ints, scale: int) -> Bools:
        """The two together stay within `scale`, and are not of different worlds."""
        top, left, bottom, right = self.box
        rows = np.maximum(bottom[a], bottom[b]) - np.minimum(top[a], top[b])
        cols = np.maximum(right[a], right[b]) - np.minimum(left[a], left[b])
        is_similar = self.squared_distance(a, b) <= CONTRAST**2 * len(self.total)
        joinable: Bools = (np.maximum(rows, cols) < scale) & is_similar
        return joinable


def _smooth(image: NDArray[np.floating[Any]], valid: Bools) -> Floats:
    """A small Gaussian; what is invalid has no weight."""
    from scipy.ndimage import gaussian_filter

    def blur(x: NDArray[Any]) -> Floats:
        out: Floats = gaussian_filter(x.astype(np.float64), _SIGMA, truncate=_TRUNCATE)
        return out

    bands = np.stack([blur(band) for band in image])
    return bands if valid.all() else np.where(valid, bands / np.maximum(blur(valid), 1e-6), 0)


def _pixels(image: Floats, valid: Bools) -> tuple[_Regions, Ints]:
    """Each pixel a region, and their numbers."""
    height, width = valid.shape
    ids = np.arange(valid.size, dtype=np.int32).reshape(valid.shape)
    adjacent = np.zeros((height, width, 2), bool)  # the pixel to the right, the one below
    adjacent[:, :-1, 0] = valid[:, :-1] & valid[:, 1:]
    adjacent[:-1, :, 1] = valid[:-1] & valid[1:]
    a = np.broadcast_to(ids[..., None], adjacent.shape)[adjacent]
    b = np.stack((ids + 1, ids + width), -1)[adjacent].astype(np.int32)
    rows, cols = (x.ravel() for x in np.indices(valid.shape, np.int32))
    total = image.reshape(len(image), -1)
    return _Regions(np.ones(valid.size), total, (rows, cols, rows, cols), a, b), ids.ravel()


def _merge_targets(regions: _Regions, scale: int) -> Ints:
    """(n,): the region that each joins, itself where it stays.

    Each points to the neighbour that costs least; who points to each other is a root, and all that
    lead to it within 2^_HOPS links join. Where this exceeds `scale`, only the roots do.
    """
    region_ids = np.arange(len(regions.size), dtype=np.int32)
    best = _nearest(regions, scale)
    mutual = best[best] == region_ids
    pair = np.where(mutual, np.minimum(region_ids, best), region_ids)
    parent = np.where(mutual, pair, best)
    root = parent
    for _ in range(_DOUBLINGS):
        root = root[root]
    root = np.where(parent[root] == root, root, region_ids)
    top, left, bottom, right = _boxes(regions.box, root, len(region_ids))
    large = np.maximum(bottom - top, right - left) >= scale
    # A pair was compared as an edge, and fits.
    return np.where(large[root], pair, root)


def _nearest(regions: _Regions, scale: int) -> Ints:
    """(n,): the neighbour that costs least, of equals the first edge's; itself if it may not join.

    Not the next best then: that one lies across an outline more often than not.
    """
    n, a, b = len(regions.size), regions.a, regions.b
    cost = regions.cost()
    lowest_cost = np.full(n, np.inf)
    for end in (a, b):
        np.minimum.at(lowest_cost, end, cost)
    edges = len(a)
    edge, numbers = np.full(n, edges, np.int32), np.arange(edges, dtype=np.int32)
    for end in (a, b):
        is_least = cost == lowest_cost[end]
        np.minimum.at(edge, end[is_least], numbers[is_least])
    nearest = np.arange(n, dtype=np.int32)
    with_edge = np.flatnonzero(edge < edges)
    first, second = a[edge[with_edge]], b[edge[with_edge]]
    joinable = regions.may_join(first, second, scale)
    nearest[with_edge[joinable]] = np.where(first == with_edge, second, first)[joinable]
    return nearest


def _boxes(box: tuple[Ints, ...], targets: Ints, n: int) -> tuple[Ints, Ints, Ints, Ints]:
    """The boxes of n regions made of those that go `targets` them."""
    top, left = (np.full(n, np.iinfo(np.int32).max, np.int32) for _ in range(2))
    bottom, right = (np.zeros(n, np.int32) for _ in range(2))
    for joined, bound in zip((top, left), box[:2], strict=True):
        np.minimum.at(joined, targets, bound)
    for joined, bound in zip((bottom, right), box[2:], strict=True):
        np.maximum.at(joined, targets, bound)
    return top, left, bottom, right


def _contracted(regions: _Regions, joined: Ints) -> tuple[_Regions, Ints]:
    """The joined regions, and for each old one the number of its new one."""
    old = len(joined)
    first = np.full(old, old, np.int32)
    np.minimum.at(first, joined, np.arange(old, dtype=np.int32))
    first = first[joined]
    is_first = np.zeros(old, bool)
    is_first[first] = True
    new = (np.cumsum(is_first, dtype=np.int32) - 1)[first]
    n = int(is_first.sum())
    a, b = new[regions.a], new[regions.b]
    distinct = a != b
    a, b = a[distinct], b[distinct]
    edges = np.sort(np.minimum(a, b) * np.int64(n) + np.maximum(a, b))
    edges = edges[np.diff(edges, prepend=-1) > 0]  # np.unique hashes, and takes half of all time
    total = np.stack([np.bincount(new, band, n).astype(np.float64) for band in regions.total])
    return _Regions(
        np.bincount(new, regions.size, n).astype(np.float64),
        total,
        _boxes(regions.box, new, n),
        (edges // n).astype(np.int32),
        (edges % n).astype(np.int32),
    ), new
