"""Cells: where patches are centred, which class they have, how they are read and split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.labels import RasterLabels
from geopipe.learn.patches import ChipRaster, PatchGrid, SceneRaster
from geopipe.learn.patches.rasters import Recent, read_patch
from geopipe.raster import Scene
from geopipe.raster.chips import Chip


class ArrayPlane:
    """A plane of ids that are their own picture."""

    path = "array"

    def __init__(self, ids):
        self.ids, self.shape = ids, ids.shape

    def labels(self, window):
        return self.ids[window.slices]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 20), st.integers(0, 99))
def test_a_cell_has_the_class_of_most_of_its_labelled_pixels(height, width, cell, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, IGNORE], (height // cell + 2, width // cell + 2))
    ids = coarse.repeat(cell, 0).repeat(cell, 1)[cell // 2 :, cell // 3 :][:height, :width]
    ids = np.where(rng.random((height, width)) < 0.2, 3, ids).astype(np.uint8)
    cells = PatchGrid.of([ArrayPlane(ids)], cell)
    for (_, row, col), found in zip(cells.positions.tolist(), cells.ids.tolist(), strict=True):
        part = ids[row * cell : (row + 1) * cell, col * cell : (col + 1) * cell].ravel()
        counts = np.bincount(part, minlength=256)[:IGNORE]
        known = counts.sum()
        clear = 2 * known >= cell**2 and 2 * counts.max() >= known
        assert found == (counts.argmax() if clear else IGNORE)
    rows, cols = cells.positions[:, 1:].max(0) + 1
    assert abs(rows * cell - height) <= max(cell / 2, cell - height)
    assert abs(cols * cell - width) <= max(cell / 2, cell - width)


def test_blocks_hold_each_cell_once(monkeypatch):
    planes = [ArrayPlane(np.zeros((70, 300), np.uint8)), ArrayPlane(np.zeros((8, 8), np.uint8))]
    cells = PatchGrid.of(planes, 4)
    cells = cells.subset(np.random.default_rng(0).permutation(len(cells))[: len(cells) // 2])
    seen = np.zeros(len(cells), int)
    for plane, window, indices in cells.blocks():
        seen[indices] += 1
        assert all(cells.rasters[i] is plane for i in cells.positions[indices, 0])
        for _, row, col in cells.positions[indices].tolist():
            assert window.row <= 4 * row
            assert 4 * row + 4 <= window.bottom
            assert window.col <= 4 * col
            assert 4 * col + 4 <= window.right
        assert window.height <= 64
        assert window.width <= 64
    assert (seen == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(0, 99))
def test_few_cells_of_many_are_not_read_with_all_between(count, seed):
    """What `--most` leaves out is not computed."""
    cells = PatchGrid.of([ArrayPlane(np.zeros((400, 400), np.uint8))], 4)
    lot = np.random.default_rng(seed).permutation(len(cells))[:count]
    there, read = [], 0
    for _, window, indices in cells.subset(lot).blocks():
        there += indices.tolist()
        read += window.height * window.width // 16
    assert sorted(there) == list(range(count))
    assert read <= 2 * count


def test_images_are_held_out_whole(chips):
    from geopipe.raster.chips import ChipFolder

    names = ChipFolder.open(chips).class_names
    planes = [ChipRaster(c, 3, names.index(c.class_name)) for c in ChipFolder.open(chips).chips]
    cells = PatchGrid.of(planes, 16)
    learnt, held = cells.split(0.3, 0, 32)
    assert (learnt ^ held).all()
    out = np.unique(cells.positions[held, 0])
    assert not np.isin(cells.positions[learnt, 0], out).any()
    assert np.bincount([planes[i].class_id for i in out]).tolist() == [3] * 5
    assert not np.array_equal(held, cells.split(0.3, 1, 32)[1])


def test_of_one_scene_no_patch_looks_into_what_is_held_out():
    cells = PatchGrid.of([ArrayPlane(np.zeros((400, 100), np.uint8))], 10)
    learnt, held = cells.split(0.25, 0, 50)
    lowest = 10 * cells.positions[held, 1].min()
    assert held.mean() == pytest.approx(0.25, abs=0.03)
    windows = [cells.window(i, 50) for i in np.flatnonzero(learnt)]
    assert max(w.bottom for w in windows) <= lowest


def test_masks_say_what_each_pixel_is(tmp_path):
    ids = np.full((32, 32), 7, np.uint8)
    ids[:16, 16:] = 2
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "c.png")
    Image.fromarray(ids).save(tmp_path / "m.png")
    plane = ChipRaster(Chip(str(tmp_path / "c.png")), 3, 1, str(tmp_path / "m.png"), 7)
    assert PatchGrid.of([plane], 16).ids.tolist() == [IGNORE, 2, IGNORE, IGNORE]
    Image.fromarray(ids[:31]).save(tmp_path / "m2.png")
    other = ChipRaster(Chip(str(tmp_path / "c.png")), 3, 1, str(tmp_path / "m2.png"))
    with pytest.raises(LabelError, match="32 x 31"):
        PatchGrid.of([other], 16)


def test_ids_without_a_class_are_told(scheme):
    cells = PatchGrid.of([ArrayPlane(np.full((32, 32), 5, np.uint8))], 16)
    with pytest.raises(LabelError, match="`unlabelled` 5"):
        cells.absent_classes(scheme)
    with pytest.raises(LabelError, match="another class than built-up"):
        cells.labelled(np.zeros(4)).absent_classes(scheme)
    assert cells.labelled(np.array([0, 0, 3, 0])).absent_classes(scheme) == [
        "farmland",
        "forest",
        "water",
    ]


def test_a_scene_and_its_labels_lie_on_each_other(mosaic, scheme, tmp_path, make_raster):
    path, ids = mosaic
    scene = Scene.open(path)
    truth = make_raster(ids[None], "ids.tif", crs="EPSG:32631", transform=scene.geobox.affine)
    plane = SceneRaster(scene, 4, RasterLabels.open(truth, scheme))
    cells = PatchGrid.of([plane], 16)
    assert np.array_equal(cells.ids, cells.positions[:, 2] // 4)
    image, valid = read_patch(plane, cells.window(0, 32))
    pixels = np.pad(scene.read().data, ((0, 0), (8, 8), (8, 8)), mode="symmetric")[:, :32, :32]
    assert np.array_equal(image.numpy(), pixels)
    assert valid.all()


def test_a_label_without_an_image_is_none(mosaic, scheme, make_raster):
    path, ids = mosaic
    pixels = Scene.open(path).read().data.copy()
    pixels[:, :, :100] = 0
    where = {"crs": "EPSG:32631", "transform": Scene.open(path).geobox.affine}
    holed = Scene.open(make_raster(pixels, "holed.tif", nodata=0, **where))
    truth = RasterLabels.open(make_raster(ids[None], "ids.tif", **where), scheme)
    cells = PatchGrid.of([SceneRaster(holed, 4, truth)], 16)
    expected = np.where(cells.positions[:, 2] < 6, IGNORE, cells.positions[:, 2] // 4)
    assert np.array_equal(cells.ids, expected)


def test_labels_are_read_in_blocks():
    plane, sides = ArrayPlane(np.tile(np.arange(3, dtype=np.uint8).repeat(40), (90, 3))), []
    cells = PatchGrid.of([plane], 2)
    real = plane.labels
    plane.labels = lambda window: sides.append(max(window.shape)) or real(window)
    assert np.array_equal(PatchGrid.of([plane], 2).ids, cells.ids)
    assert np.array_equal(cells.ids, cells.positions[:, 2] // 20 % 3)
    assert max(sides) <= 32


def test_decoded_chips_take_so_much_memory_and_no_more(chips):
    found = [Chip(str(p)) for p in sorted(chips.rglob("*.png"))[:6]]
    size = found[0].read().nbytes
    recent = Recent(3 * size)
    for chip in (*found, found[-1], found[0]):
        assert np.array_equal(recent(chip, 3), chip.read())
        assert recent.bytes == sum(x.nbytes for x in recent.entries.values()) <= 3 * size
    assert [c for c, _ in recent.entries] == [*found[-2:], found[0]]
    assert recent(found[0], 3) is recent(found[0], 3)
    small = Recent(size - 1)
    assert small(found[0], 3) is small(found[0], 3)
    small(found[1], 3)
    assert len(small.entries) == 1


def test_cells_of_two_sources_are_joined():
    a, b = (PatchGrid.of([ArrayPlane(np.full((8, 8), k, np.uint8))], 4) for k in (1, 2))
    both = a.joined(b)
    assert both.ids.tolist() == [1] * 4 + [2] * 4
    assert [both.rasters[i].ids[0, 0] for i in both.positions[:, 0]] == both.ids.tolist()
