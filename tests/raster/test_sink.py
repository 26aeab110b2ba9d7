import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe.errors import OutputError
from geopipe.grid import Tiling, Window
from geopipe.raster.sink import Sink

LAMBERT = Affine(0.5, 0, 789_000.25, 0, -0.5, 6_501_000.75)
LOCAL = "+proj=lcc +lat_0=45.6 +lon_0=4 +lat_1=45 +lat_2=46 +ellps=GRS80 +units=m +no_defs"


def plane(shape, transform=LAMBERT, crs="EPSG:2154"):
    return GeoBox(shape, transform, crs)


@pytest.mark.parametrize("shape", [(1, 1), (5, 4999), (600, 300)])
@pytest.mark.parametrize("count", [1, 3])
def test_what_is_written_in_any_order_is_read_back(tmp_path, shape, count):
    data = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    box = plane(shape)
    path = tmp_path / "out.tif"
    tiles = list(Tiling(shape, 256))
    with Sink(path, box, count) as sink:
        for tile in tiles[::-1]:
            sink.write(tile.core, data[(slice(None), *tile.core.slices)])
    with rasterio.open(path) as src:
        np.testing.assert_array_equal(src.read(), data)
        assert src.count == count
        assert set(src.dtypes) == {"uint8"}
        assert src.nodata == 255


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (LAMBERT, "EPSG:2154"),
        (Affine(0.4, 0.3, 5e5, 0.3, -0.4, 5e6), "EPSG:32631"),
        (Affine(1e-5, 0, 4, 0, 1e-5, 45), "EPSG:4326"),
        (LAMBERT, LOCAL),
    ],
    ids=["lambert", "rotated", "south-up degrees", "local"],
)
def test_the_file_has_exactly_the_plane_given(tmp_path, transform, crs):
    box = plane((7, 9), transform, crs)
    with Sink(tmp_path / "out.tif", box) as sink:
        sink.write(Window(0, 0, 7, 9), np.zeros((1, 7, 9), np.uint8))
    with rasterio.open(tmp_path / "out.tif") as src:
        assert src.transform == transform
        assert GeoBox(src.shape, src.transform, src.crs) == box


def test_what_nobody_wrote_is_nodata(tmp_path):
    with Sink(tmp_path / "out.tif", plane((600, 600))) as sink:
        sink.write(Window(0, 0, 256, 256), np.ones((1, 256, 256), np.uint8))
    with rasterio.open(tmp_path / "out.tif") as src:
        read = src.read(1)
    assert (read[:256, :256] == 1).all()
    read[:256, :256] = 255
    assert (read == 255).all()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_file_goes_when_the_block_raises(tmp_path, error):
    path = tmp_path / "out.tif"

    def interrupted():
        with Sink(path, plane((300, 300))) as sink:
            sink.write(Window(0, 0, 256, 256), np.ones((1, 256, 256), np.uint8))
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["nowhere", "a-file"])
def test_a_folder_that_cannot_be_written_to(tmp_path, folder):
    (tmp_path / "a-file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*out\.tif"):
        Sink(tmp_path / folder / "out.tif", plane((5, 5)))


@pytest.mark.parametrize("window", [Window(0, 0, 9, 9), Window(-1, 0, 3, 3), Window(4, 4, 3, 3)])
def test_a_window_outside_the_plane_is_refused(tmp_path, window):
    with pytest.raises(OutputError, match="cannot write"), Sink(tmp_path / "o", plane((5, 5))) as s:
        s.write(window, np.zeros((1, *window.shape), np.uint8))
    assert list(tmp_path.iterdir()) == []
