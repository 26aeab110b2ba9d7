"""Label rasters: windows, other planes, other types, and values that are no class."""

import pickle
import struct

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from shapely.affinity import rotate, translate

from geopipe.classes import IGNORE, load_scheme
from geopipe.errors import LabelError
from geopipe.grid import NetworkGrid, Window, ground_gsd
from geopipe.labels import RasterLabels, open_labels
from geopipe.labels.raster import why_missing
from geopipe.raster.scene import Scene, window_geobox


def write(path, values, geobox, nodata=None, compress=None, **tags):
    count = 1 if values.ndim == 2 else len(values)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=geobox.shape[0],
        width=geobox.shape[1],
        count=count,
        dtype=values.dtype,
        crs=str(geobox.crs) if geobox.crs else None,
        transform=geobox.affine,
        nodata=nodata,
        compress=compress,
    ) as dst:
        dst.write(values.reshape(count, *geobox.shape))
        dst.update_tags(**tags)
    return path


@pytest.fixture(scope="module")
def values():
    blocks = np.random.default_rng(1).integers(0, 3, (30, 40)).astype(np.uint8)
    out = np.kron(blocks, np.ones((10, 10), np.uint8))
    out[100:140, 200:230] = IGNORE
    return out


@pytest.fixture(scope="module")
def labels(tmp_path_factory, values, scheme, plane):
    path = tmp_path_factory.mktemp("raster") / "labels.tif"
    return open_labels(write(path, values, plane, 255, credit="me"), scheme, plane)


@settings(max_examples=60, deadline=None)
@given(st.integers(-20, 310), st.integers(-20, 410), st.integers(1, 40), st.integers(1, 40))
def test_windows_are_read_as_they_are(labels, values, plane, row, col, height, width):
    window = Window(row, col, height, width)
    around = np.pad(values, 60, constant_values=IGNORE)
    want = around[row + 60 : row + 60 + height, col + 60 : col + 60 + width]
    np.testing.assert_array_equal(labels.read(window_geobox(plane, window)), want)


def test_a_raster_says_what_it_is(labels, plane):
    assert isinstance(labels, RasterLabels)
    assert labels.credit == "me"
    assert pickle.loads(pickle.dumps(labels)) == labels
    assert len(pickle.dumps(labels)) < 10_000


def test_coarser_pixels_take_the_most_frequent_class(labels, values, plane):
    net = NetworkGrid(plane.shape, (5.0, 5.0)).geobox(plane)
    np.testing.assert_array_equal(labels.read(net), values[2::5, 2::5])
    mixed = NetworkGrid(plane.shape, (20.0, 20.0)).geobox(plane)
    got = labels.read(mixed)
    for row in range(15):
        for col in range(20):
            cell = values[row * 20 : row * 20 + 20, col * 20 : col * 20 + 20]
            count = np.bincount(cell[cell != IGNORE], minlength=3)
            best = np.flatnonzero(count == count.max()) if count.any() else [IGNORE]
            assert got[row, col] in best
            if cell[10, 10] in best:  # of equals the one at the centre
                assert got[row, col] == cell[10, 10]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([0.55, 0.7, 1.0, 1.3, 2.0, 25.0]), st.integers(-9, 150), st.integers(-9, 150)
)
def test_windows_of_a_coarser_plane_agree(labels, plane, gsd, row, col):
    net = NetworkGrid.of(plane, gsd).geobox(plane)
    window = Window(row, col, 12, 17)
    inside = window.clip(net.shape)
    got, want = labels.read(window_geobox(net, window)), np.full((12, 17), IGNORE, np.uint8)
    if inside.height and inside.width:
        want[inside.within(window)] = labels.read(net)[inside.slices]
    np.testing.assert_array_equal(got, want)


