"""Reduced precision, allowed only where it leaves the map as it is."""

import logging
from dataclasses import replace

import numpy as np

from geopipe.classes import IGNORE
from geopipe.errors import ConfigError
from geopipe.grid import Tiling
from geopipe.mapping.tile import TileJob

log = logging.getLogger(__name__)

MIN_AGREEMENT = 0.999
"""Share of valid pixels that must keep their class."""
_SAMPLE = 4
"""Tiles that are computed twice, spread over the scene."""


def require_agreement(job: TileJob, tiling: Tiling) -> float:
    """Share of the sample's valid pixels that have the class that float32 gives.

    Raises ConfigError when it is less than MIN_AGREEMENT; a sample without valid pixels agrees.
    """
    exact, same, valid = replace(job, precision="float32"), 0, 0
    for i in range(_SAMPLE):
        tile = tiling[(2 * i + 1) * len(tiling) // (2 * _SAMPLE)]
        a, b = (j.compute(tile)[len(job.iterations) - 1] for j in (exact, job))
        valid_mask = a != IGNORE
        valid += int(np.count_nonzero(valid_mask))
        same += int(np.count_nonzero(valid_mask & (a == b)))
    share = same / valid if valid else 1.0
    log.info("%s gives %.3f %% of a sample the class of float32", job.precision, 100 * share)
    if share < MIN_AGREEMENT:
        raise ConfigError(
            f"{job.precision} changes the class of {100 * (1 - share):.2f} % of a sample of "
            f"{valid} pixels, more than {100 * (1 - MIN_AGREEMENT):.1f} %",
            "map with `precision` float32",
        )
    return share
