import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geopipe.checkpoint import network_input
from geopipe.classes import IGNORE, load_scheme
from geopipe.errors import LabelError, SceneError
from geopipe.grid import NetworkGrid, Window
from geopipe.learn import PatchPool, PatchSampler, build_pool
from geopipe.learn import sampler as module
from geopipe.learn.sampler import (
    PoolBlock,
    dihedral,
    fitting_patch,
    join_pools,
    require_classes,
)
from geopipe.raster import Scene

SCHEME = load_scheme("buildings-roads")
HALO = 32


def pool_of(*labels, halo=4, classes=3):
    """A pool whose image says, at every labelled pixel, what the label is (7 around them)."""
    blocks = []
    for ids in labels:
        image = np.pad(ids.astype(np.float32), halo, constant_values=7)[None]
        blocks.append(PoolBlock(image, np.ones(image.shape[1:], bool), ids))
    positions = tuple(
        np.array(
            [(i, r, c) for i, ids in enumerate(labels) for r, c in np.argwhere(ids == k)], np.int32
        )
        for k in range(classes)
    )
    return PatchPool(tuple(blocks), halo, classes, 1.0, positions)


def rare(shape, seed=0):
    """Mostly 0, one pixel of 2, some of 1, some unknown."""
    rng = np.random.default_rng(seed)
    ids = rng.choice([0, 1, IGNORE], shape, p=[0.9, 0.02, 0.08]).astype(np.uint8)
    ids[rng.integers(shape[0]), rng.integers(shape[1])] = 2
    return ids


POOL = pool_of(rare((40, 57)), rare((23, 90), 1))


def cut(pool, draw, patch):
    index, row, col, _ = draw
    return pool.blocks[index].labels[row : row + patch, col : col + patch]


# Drawing patches


@given(st.integers(0, 10**6), st.integers(0, 99), st.integers(1, 23), st.booleans())
@settings(max_examples=150, deadline=None)
def test_patches_stay_inside(number, seed, patch, balanced):
    draw = PatchSampler(POOL, patch, seed, balanced=balanced).sample(number)
    assert cut(POOL, draw, patch).shape == (patch, patch)
    assert min(draw) >= 0
    assert draw[3] < 8


@given(st.integers(0, 10**6), st.integers(0, 99), st.integers(1, 23))
@settings(max_examples=150, deadline=None)
def test_classes_take_turns(number, seed, patch):
    draw = PatchSampler(POOL, patch, seed).sample(number)
    assert number % 3 in cut(POOL, draw, patch)


@pytest.mark.parametrize("balanced", [True, False])
def test_a_draw_depends_on_seed_and_number_alone(balanced):
    def draws(seed, numbers):
        sampling = PatchSampler(POOL, 16, seed, balanced=balanced)
        return {n: sampling.sample(n) for n in numbers}

    forward = draws(5, range(60))
    assert draws(5, reversed(range(60))) == forward
    assert draws(6, range(60)) != forward
    assert len(set(forward.values())) > 50


def test_unbalanced_patches_lie_anywhere():
    pool = pool_of(np.zeros((20, 30), np.uint8), np.zeros((20, 60), np.uint8), classes=1)
    sampling = PatchSampler(pool, 8, 0, balanced=False)
    seen = [np.zeros(b.labels.shape) for b in pool.blocks]
    for number in range(2000):
        index, row, col, _ = sampling.sample(number)
        seen[index][row : row + 8, col : col + 8] += 1
    assert min(s.min() for s in seen) > 0
    assert seen[1].sum() / seen[0].sum() == pytest.approx(2, rel=0.15)
    # Patches that would stick out are moved in: the rim is not starved.
    assert seen[1][0].mean() > 0.5 * seen[1].mean()


def test_a_balanced_pixel_lies_anywhere_in_its_patch():
    ids = np.zeros((60, 60), np.uint8)
    ids[30, 30] = 1
    sampling = PatchSampler(pool_of(ids, classes=2), 8, 0)
    places = {
        (30 - row, 30 - col) for _, row, col, _ in (sampling.sample(2 * n + 1) for n in range(800))
    }
    assert places == {(r, c) for r in range(8) for c in range(8)}


