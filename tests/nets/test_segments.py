"""Object voting: tiles agree with the whole, and outlines come from the image."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from geopipe.errors import ConfigError
from geopipe.nets.segment_vote import SegmentVote, segment

CLASSES, PATCH = 4, 56
SIDE = 280


def _textured(side: int, seed: int) -> Tensor:
    """(1, 3, side, side): noise on several scales, as in an image."""
    rng = np.random.default_rng(seed)
    bands = np.zeros((3, side, side))
    for band in bands:
        for sigma in (0.6, 2.0, 8.0):
            band += ndimage.gaussian_filter(rng.normal(size=(side, side)), sigma) * sigma
    return torch.from_numpy(bands).float()[None]


def _scores(votes: NDArray[np.int64]) -> Tensor:
    return F.one_hot(torch.from_numpy(votes), CLASSES).permute(2, 0, 1)[None].float()


def _patches(truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every patch of 56 px the class that most of it has."""
    out = np.empty_like(truth)
    for r in range(0, len(truth), PATCH):
        for c in range(0, len(truth), PATCH):
            part = np.s_[r : r + PATCH, c : c + PATCH]
            out[part] = np.bincount(truth[part].ravel()).argmax()
    return out


def _regions(seed: int) -> tuple[NDArray[np.int64], Tensor]:
    """Fields with straight outlines, and an image: a colour per field and noise."""
    rng = np.random.default_rng(seed)
    spots = rng.uniform(0, SIDE, (14, 2))
    at = np.indices((SIDE, SIDE)).transpose(1, 2, 0)
    field = ((at[..., None, :] - spots) ** 2).sum(-1).argmin(-1)
    kind = rng.integers(0, CLASSES, len(spots))
    colours = rng.normal(size=(len(spots), 3)) * 0.3 + np.eye(CLASSES)[kind][:, :3] * 2
    noise = rng.normal(size=(3, SIDE, SIDE)) * 0.3
    image = colours[field].transpose(2, 0, 1) + noise
    return kind[field], torch.from_numpy(image).float()[None]


def _voted(votes: NDArray[np.int64], image: Tensor) -> Tensor:
    net = SegmentVote(CLASSES, receptive_radius=128)  # all there is: around it nothing is valid
    context = (net.receptive_radius,) * 4
    out: Tensor = net(F.pad(_scores(votes), context), F.pad(image, context))
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_a_window_gives_what_the_whole_gives(seed: int) -> None:
    net = SegmentVote(CLASSES, scales=(8, 16, 32), receptive_radius=80)
    image = _textured(420, seed)
    image[..., 100:160, 200:230] = 0
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(size=(1, CLASSES, 420, 420))).float()
    whole = net(scores, image)
    for row, col, size in ((0, 131, 129), (97, 50, 163), (60, 7, 100)):
        window = (..., slice(row, row + size + 160), slice(col, col + size + 160))
        part = net(scores[window], image[window])
        assert torch.equal(part, whole[..., row : row + size, col : col + size])


def test_patches_take_the_outlines_of_known_regions() -> None:
    right, coarse = [], []
    for seed in range(3):
        truth, image = _regions(seed)
        votes = _patches(truth)
        coarse.append((votes == truth).mean())
        right.append((_voted(votes, image).argmax(1)[0].numpy() == truth).mean())
    assert np.mean(coarse) < 0.80
    assert np.mean(right) > 0.93  # 0.794 and 0.943 of the pixels


def test_segments_are_nested_bounded_connected_and_numbered_by_their_first_pixels() -> None:
    image = _textured(150, 3)[0].numpy()
    finer = None
    for scale, labels in zip((8, 16, 48), segment(image, image[0] < 9, (8, 16, 48)), strict=True):
        boxes = ndimage.find_objects(labels + 1)
        assert max(s.stop - s.start for box in boxes for s in box) <= scale
        first = np.unique(labels, return_index=True)[1]
        assert (np.diff(first) > 0).all()
        assert len(first) == labels.max() + 1
        for number, box in enumerate(boxes[:50]):
            assert ndimage.label(labels[box] == number)[1] == 1
        if finer is not None:
            pairs = np.unique(np.stack((finer.ravel(), labels.ravel())), axis=1)
            assert pairs.shape[1] == finer.max() + 1 > labels.max() + 1
        finer = labels


