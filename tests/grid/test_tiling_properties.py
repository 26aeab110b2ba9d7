"""The law of tiling, on any scene, core, stride and resolution: tiles make the whole's map."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny_nets import Blind, Tiny, tiny_net, with_net

from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.classes import IGNORE
from geopipe.grid import NetworkGrid, Tiling, Window
from geopipe.mapping.reference import reference_scores
from geopipe.mapping.tile import TileJob, score_window
from geopipe.nets import SegmentationModel
from geopipe.raster import Scene

pytestmark = pytest.mark.usefixtures("one_thread")

PLANES = {
    "1 m": ("EPSG:2154", Affine(1, 0, 789_000, 0, -1, 6_501_000)),
    "0.5 m": ("EPSG:2154", Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000)),
    "0.25 x 0.5 m": ("EPSG:2154", Affine(0.25, 0, 789_000, 0, -0.5, 6_501_000)),
    "0.3 m": ("EPSG:2154", Affine(0.3, 0, 789_000, 0, -0.3, 6_501_000)),
    "0.7 m": ("EPSG:2154", Affine(0.7, 0, 789_000, 0, -0.7, 6_501_000)),
    "1.5 m": ("EPSG:2154", Affine(1.5, 0, 789_000, 0, -1.5, 6_501_000)),
    "2 m": ("EPSG:2154", Affine(2, 0, 789_000, 0, -2, 6_501_000)),
    "Web Mercator, 0.2645 m on the ground": (
        "EPSG:3857",
        Affine(0.2986, 0, 9_520_000, 0, -0.2986, 3_203_000),
    ),
    "degrees": ("EPSG:4326", Affine(4e-6, 0, 4.1, 0, -4e-6, 45.6)),
}
STRIDES = [1, 2, 3, 4, 8]
numbers = itertools.count()


@dataclass(frozen=True)
class Case:
    """A scene and a model, and where the model's file would be."""

    scene: Scene
    model: Checkpoint
    path: Path


@pytest.fixture(scope="module")
def make_case(tmp_path_factory, make_raster_at, make_model):
    """``make_case(plane, shape, net, seed)``, with a hole where the scene is large enough."""
    folder = tmp_path_factory.mktemp("law")

    def make(plane, shape, net, seed=0):
        crs, transform = PLANES[plane]
        data = np.random.default_rng(seed).integers(1, 255, (3, *shape)).astype(np.uint8)
        data[:, 11:60, 240:270] = 0
        number = next(numbers)
        path = make_raster_at(
            folder / f"{number}.tif", data, nodata=0, crs=crs, transform=transform
        )
        return Case(Scene.open(path), with_net(make_model(), net), folder / f"{number}.model")

    return make


def tiled(case, core):
    """Scores, classes and how often each pixel was written, tile by tile as a map is made."""
    scene, steps = case.scene, (case.model.net.iterations,)
    job = TileJob(
        scene=scene,
        model=ModelFile(case.path, "", case.model),
        folder="",
        device="cpu",
        iterations=steps,
        with_scores=False,
    )
    scores = np.full((3, *scene.shape), np.nan, np.float32)
    classes, written = np.full(scene.shape, 200), np.zeros(scene.shape, int)
    for tile in Tiling(scene.shape, core):
        at = tile.core.slices
        (part,) = score_window(case.model, scene, tile.core)
        scores[(slice(None), *at)] = part
        classes[at] = job.compute(tile)[0]
        written[at] += 1
    return scores, classes, written


def whole(case):
    """The oracle: one forward over all of the scene, resampled by matrices."""
    scene, net = case.scene, case.model.net
    return reference_scores(scene, case.model, Window.of_shape(scene.shape), net.halo)


sides = st.one_of(st.integers(1, 40), st.integers(250, 300), st.integers(500, 540))


@given(
    plane=st.sampled_from(sorted(PLANES)),
    shape=st.tuples(sides, sides),
    core=st.sampled_from([256, 512]),
    stride=st.sampled_from(STRIDES),
    iterations=st.sampled_from([0, 0, 1]),
    seed=st.integers(0, 99),
)
@example("0.5 m", (301, 517), 256, 4, 1, 0)
@example("Web Mercator, 0.2645 m on the ground", (517, 301), 256, 4, 1, 0)
@example("2 m", (257, 259), 256, 4, 0, 0)
@example("0.7 m", (257, 1), 256, 3, 1, 0)
@example("1.5 m", (1, 257), 256, 8, 0, 0)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tiles_make_the_map_of_the_whole(make_case, plane, shape, core, stride, iterations, seed):
    if plane == "2 m":
        shape = tuple(min(n, 300) for n in shape)  # four times as many net pixels
    case = make_case(plane, shape, tiny_net(Tiny(stride), iterations, seed=seed), seed)
    scores, classes, written = tiled(case, core)
    truth = whole(case)
    assert (written == 1).all()
    assert np.abs(scores - truth).max() < 1e-5
    valid = case.scene.read().valid
    best = np.sort(truth, axis=0)
    sure = best[-1] - best[-2] > 1e-5
    np.testing.assert_array_equal(classes[valid & sure], truth.argmax(0)[valid & sure])
    assert (classes[~valid] == IGNORE).all()
    if valid.sum() > 1000:
        assert sure.mean() > 0.99


@pytest.mark.parametrize(("stride", "iterations"), [(1, 1), (2, 1), (4, 0), (8, 0)])
@pytest.mark.parametrize("plane", PLANES)
def test_one_pixel_less_context_does_not_make_it(make_case, plane, stride, iterations):
    """And not by rounding, nor anywhere but where tiles meet."""
    net, blind = (tiny_net(Tiny(stride), iterations, kind) for kind in (SegmentationModel, Blind))
    assert net.halo == 2 * stride + 2 * iterations  # to the pixel: none is there by rounding up
    case, lacking = (make_case(plane, (70, 300), n) for n in (net, blind))
    truth = whole(case)
    enough, less = (np.abs(tiled(c, 256)[0] - truth) for c in (case, lacking))
    assert enough.max() < 1e-5
    assert less.max() > 1e-4
    near = math.ceil((net.halo + 2 * stride) * NetworkGrid.of(case.scene.geobox, 1.0).factor[1])
    assert less[..., : 256 - near].max() < 1e-5
    assert less[..., 256 + near :].max(initial=0) < 1e-5