def test_another_crs_and_half_a_pixel_off(labels, values, plane):
    shifted = GeoBox(plane.shape, plane.affine @ Affine.translation(0.3, 0.3), plane.crs)
    got = labels.read(shifted)
    np.testing.assert_array_equal(got[:250, :350], values[:250, :350])
    mercator = plane.to_crs("EPSG:3857", resolution=0.7)
    got = labels.read(mercator)
    known = values[values != IGNORE]
    for class_id in range(3):
        share = (got == class_id).sum() / (got != IGNORE).sum()
        assert share == pytest.approx((known == class_id).mean(), abs=0.01)
    far = window_geobox(plane, Window(10_000, 0, 5, 5))
    assert (labels.read(far) == IGNORE).all()


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("int16", -9999), ("int8", None), ("float32", np.nan), ("uint16", 999)]
)
def test_other_types_of_ids(tmp_path, scheme, plane, dtype, nodata):
    ids = np.zeros(plane.shape, dtype)
    ids[:, 200:] = 2
    if nodata is not None:
        ids[:50] = nodata
    labels = open_labels(write(tmp_path / "a.tif", ids, plane, nodata), scheme, plane)
    coarse = NetworkGrid(plane.shape, (10.0, 10.0)).geobox(plane)
    outside = window_geobox(coarse, Window(-1, 0, 31, 40))
    for got, step in ((labels.read(plane), 10), (labels.read(outside)[1:], 1)):
        assert got.dtype == np.uint8
        assert (got[6 * step :, : 19 * step] == 0).all()
        assert (got[6 * step :, 21 * step :] == 2).all()
        assert (got[: 5 * step] == (IGNORE if nodata is not None else got[5 * step])).all()
    assert (labels.read(outside)[0] == IGNORE).all()


@pytest.mark.parametrize(("value", "dtype"), [(3, "uint8"), (-1, "int16"), (0.5, "float32")])
def test_values_that_are_no_class(tmp_path, scheme, plane, value, dtype):
    ids = np.zeros(plane.shape, dtype)
    ids[20, 30] = value
    labels = open_labels(write(tmp_path / "a.tif", ids, plane), scheme, plane)
    with pytest.raises(LabelError, match=rf"values {value}, .*0 background, 1 building, 2 road"):
        labels.read(plane)
    labels.read(window_geobox(plane, Window(50, 0, 20, 20)))


def test_rasters_that_are_no_labels(tmp_path, scheme, plane):
    image = np.zeros((3, *plane.shape), np.uint8)
    with pytest.raises(LabelError, match="3 bands"):
        open_labels(write(tmp_path / "rgb.tif", image, plane), scheme, plane)
    bare = GeoBox(plane.shape, plane.affine, None)
    with pytest.raises(LabelError, match="no CRS"):
        open_labels(write(tmp_path / "bare.tif", image[0], bare), scheme, plane)
    far = GeoBox(plane.shape, Affine.translation(90_000, 0) @ plane.affine, plane.crs)
    with pytest.raises(LabelError, match=r"do not overlap the scene.*lon 5\.29.*lon 4\.14"):
        open_labels(write(tmp_path / "far.tif", image[0], far), scheme, plane)


def test_damaged_rasters(tmp_path, scheme, plane, values):
    path = write(tmp_path / "a.tif", values, plane)
    whole = path.read_bytes()
    path.write_bytes(whole[:60_000])
    with pytest.raises(LabelError, match=r"cannot read .*whole"):
        open_labels(path, scheme, plane)
    path = write(tmp_path / "b.tif", values, plane, compress="deflate")
    content = bytearray(path.read_bytes())
    content[500:900] = b"x" * 400
    path.write_bytes(content)
    with pytest.raises(LabelError, match="the file is damaged"):
        open_labels(path, scheme, plane).read(plane)


def test_what_the_files_mask_hides_is_not_labelled(tmp_path, scheme, plane):
    path = write(tmp_path / "masked.tif", np.ones(plane.shape, np.uint8), plane)
    hidden = np.zeros(plane.shape, bool)
    hidden[40:90, 10:60] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dst:
        dst.write_mask(~hidden)
    ids = RasterLabels.open(path, scheme).read(plane)
    np.testing.assert_array_equal(ids, np.where(hidden, IGNORE, 1))


def town(rng, side=150.0):
    """Turned houses of 9 x 7 m anywhere, in metres right of and below a corner."""
    places = [(x, y) for x in np.arange(10, side - 9, 15) for y in np.arange(10, side - 9, 15)]
    return [
        translate(
            rotate(shapely.box(-4.5, -3.5, 4.5, 3.5), rng.uniform(0, 90)),
            x + rng.uniform(-1, 1),
            y + rng.uniform(-1, 1),
        )
        for x, y in places
    ]


