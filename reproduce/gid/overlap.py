"""Which crops share pixels: crops of GID-MTL are windows of the same scenes, and some overlap."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from geopipe.errors import LabelError

_BLOCK = 8
_PLAIN = 1.0
"""Deviation, of 255 levels, below which a block of water or shade is equal to others by chance."""


def shared_with_source(gid: Path) -> frozenset[str]:
    """Names (folder/stem) of the target crops that share any block of pixels with a source crop.

    As the table ``overlap.csv`` beside the crops has it; LabelError where it cannot be read.
    """
    path = gid / "overlap.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return frozenset(
                f"{row['class']}/{row['crop']}"
                for row in csv.DictReader(file)
                if float(row["share_in_source"]) > 0
            )
    except (OSError, KeyError, ValueError) as e:
        raise LabelError(
            f"cannot read {path}: {e}",
            "it has the columns class, crop and share_in_source, a row for each target crop",
        ) from e


def overlap_groups(images: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) int: equal for crops (bands, h, w) uint8 that share pixels, also through others.

    Two do where a block of 8 x 8 px on the grid of one stands pixel for pixel anywhere in the
    other; blocks of nearly one colour are left out.
    """
    blocks, owners = [], []
    for number, image in enumerate(images):
        aligned = _hashes(image)[::_BLOCK, ::_BLOCK]
        textured = aligned[~_plain(image, aligned.shape)]
        blocks.append(textured)
        owners.append(np.full(len(textured), number))
    known, index = np.unique(np.concatenate(blocks), return_inverse=True)
    if not len(known):
        return np.arange(len(images))
    rows, columns = [np.concatenate(owners)], [index]
    for number, image in enumerate(images):  # hashed again: those of all crops take 0.5 GB
        flat = np.unique(_hashes(image))
        at = np.minimum(np.searchsorted(known, flat), len(known) - 1)
        matched = at[known[at] == flat]
        rows.append(np.full(len(matched), number))
        columns.append(matched)
    row, column = np.concatenate(rows), len(images) + np.concatenate(columns)
    size = len(images) + len(known)
    links = coo_matrix((np.ones(len(row), bool), (row, column)), (size, size))
    groups = connected_components(links, directed=False)[1][: len(images)]
    return np.asarray(np.unique(groups, return_inverse=True)[1])


def _hashes(image: np.ndarray) -> np.ndarray:
    """(h - 7, w - 7) uint64 of the 8 x 8 px from each position on; sums that wrap around."""
    rng = np.random.default_rng(0)
    of_bands, of_rows, of_cols = (
        rng.integers(1, 2**63, n, dtype=np.uint64) for n in (len(image), _BLOCK, _BLOCK)
    )
    mixed = (image.astype(np.uint64) * of_bands[:, None, None]).sum(0)
    mixed ^= mixed >> np.uint64(29)  # or swapping a row's and a column's weight would go unseen
    h, w = (n - _BLOCK + 1 for n in mixed.shape)
    across = np.asarray(sum(mixed[:, i : i + w] * of_cols[i] for i in range(_BLOCK)))
    across ^= across >> np.uint64(31)
    return np.asarray(sum(across[i : i + h] * of_rows[i] for i in range(_BLOCK)))


def _plain(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(rows, cols) bool: blocks on the crop's grid that are nearly of one colour."""
    rows, cols = shape
    part = image[:, : rows * _BLOCK, : cols * _BLOCK].astype(np.float32)
    blocks = part.reshape(len(image), rows, _BLOCK, cols, _BLOCK)
    return np.asarray(blocks.std((2, 4)).max(0) < _PLAIN)
