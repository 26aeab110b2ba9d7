"""Thin a mask to lines one pixel wide (Guo and Hall 1989), at the cost of the mask's pixels alone.

Each pass looks only at the pixels that are still there, so a scene of which a twentieth is road
takes a twentieth of the time of passes over the whole array; the result is the one of
``skimage.morphology.thin``.
"""

import numpy as np

_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""(row, column) of the neighbours, anticlockwise from the right: x1 to x8 in the paper."""


def _deletable() -> tuple[np.ndarray, np.ndarray]:
    """For each of the 256 neighbourhoods: may the pixel go in the first, in the second half-pass?

    Bit k of the index is neighbour k of `_RING`.
    """
    x = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)
    even, odd, next_odd = x[:, 1::2], x[:, 0::2], np.roll(x[:, 0::2], -1, axis=1)
    one_crossing = (~odd & (even | next_odd)).sum(axis=1) == 1
    pairs = np.minimum((odd | even).sum(axis=1), (even | next_odd).sum(axis=1))
    common = one_crossing & (pairs >= 2) & (pairs <= 3)
    first = common & ~((x[:, 1] | x[:, 2] | ~x[:, 7]) & x[:, 0])
    second = common & ~((x[:, 5] | x[:, 6] | ~x[:, 3]) & x[:, 4])
    return first, second


_FIRST, _SECOND = _deletable()


def thin(mask: np.ndarray, max_passes: int) -> tuple[np.ndarray, bool]:
    """`mask` (h, w) bool thinned, and whether no pixel was left to take away.

    A pixel of the result depends on nothing farther off than 2 x `max_passes` pixels, and with all
    passes done on no more than about twice the half-width of the area it lies in. What lies
    outside of the array is not part of the mask.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    flat = padded.reshape(-1)
    offsets = [row * padded.shape[1] + col for row, col in _RING]
    left = np.flatnonzero(flat)
    done = False
    for _ in range(max_passes):
        before = len(left)
        for table in (_FIRST, _SECOND):
            code = np.zeros(len(left), np.uint8)
            for bit, offset in enumerate(offsets):
                code |= flat[left + offset] << np.uint8(bit)
            gone = table[code]
            flat[left[gone]] = 0
            left = left[~gone]
        done = len(left) == before
        if done:
            break
    return padded[1:-1, 1:-1].astype(bool), done