def towns(pixels, path, classes, scheme):
    """Houses of `classes` in turn as labels with pixels (down, along) of so many half metres."""
    height, width = (round(300 / p) for p in pixels)
    houses = town(np.random.default_rng(4))
    plane = GeoBox(
        (height, width),
        Affine(pixels[1] / 2, 0, 789_000, 0, -pixels[0] / 2, 6_501_000),
        "EPSG:2154",
    )
    placed = [shapely.transform(h, lambda p: p * (1, -1) + (789_000, 6_501_000)) for h in houses]
    ids = [classes[i % len(classes)] for i in range(len(placed))]
    values = rasterize(
        zip(placed, ids, strict=True), plane.shape, transform=plane.affine, dtype="uint8"
    )
    return open_labels(write(path, values, plane), scheme, plane), values


@pytest.mark.parametrize(
    "pixels",
    [(0.5, 0.5), (0.6, 0.6), (0.9, 0.9), (0.25, 0.25), (0.2, 0.4), (0.5, 0.9), (0.37, 1.0)],
)
def test_no_class_gains_area_on_coarser_pixels(tmp_path, scheme, pixels):
    target = GeoBox((300, 300), Affine(0.5, 0, 789_000, 0, -0.5, 6_501_000), "EPSG:2154")
    for classes in ((1,), (1, 2)):
        labels, fine = towns(pixels, tmp_path / "fine.tif", classes, scheme)
        got = labels.read(target)
        for class_id in classes:
            area = (fine == class_id).sum() * pixels[0] * pixels[1]
            assert (got == class_id).sum() == pytest.approx(area, rel=0.005), class_id


def test_no_class_gains_area_in_another_crs(tmp_path, scheme):
    labels, fine = towns((0.5, 0.5), tmp_path / "fine.tif", (1, 2), scheme)
    lonlat = labels.geobox.to_crs("EPSG:4326", resolution=7e-6)  # 0.78 m down, 0.55 m along
    down, along = ground_gsd(lonlat)
    got = labels.read(lonlat)
    for class_id in (1, 2):
        area = (fine == class_id).sum() / 16
        assert (got == class_id).sum() * down * along == pytest.approx(area, rel=0.005)


def test_ties_go_to_the_class_at_the_centre(tmp_path, scheme, plane):
    halves = np.zeros(plane.shape, np.uint8)
    halves[:, 1::2] = 1  # every pixel of twice the size is half background, half building
    labels = open_labels(write(tmp_path / "h.tif", halves, plane), scheme, plane)
    coarse = NetworkGrid(plane.shape, (2.0, 2.0)).geobox(plane)
    assert (labels.read(coarse) == 1).all()
    labels = open_labels(write(tmp_path / "o.tif", 1 - halves, plane), scheme, plane)
    assert (labels.read(coarse) == 0).all()


@pytest.fixture(scope="module")
def houses():
    return load_scheme("buildings")


def mask_of(plane, value=1, dtype="uint8"):
    ids = np.zeros(plane.shape, dtype)
    ids[50:90, 60:160] = value
    return ids


@pytest.mark.parametrize(
    ("value", "dtype"), [(1, "uint8"), (255, "uint8"), (255, "int16"), (255, "float32")]
)
def test_masks_are_labels_of_two_classes(tmp_path, houses, plane, value, dtype):
    path = write(tmp_path / "m.tif", mask_of(plane, value, dtype), plane)
    labels = open_labels(path, houses, plane)
    np.testing.assert_array_equal(labels.read(plane), mask_of(plane))
    coarse = NetworkGrid(plane.shape, (10.0, 10.0)).geobox(plane)
    np.testing.assert_array_equal(labels.read(coarse), mask_of(plane)[::10, ::10])
    outside = window_geobox(plane, Window(-1, 0, 5, 5))
    assert (labels.read(outside)[0] == IGNORE).all()  # no image there, whatever 255 means inside


def test_255_beside_other_classes_or_as_nodata_is_not_labelled(tmp_path, houses, plane):
    ids = mask_of(plane)
    ids[:10] = IGNORE
    labels = open_labels(write(tmp_path / "a.tif", ids, plane), houses, plane)
    np.testing.assert_array_equal(labels.read(plane), ids)
    path = write(tmp_path / "b.tif", mask_of(plane, 255), plane, nodata=255)
    labels = open_labels(path, houses, plane)
    np.testing.assert_array_equal(labels.read(plane), mask_of(plane, 255))
    assert f"gdal_edit.py -unsetnodata {path}" in why_missing(labels, ["building"])


