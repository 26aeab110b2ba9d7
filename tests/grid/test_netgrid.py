import math
from fractions import Fraction

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geopipe.errors import GridError
from geopipe.grid import (
    GridAxis,
    NetworkGrid,
    Window,
    bilinear_weights,
    ground_gsd,
    suited_gsd,
)

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


@pytest.mark.parametrize(
    ("metres", "factor"), [(0.2645, Fraction(2000, 529)), (0.3, Fraction(10, 3)), (2.0, 0.5)]
)
def test_a_metre_of_a_national_grid_is_a_metre(metres, factor):
    """Not what it measures at the file's centre: the next file has another centre."""
    box = lambert(metres, metres)
    assert NetworkGrid.of(box, 1.0).factor == pytest.approx((float(factor),) * 2, rel=1e-5)
    east = lambert(metres, metres).translate_pix(90_000, 40_000)
    assert NetworkGrid.of(east, 1.0).factor == NetworkGrid.of(box, 1.0).factor


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326"])
@pytest.mark.parametrize("lat", [0.1, 27.6, 45.7, 59.0])
def test_where_a_map_stretches_the_factor_is_right_to_a_percent_and_alike_nearby(crs, lat):
    x, y, size = (4.1, lat, 3e-6)
    if crs == "EPSG:3857":
        x, y, size = 456_000.0, 6_378_137 * math.asinh(math.tan(math.radians(lat))), 0.3
    boxes = [
        GeoBox((900, 900), Affine(size, 0, x, 0, -size, y - n * 900 * size), crs) for n in (0, 9)
    ]
    near, far = (NetworkGrid.of(box, 1.0).factor for box in boxes)
    assert near == far
    assert near == pytest.approx([1 / m for m in ground_gsd(boxes[0])], rel=1.01e-2)


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
    assert NetworkGrid.of(box, 1.0).factor == pytest.approx((3.78, 3.78), rel=1e-2)


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
        taps = bilinear_weights(GridAxis.of(float(f)), start, count, size, first)
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


LATTICES = {
    "0.5 m": ("EPSG:2154", 0.5, 0.0, (789_000.0, 6_501_000.0)),
    "half a pixel off": ("EPSG:2154", 0.5, 0.25, (789_000.0, 6_501_000.0)),
    "0.3 m": ("EPSG:32645", 0.3, 0.13, (335_000.0, 3_056_000.0)),
    "2 m": ("EPSG:32733", 2.0, 0.0, (500_000.0, 9_999_000.0)),
    "Web Mercator": ("EPSG:3857", 0.29858214173896974, 0.0, (9_520_000.0, 3_203_000.0)),
    "degrees": ("EPSG:4326", 2.7e-6, 1e-6, (85.5, 27.6)),
    "west and south": ("EPSG:4326", 2.7e-6, 0.0, (-70.5, -33.4)),
}


@pytest.mark.parametrize("name", LATTICES)
def test_crops_have_the_network_pixels_of_the_whole(name):
    crs, size, off, (x, y) = LATTICES[name]
    left, top = round(x / size) * size + off, round(y / size) * size + off
    for shape in ((200, 300), (201, 299)):
        box = GeoBox(shape, Affine(size, 0, left, 0, -size, top), crs)
        whole = NetworkGrid.of(box, 1.0)
        for k in range(1, 8):
            crop = NetworkGrid.of(box[k:, 8 - k :], 1.0)
            assert crop.factor == whole.factor
            rows, cols = (a - b for a, b in zip(crop.first, whole.first, strict=True))
            window = Window(20, 30, 25, 35)
            inside = Window(20 - rows, 30 - cols, 25, 35)
            a, b = whole.averaged_from(window), crop.averaged_from(inside)
            assert (b.row + k, b.col + 8 - k, b.shape) == (a.row, a.col, a.shape)
            a, b = whole.snap(window, 32), crop.snap(inside, 32)
            assert (b.row + rows, b.col + cols, b.shape) == (a.row, a.col, a.shape)
            there = crop.geobox(box[k:, 8 - k :]).affine * (inside.col, inside.row)
            assert there == pytest.approx(whole.geobox(box).affine * (window.col, window.row))


def test_network_pixels_are_counted_from_the_origin_of_the_crs():
    box = GeoBox((90, 90), Affine(0.5, 0, 789_001.5, 0, -0.5, 6_501_002.5), "EPSG:2154")
    grid = NetworkGrid.of(box, 1.0)
    assert grid.first == (-6_501_003, 789_001)
    assert grid.geobox(box).affine == Affine(1, 0, 789_001, 0, -1, 6_501_003)
    assert grid.shape == (46, 46)
    assert grid.snap(Window(0, 0, 1, 1), 4) == Window(-1, -1, 4, 4)


@pytest.mark.parametrize("noise", [-1e-9, 1e-9, -2e-3, 2e-3])
def test_rounding_of_the_corner_moves_nothing(noise):
    exact = NetworkGrid.of(lambert(0.5, 0.5), 1.0)
    off = GeoBox((30, 40), Affine(0.5, 0, 789_000 + noise, 0, -0.5, 6_501_000 - noise), "EPSG:2154")
    assert NetworkGrid.of(off, 1.0) == exact


def test_of_a_rotated_scene_the_count_begins_at_its_corner():
    turned = Affine(0.5, 0.1, 789_001.5, 0.1, -0.5, 6_501_002.5)
    grid = NetworkGrid.of(GeoBox((90, 90), turned, "EPSG:2154"), 1.0)
    assert (grid.origin, grid.first) == ((0, 0), (0, 0))


@st.composite
def windows_inside(draw, shape):
    row, col = (draw(st.integers(0, n - 1)) for n in shape)
    return Window(
        row, col, draw(st.integers(1, shape[0] - row)), draw(st.integers(1, shape[1] - col))
    )