def test_symmetries_are_the_eight_of_a_square():
    x = torch.arange(9).reshape(3, 3)
    found = {tuple(dihedral(x, s).flatten().tolist()) for s in range(8)}
    turned = [torch.rot90(y, k) for y in (x, x.flip(0)) for k in range(4)]
    assert found == {tuple(y.flatten().tolist()) for y in turned}
    assert torch.equal(dihedral(x, 0), x)


@pytest.mark.parametrize("symmetry", range(8))
def test_symmetries_apply_alike_to_any_array(symmetry):
    x = torch.randn(2, 3, 5, 7)
    out = dihedral(x, symmetry)
    for i in range(2):
        for j in range(3):
            assert torch.equal(out[i, j], dihedral(x[i, j], symmetry))
    inner = dihedral(x[..., 1:-1, 1:-1], symmetry)
    assert torch.equal(inner, out[..., 1:-1, 1:-1])


def test_without_augmentation_nothing_is_turned():
    assert {PatchSampler(POOL, 8, 0, augment=False).sample(n)[3] for n in range(30)} == {0}
    assert {PatchSampler(POOL, 8, 0, augment=True).sample(n)[3] for n in range(99)} == set(range(8))


@pytest.mark.parametrize("halo", [4, 3, 0])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_batches_hold_images_and_labels_of_one_place(jitter, halo):
    from geopipe.learn.base_network import _batch

    sampling = PatchSampler(POOL, 16, 0, jitter=jitter)
    blocks = [(torch.from_numpy(b.image), b.labels, b.labels + 1) for b in POOL.blocks]
    images, labels, cores = _batch(sampling, blocks, range(30, 42), halo)
    assert images.shape == (12, 1, 16 + 2 * halo, 16 + 2 * halo)
    assert labels.shape == (12, 16, 16)
    assert torch.equal(cores, labels + 1)
    for image, ids in zip(images[:, 0, halo : halo + 16, halo : halo + 16], labels, strict=True):
        for k in ids.unique():  # another light, but one value per class
            values = image[ids == k]
            assert values.max() - values.min() < 1e-3
        if not jitter:
            assert torch.equal(image.byte(), ids)


def test_another_light_is_one_gain_and_offset_a_band():
    sampling = PatchSampler(POOL, 16, 0, jitter=0.2)
    x = torch.randn(3, 10, 10, dtype=torch.float64)
    changes = []
    for number in range(300):
        y = sampling.radiometric_jitter(x, number)
        assert torch.equal(y, sampling.radiometric_jitter(x, number))
        for before, after in zip(x, y, strict=True):
            gain, offset = np.polyfit(before.flatten(), after.flatten(), 1)
            np.testing.assert_allclose(before * gain + offset, after, atol=1e-5)
            changes.append((gain - 1, offset))
    gain, offset = np.array(changes).std(0)
    assert offset == pytest.approx(0.2, rel=0.2)
    assert gain == pytest.approx(0.1, rel=0.2)
    assert sampling.radiometric_jitter(x.float(), 1).dtype == torch.float32
    assert torch.equal(PatchSampler(POOL, 16, 0).radiometric_jitter(x, 1), x)


# Building the pool


@pytest.fixture
def site(make_raster, array_labels):
    """``site(shape, ids=None)``: scene with a hole at half a metre, labels and grid at a metre."""

    def make(shape, ids=None, source_scheme=SCHEME):
        rng = np.random.default_rng(0)
        data = rng.integers(1, 255, (3, 2 * shape[0], 2 * shape[1])).astype(np.uint8)
        data[:, 20:30, 40:60] = 0
        half = Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)
        scene = Scene.open(make_raster(data, nodata=0, transform=half))
        grid = NetworkGrid.of(scene.geobox, 1.0)
        assert grid.shape == shape
        ids = rng.integers(0, 3, shape).astype(np.uint8) if ids is None else ids
        labels = array_labels(source_scheme, grid.geobox(scene.geobox), ids, "the mapper")
        return scene, labels, grid

    return make