def test_zeros_that_are_declared_nodata(tmp_path, houses, scheme, plane):
    for value in (1, 255):
        path = write(tmp_path / "q.tif", mask_of(plane, value), plane, nodata=0)
        with pytest.raises(LabelError) as e:
            open_labels(path, houses, plane)
        assert "all 116000 pixels of value 0" in e.value.message
        assert "so nothing is background" in e.value.message
        assert e.value.hint == f"gdal_edit.py -unsetnodata {path}"
    three = open_labels(write(tmp_path / "q.tif", mask_of(plane), plane, nodata=0), scheme, plane)
    assert "the value 0 (background) is declared nodata" in why_missing(three, ["background"])
    assert why_missing(three, ["road"]) == ""


def test_a_mask_of_0_and_255_is_no_labels_of_three_classes(tmp_path, scheme, plane):
    path = write(tmp_path / "m.tif", mask_of(plane, 255), plane)
    with pytest.raises(LabelError, match=r"holds 0 and 255 alone.*two classes, such as buildings"):
        open_labels(path, scheme, plane)


@pytest.mark.parametrize("kind", [16, 17, 200])
def test_a_private_tag_that_libtiff_cannot_read_does_no_harm(tmp_path, kind):
    path = tmp_path / "labels.tif"
    ids = np.arange(32 * 32, dtype=np.uint8).reshape(1, 32, 32) % 2
    profile = {"driver": "GTiff", "width": 32, "height": 32, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        path, "w", **profile, crs=2154, transform=Affine(1, 0, 7e5, 0, -1, 6.6e6)
    ) as out:
        out.write(ids)
        out.update_tags(TIFFTAG_DATETIME="2020:01:01 00:00:00")
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    places = [first + 2 + 12 * i for i in range(count)]
    at = next(i for i in places if int.from_bytes(data[i : i + 2], "little") == 306)
    struct.pack_into("<HHII", data, at, 307, kind, 1, 8)
    path.write_bytes(data)
    labels = open_labels(path, load_scheme("buildings"), Scene.open(path).geobox)
    np.testing.assert_array_equal(labels.read(labels.geobox), ids[0])


@pytest.mark.parametrize("far", [1e25, -1e25, 1e300])
def test_a_raster_at_an_absurd_place_labels_nothing(tmp_path, far):
    path = tmp_path / "labels.tif"
    profile = {"driver": "GTiff", "width": 10, "height": 10, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        path, "w", **profile, crs=2154, transform=Affine(0.3, 0, far, 0, -0.3, 6.6e6)
    ) as out:
        out.write(np.ones((1, 10, 10), np.uint8))
    labels = RasterLabels.open(path, load_scheme("buildings"))
    here = GeoBox((20, 20), Affine(0.5, 0, 7e5, 0, -0.5, 6.6e6), "EPSG:2154")
    assert (labels.read(here) == IGNORE).all()


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", None), ("uint8", 255), ("float32", None)])
def test_what_alpha_hides_is_not_labelled(tmp_path, houses, plane, dtype, nodata):
    """GDAL takes alpha for a mask only beside bytes without a nodata value."""
    ids, path = mask_of(plane, dtype=dtype), tmp_path / "a.tif"
    alpha = np.zeros(ids.shape, dtype)
    alpha[:, 100:] = 255
    with rasterio.open(
        path, "w", driver="GTiff", height=ids.shape[0], width=ids.shape[1], count=2, dtype=dtype,
        crs="EPSG:2154", transform=plane.affine, nodata=nodata,
    ) as dst:  # fmt: skip
        dst.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
        dst.write(np.stack([ids, alpha]))
    expected = np.where(alpha == 0, IGNORE, ids)
    np.testing.assert_array_equal(open_labels(path, houses, plane).read(plane), expected)


def test_hints_are_of_what_is_in_the_file(tmp_path, houses, plane):
    other = mask_of(plane, 2) + mask_of(plane) // 2
    other[other == 0] = 1
    path = write(tmp_path / "other.tif", other, plane, nodata=0)
    with pytest.raises(LabelError, match="has the values 2, which are no class"):
        open_labels(path, houses, plane).read(plane)
    only = write(tmp_path / "only.tif", np.ones(plane.shape, "uint8"), plane, nodata=0)
    labels = open_labels(only, houses, plane)
    assert (labels.read(plane) == 1).all()
    assert why_missing(labels, ["background"]) == ""
    ones = np.where(mask_of(plane) == 1, 1, 255).astype("uint8")
    labels = open_labels(write(tmp_path / "ones.tif", ones, plane, nodata=255), houses, plane)
    assert why_missing(labels, ["background"]) == ""
