import math
from fractions import Fraction

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geopipe.errors import GridError
from geopipe.grid import NetworkGrid, Window, bilinear_weights, ground_gsd, suited_gsd

# Factors that floats hold exactly, so that fractions can be the oracle.
factors = st.builds(Fraction, st.integers(1, 160), st.sampled_from([1, 2, 4, 8, 16]))
sides = st.integers(1, 400)


def lambert(down, along, shape=(30, 40)):
    return GeoBox(shape, Affine(along, 0, 789_000, 0, -down, 6_501_000), "EPSG:2154")


@pytest.mark.parametrize(
    ("metres", "gsd", "factor"), [(0.5, 1.0, 2), (1.0, 1.0, 1), (0.25, 1.0, 4), (0.3, 3.0, 10)]
)
def test_a_projections_stretch_leaves_whole_factors_whole(metres, gsd, factor):
    box = lambert(metres, metres)
    assert gsd / ground_gsd(box)[0] != factor
    assert NetworkGrid.of(box, gsd).factor == (factor, factor)


@pytest.mark.parametrize("metres", [0.2645, 0.3, 0.4, 0.6, 0.7, 2.0, 3.3])
def test_other_factors_stay_as_they_are(metres):
    box = lambert(metres, metres)
    down, along = ground_gsd(box)
    assert NetworkGrid.of(box, 1.0).factor == (1 / down, 1 / along)


@pytest.mark.parametrize(
    ("metres", "factor"),
    [(0.05, 6), (0.15, 2), (0.2645, 1), (0.3, 1), (0.5, 1), (0.7, 0.5), (1.0, 0.5), (5.0, 0.5)],
)
def test_the_suited_plane_has_whole_factors_or_twice_the_pixels(metres, factor):
    box = lambert(metres, metres)
    gsd = suited_gsd(box)
    assert gsd == pytest.approx(factor * metres, rel=1e-3)
    assert NetworkGrid.of(box, gsd).factor == pytest.approx((factor, factor), rel=1e-3)


def test_banepa_needs_3_78_pixels():
    top = 3_203_000.0  # 27.6 N
    box = GeoBox((30, 40), Affine(0.2986, 0, 9_520_000, 0, -0.2986, top), "EPSG:3857")
    assert NetworkGrid.of(box, 1.0).factor == pytest.approx((3.78, 3.78), rel=6e-3)


def test_rows_and_columns_have_their_own_factor():
    assert NetworkGrid.of(lambert(0.5, 0.25), 1.0).factor == (2, 4)


@pytest.mark.parametrize(("metres", "words"), [(20.0, "20"), (0.003, "0.003")])
def test_absurd_factors_are_refused_with_the_numbers(metres, words):
    with pytest.raises(GridError, match=f"{words}.* cannot serve a net made for 1 m"):
        NetworkGrid.of(lambert(metres, metres), 1.0)


@given(st.tuples(sides, sides), st.tuples(factors, factors))
def test_net_pixels_cover_the_scene_and_no_more(scene, factor):
    rows_cols = NetworkGrid(scene, tuple(map(float, factor))).shape
    for n, size, f in zip(rows_cols, scene, factor, strict=True):
        assert n * f >= size
        assert n == 1 or (n - 1) * f < size


@given(st.tuples(factors, factors), st.integers(-50, 50), st.integers(1, 40))
def test_averaged_from_is_what_net_pixels_touch(factor, start, count):
    grid = NetworkGrid((100, 100), tuple(map(float, factor)))
    source = grid.averaged_from(Window(start, 2 * start, count, count))
    for first, last, at, f in (
        (source.row, source.bottom, start, factor[0]),
        (source.col, source.right, 2 * start, factor[1]),
    ):
        assert first == math.floor(at * f)
        assert last == math.ceil((at + count) * f)


@given(st.data(), st.tuples(sides, sides), st.tuples(factors, factors))
def test_interpolated_from_is_what_bilinear_values_use(data, scene, factor):
    grid = NetworkGrid(scene, tuple(map(float, factor)))
    window = data.draw(windows_inside(scene))
    needed = grid.interpolated_from(window)
    for start, count, f, size, first, n in (
        (window.row, window.height, factor[0], grid.shape[0], needed.row, needed.height),
        (window.col, window.width, factor[1], grid.shape[1], needed.col, needed.width),
    ):
        at = [(i + Fraction(1, 2)) / f - Fraction(1, 2) for i in range(start, start + count)]
        used = {min(max(i, 0), size - 1) for x in at for i in (math.floor(x), math.floor(x) + 1)}
        assert (first, first + n - 1) == (min(used), max(used))
        taps = bilinear_weights(start, count, float(f), size, first)
        assert taps.index.min() == 0
        assert taps.index.max() == n - 1


@given(st.tuples(factors, factors), st.integers(0, 30), st.integers(0, 30))
def test_net_pixels_lie_on_the_scene_pixels_they_average(factor, row, col):
    scene = GeoBox((97, 89), Affine(0.3, 0.1, 500_000, 0.1, -0.3, 5_000_000), "EPSG:32631")
    fy, fx = factor
    grid = NetworkGrid(scene.shape, (float(fy), float(fx)))
    box = grid.geobox(scene)
    assert box.shape == grid.shape
    assert box.crs == scene.crs
    assert box.affine * (col, row) == pytest.approx(
        scene.affine * (float(col * fx), float(row * fy)), rel=1e-12
    )


@st.composite
def windows_inside(draw, shape):
    row, col = (draw(st.integers(0, n - 1)) for n in shape)
    return Window(
        row, col, draw(st.integers(1, shape[0] - row)), draw(st.integers(1, shape[1] - col))
    )
