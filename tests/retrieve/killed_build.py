"""A slow build in small parts, to be killed: killed_build.py INDEX SOURCE..."""

import sys
import time
from pathlib import Path

from retrieve_world import PLAN, SMALL

from geopipe.retrieve import Model
from geopipe.workflow import indexing, indexsources

PART, FILES = 6, 3


def in_small_parts(patch):
    """`patch(module, name, value)`: builds as this one's."""
    patch(indexing, "PART", PART)
    patch(indexsources, "PART", PART)
    patch(indexsources, "FILES", FILES)


def main(folder, *sources):
    in_small_parts(setattr)
    describe = Model.describe

    def slowly(self, images):
        time.sleep(0.1)
        return describe(self, images)

    Model.describe = slowly
    indexing.build_index(sources, Path(folder), Model(SMALL, "random:0"), PLAN)


if __name__ == "__main__":
    main(*sys.argv[1:])