@pytest.mark.parametrize(("shape", "block"), [((70, 90), 1024), ((131, 70), 64), ((129, 130), 64)])
def test_blocks_cover_the_scene_once_with_its_own_pixels(site, monkeypatch, shape, block):
    monkeypatch.setattr(module, "BLOCK_PX", block)
    scene, labels, grid = site(shape)
    pool = build_pool(scene, labels, grid, halo=HALO, patch=32, seed=0)
    windows = list(module._blocks(shape))
    whole, valid = (
        x.numpy() for x in network_input(scene, grid, Window.of_shape(shape).expand(HALO + 4))
    )
    expected = np.where(valid[HALO + 4 : -HALO - 4, HALO + 4 : -HALO - 4], labels.ids, IGNORE)
    owners = np.zeros(shape, int)
    for window, b in zip(windows, pool.blocks, strict=True):
        assert (window.row % 4, window.col % 4) == (0, 0)
        owners[window.slices] += 1
        np.testing.assert_array_equal(b.labels, expected[window.slices])
        around = Window(window.row + 4, window.col + 4, *b.image.shape[1:])
        np.testing.assert_array_equal(b.image, whole[(slice(None), *around.slices)])
        np.testing.assert_array_equal(b.valid, valid[around.slices])
        for n, m in zip(b.image.shape[1:], b.labels.shape, strict=True):
            assert n - 2 * HALO == -(-m // 4) * 4
    assert (owners == 1).all()
    assert pool.share == 1
    np.testing.assert_array_equal(pool.counts, np.bincount(expected.ravel(), minlength=256)[:3])
    assert (expected[10:15, 20:30] == IGNORE).all()
    assert pool.credit == "the mapper"


def test_positions_are_pixels_of_their_class(site, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PX", 64)
    monkeypatch.setattr(module, "POSITIONS", 50)
    pool = build_pool(*site((100, 90)), halo=HALO, patch=32, seed=0)
    for k, at in enumerate(pool.positions):
        assert len({tuple(p) for p in at}) == 50 * len(pool.blocks)
        assert all(pool.blocks[i].labels[r, c] == k for i, r, c in at)


def test_of_a_large_scene_a_random_part_is_read(site, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PX", 32)
    monkeypatch.setattr(module, "MAX_PX", 5000)
    scene, labels, grid = site((128, 128))

    def build(seed):
        return build_pool(scene, labels, grid, halo=4, patch=32, seed=seed)

    one, same, other = build(0), build(0), build(1)
    assert sum(b.labels.size for b in one.blocks) == 4 * 32 * 32
    assert one.share == 4 / 16
    firsts = [[b.image[0, 8, :8].tolist() for b in p.blocks] for p in (one, same, other)]
    assert firsts[0] == firsts[1] != firsts[2]


def test_of_a_large_scene_no_labelled_part_is_left_out(site, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PX", 32)
    monkeypatch.setattr(module, "MAX_PX", 2000)
    ids = np.full((128, 128), IGNORE, np.uint8)
    ids[70:90, 100:120] = np.arange(20) % 3  # in one block of sixteen
    scene, labels, grid = site((128, 128), ids)
    for seed in range(4):
        pool = build_pool(scene, labels, grid, halo=4, patch=32, seed=seed)
        assert pool.counts.sum() == 400


def test_statistics_are_over_labelled_pixels(site):
    ids = np.tile(np.arange(90, dtype=np.uint8) % 3, (70, 1))
    ids[:, 40:] = IGNORE
    pool = build_pool(*site((70, 90), ids), halo=HALO, patch=32, seed=0)
    block = pool.blocks[0]
    core = block.image[:, HALO : HALO + 70, HALO : HALO + 90]
    pixels = core[:, block.labels != IGNORE]
    mean, std = pool.statistics()
    np.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-5)
    np.testing.assert_allclose(std, pixels.std(1), rtol=1e-4)
    with pytest.raises(AssertionError):  # not those of all that is valid
        np.testing.assert_allclose(mean, block.image[:, block.valid].mean(1), rtol=1e-5)


def test_statistics_are_over_valid_pixels(site):
    pool = build_pool(*site((70, 90)), halo=HALO, patch=32, seed=0)
    block = pool.blocks[0]
    assert not block.valid.all()
    pixels = block.image[:, block.valid]
    mean, std = pool.statistics()
    np.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-5)
    np.testing.assert_allclose(std, pixels.std(1), rtol=1e-4)


def test_a_constant_band_is_refused():
    with pytest.raises(SceneError, match="constant"):
        pool_of(np.full((9, 9), 7, np.uint8)).statistics()


@pytest.mark.parametrize("shape", [(31, 90), (90, 31)])
def test_a_scene_smaller_than_a_patch(site, shape):
    with pytest.raises(SceneError, match=rf"{shape[0]} x {shape[1]} px .*32 x 32"):
        build_pool(*site(shape), halo=HALO, patch=32, seed=0)


@pytest.mark.parametrize(
    ("absent", "words"), [((2,), "class road"), ((0, 1), "background, building")]
)
def test_a_class_without_a_pixel_is_named(site, absent, words):
    ids = np.random.default_rng(0).integers(0, 3, (70, 90)).astype(np.uint8)
    ids[np.isin(ids, absent)] = ({0, 1, 2} - set(absent)).pop()
    with pytest.raises(LabelError, match=words):
        build_pool(*site((70, 90), ids), halo=HALO, patch=32, seed=0)


def test_a_class_that_lies_in_holes_alone_is_missing(site):
    ids = np.zeros((70, 90), np.uint8)
    ids[0, :], ids[11:14, 22:28] = 1, 2
    with pytest.raises(LabelError, match="road"):
        build_pool(*site((70, 90), ids), halo=HALO, patch=32, seed=0)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((4000, 300), (256, 4)),
        ((256, 256), (256, 4)),
        ((255, 900), (128, 16)),
        ((100, 100), (64, 64)),
        ((20, 500), (64, 64)),
    ],
)
def test_patches_are_halved_until_they_fit_and_a_step_sees_as_many_pixels(shape, wanted):
    assert fitting_patch(shape, 256, 4) == wanted