def test_each_segment_gets_the_shares_of_its_votes() -> None:
    net = SegmentVote(2, scales=(4,), receptive_radius=4)
    image = torch.ones(1, 1, 10, 10)
    image[..., 4:6, 4:6] = torch.tensor([[5.0, 5.1], [5.2, 5.4]])
    labels = next(segment(image[0].numpy(), np.ones((10, 10), bool), (4,)))
    votes = np.zeros((10, 10), int)
    votes[5] = 1
    scores = F.one_hot(torch.from_numpy(votes), 2).permute(2, 0, 1)[None].float()
    shares = net(scores, image)[0, 1].exp()
    expected = ndimage.mean(votes, labels, labels)[4:6, 4:6]
    assert expected.max() > 0
    assert np.allclose(shares, expected, atol=1e-5)


def test_a_small_region_that_looks_like_nothing_around_keeps_its_class() -> None:
    truth = np.zeros((SIDE, SIDE), int)
    truth[140:164, 150:178] = 1  # 24 x 28 px
    image = _textured(SIDE, 5) * 0.1
    image[:, 1, 140:164, 150:178] += 9
    best = _voted(truth, image).argmax(1)[0].numpy()
    assert ((best == 1) & (truth == 1)).sum() > 0.9 * (truth == 1).sum()
    assert ((best == 1) & (truth == 0)).sum() < 10


def test_invalid_pixels_neither_vote_nor_join() -> None:
    image = _textured(SIDE, 7) + 10
    gap = np.s_[90:130, 60:200]
    image[..., 90:130, 60:200] = 0
    votes = _patches(np.random.default_rng(0).integers(0, 3, (SIDE, SIDE)))
    other = votes.copy()
    other[gap] = 3
    a, b = _voted(votes, image), _voted(other, image)
    outside = np.ones((SIDE, SIDE), bool)
    outside[gap] = False
    assert torch.equal(a[0][:, outside], b[0][:, outside])
    assert (b.argmax(1)[0].numpy()[gap] == 3).all()


def test_segments_do_not_reach_across_invalid_pixels() -> None:
    image = _textured(60, 4)[0].numpy() * 0.01 + 5
    valid = np.ones((60, 60), bool)
    valid[:, 30] = valid[30] = False
    (labels,) = segment(np.where(valid, image, 0), valid, (60,))
    quarters = [labels[r, c] for r in (np.s_[:30], np.s_[31:]) for c in (np.s_[:30], np.s_[31:])]
    found = [set(q.ravel().tolist()) for q in quarters]
    assert sum(map(len, found)) == len(set().union(*found)) < 60
    assert len(np.unique(labels[~valid])) == (~valid).sum()


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_without_anything_to_see_the_votes_stay_and_sum_to_one(value: float) -> None:
    votes = np.repeat(np.repeat([[0, 1], [2, 3]], 140, 0), 140, 1)
    shares = _voted(votes, torch.full((1, 3, SIDE, SIDE), value))
    assert torch.allclose(shares.exp().sum(1), torch.ones(1, SIDE, SIDE), atol=1e-4)
    inner = np.s_[..., 60:80, 60:80]
    assert (shares.argmax(1)[inner].numpy() == votes[inner]).all()


def test_a_batch_is_its_images_and_a_single_class_is_certain() -> None:
    net = SegmentVote(CLASSES, scales=(8,), receptive_radius=20)
    image = torch.cat((_textured(60, 1), _textured(60, 2)))
    scores = torch.randn(2, CLASSES, 60, 60, generator=torch.Generator().manual_seed(0))
    first, last = net.steps(scores, image)
    assert first is scores
    assert last.shape == (2, CLASSES, 20, 20)
    assert last.dtype == torch.float32
    assert torch.equal(last[1:], net(scores[1:], image[1:]))
    one = SegmentVote(1, scales=(8,), receptive_radius=20)(scores[:, :1], image)
    assert torch.allclose(one.exp(), torch.ones(2, 1, 20, 20))


def test_what_it_says_of_itself_makes_it_again() -> None:
    net = SegmentVote(3, scales=(10, 20))
    again = SegmentVote(3, **net.architecture["segments"])
    assert (
        (again.scales, again.receptive_radius)
        == ((10, 20), 148)
        == (net.scales, net.receptive_radius)
    )
    assert not net.state_dict()
    assert net.iterations == 1


@pytest.mark.parametrize("scales", [(), (32, 16), (1, 2), (8, 8)])
def test_scales_increase(scales: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="scales"):
        SegmentVote(2, scales=scales)


def test_a_reach_that_cuts_segments_and_an_image_without_a_core_are_refused() -> None:
    with pytest.raises(ConfigError, match="cuts segments of 32 px"):
        SegmentVote(2, scales=(32,), receptive_radius=31)
    with pytest.raises(ConfigError, match="receptive-field radius of 32 px"):
        SegmentVote(2, scales=(32,), receptive_radius=32)(
            torch.zeros(1, 2, 64, 64), torch.zeros(1, 1, 64, 64)
        )
