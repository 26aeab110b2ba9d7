"""A slow build in small parts, to be killed: killed_build.py INDEX SOURCE..."""

import sys
import time
from pathlib import Path

from retrieve_world import PLAN, SMALL

from geopipe.retrieve import EmbeddingModel, build, sources

PART, FILES = 6, 3


def in_small_parts(patch):
    """`patch(module, name, value)`: builds as this one's."""
    patch(build, "CHIPS_PER_PART", PART)
    patch(sources, "CHIPS_PER_PART", PART)
    patch(sources, "FILES", FILES)


def main(folder, *given):
    in_small_parts(setattr)
    describe = EmbeddingModel.embed

    def slowly(self, images):
        time.sleep(0.1)
        return describe(self, images)

    EmbeddingModel.embed = slowly
    build.build_index(given, Path(folder), EmbeddingModel(SMALL, "random:0"), PLAN)


if __name__ == "__main__":
    main(*sys.argv[1:])