def test_a_small_patch_stays_as_it_is():
    assert fitting_patch((50, 50), 64, 16) == (64, 16)
    assert fitting_patch((10, 10), 16, 2) == (16, 2)


def test_pools_of_several_scenes_are_one(site, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PX", 64)
    ids = np.zeros((70, 90), np.uint8)
    ids[:, 40:] = 1  # no road here
    first = build_pool(*site((70, 90), ids), halo=HALO, patch=32, seed=0, every_class=False)
    second = build_pool(*site((131, 70)), halo=HALO, patch=32, seed=1)
    pool = join_pools([first, second])
    np.testing.assert_array_equal(pool.counts, first.counts + second.counts)
    assert len(pool.blocks) == len(first.blocks) + len(second.blocks)
    for k, at in enumerate(pool.positions):
        assert len(at) == len(first.positions[k]) + len(second.positions[k])
        assert all(pool.blocks[i].labels[r, c] == k for i, r, c in at)
    pixels = [p.counts.sum() for p in (first, second)]
    means = [p.statistics()[0] for p in (first, second)]
    np.testing.assert_allclose(pool.statistics()[0], np.average(means, axis=0, weights=pixels))
    assert (pool.share, pool.credit) == (1, "the mapper")
    drawn = {PatchSampler(pool, 16, 0).sample(n)[0] for n in range(300)}
    assert drawn == set(range(len(pool.blocks)))
    require_classes(pool, SCHEME.names, ["a", "b"])
    with pytest.raises(LabelError, match="a, b have no pixel of class road"):
        require_classes(join_pools([first, first]), SCHEME.names, ["a", "b"])
