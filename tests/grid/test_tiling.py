import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geopipe.errors import GridError
from geopipe.grid import Tiling

sides = st.integers(1, 1500)


@given(st.tuples(sides, sides), st.sampled_from([256, 512, 1024]), st.integers(0, 80))
@example((1, 1), 256, 40)
@example((5, 4999), 256, 0)
@example((4999, 5), 1024, 8)
@example((256, 512), 256, 1)
@example((257, 255), 256, 1)
@settings(max_examples=40, deadline=None)
def test_cores_cover_every_pixel_once(shape, core, halo):
    tiling = Tiling(shape, core, halo)
    owners = np.zeros(shape, np.uint8)
    tiles = list(tiling)
    for tile in tiles:
        assert min(tile.core.shape) >= 1
        assert max(tile.core.shape) <= core
        assert tile.core.clip(shape) == tile.core
        assert (tile.core.row % core, tile.core.col % core) == (0, 0)
        assert tile.read == tile.core.expand(halo)
        owners[tile.core.slices] += 1
    assert (owners == 1).all()
    assert [t.index for t in tiles] == list(range(len(tiling)))
    assert [tiling[i] for i in range(len(tiling))] == tiles
    assert len(tiling) == tiling.grid[0] * tiling.grid[1]


@pytest.mark.parametrize("core", [300, 0, -256, 1, 255, 257, 1000])
def test_cores_off_the_output_block_are_refused_with_one_that_works(core):
    with pytest.raises(
        GridError, match=f"a tile size of {core} is not a multiple of 256; try"
    ) as e:
        Tiling((600, 600), core)
    advice = int(re.search(r"try (\d+)", str(e.value)).group(1))
    assert sum(t.core.height * t.core.width for t in Tiling((600, 600), advice)) == 600 * 600


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (-1, 5)])
def test_an_empty_plane_is_refused(shape):
    with pytest.raises(GridError, match=f"{shape[0]} x {shape[1]}"):
        Tiling(shape, 256)


def test_a_negative_halo_is_refused():
    with pytest.raises(GridError, match="halo=-1"):
        Tiling((5, 5), 256, -1)


@pytest.mark.parametrize("index", [-1, 6, 99])
def test_there_are_no_other_tiles(index):
    with pytest.raises(IndexError):
        Tiling((500, 700), 256)[index]


def test_bands_hold_every_tile_once_and_rows_within_them():
    tiling = Tiling((700, 5000), 256)  # 3 x 20 tiles
    found = [tile.index for tile in tiling.banded(8)]
    assert sorted(found) == list(range(60))
    assert found[:10] == [0, 1, 2, 3, 4, 5, 6, 7, 20, 21]
    assert found[-4:] == [56, 57, 58, 59]
    assert list(Tiling((256, 256), 256).banded()) == list(Tiling((256, 256), 256))
