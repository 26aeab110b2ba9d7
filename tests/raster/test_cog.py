import hashlib
import itertools

import numpy as np
import pytest
import rasterio
from affine import Affine

from geopipe.classes import ClassScheme, load_scheme
from geopipe.errors import OutputError, SceneError
from geopipe.raster.cog import SCORE_STEPS, read_scheme, write_class_cog, write_score_cog

ODD = ClassScheme.from_dict(
    {
        "name": "odd",
        "classes": [
            {"name": "sol & <terre>", "color": "#f1efe2"},
            {"name": 'bâtiment "haut"', "color": "#C8371E"},
            {"name": "道路", "color": "#3c4a5c"},
        ],
    }
)
TAGS = {"GEOPIPE_MODEL": "0f3a & <b>", "CREDIT": "© OpenStreetMap contributors"}
UTM = Affine(0.5, 0, 500_000, 0, -0.5, 9_000_000)
PLANES = {
    "north-up": UTM,
    "south-up": Affine(0.5, 0, 500_000, 0, 0.5, 9_000_000),
    "rotated": UTM * Affine.rotation(30),
}


def ids_of(shape, seed=0, top=2):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([*range(top + 1), 255], (shape[0] // 7 + 1, shape[1] // 7 + 1))
    return np.kron(coarse, np.ones((7, 7)))[: shape[0], : shape[1]].astype(np.uint8)


def save(path, bands, transform=UTM, nodata=255):
    bands = bands if bands.ndim == 3 else bands[None]
    count, height, width = bands.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=bands.dtype,
        nodata=nodata,
        crs="EPSG:32736",
        transform=transform,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
    ) as out:
        out.write(bands)
    return path


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 1499), (700, 900)])
def test_a_class_map_keeps_everything(tmp_path, shape, plane):
    ids = ids_of(shape)
    source = save(tmp_path / "raw.tif", ids, PLANES[plane])
    target = tmp_path / "classes.tif"
    write_class_cog(source, target, ODD, TAGS)
    with rasterio.open(source) as a, rasterio.open(target) as b:
        np.testing.assert_array_equal(b.read(1), ids)
        assert b.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (b.crs, b.nodata, b.dtypes) == (a.crs, 255, ("uint8",))
        assert b.transform.almost_equals(a.transform)
        assert b.descriptions == ("class",)
        assert b.tags().items() >= TAGS.items()
        assert [b.colormap(1)[i][:3] for i in range(3)] == [c.rgb for c in ODD.classes]
        assert b.block_shapes == [(512, 512)] or max(shape) <= 512
    found = read_scheme(target)
    assert [(c.name, c.rgb) for c in found.classes] == [(c.name, c.rgb) for c in ODD.classes]
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"raw.tif", "classes.tif", "classes.tif.aux.xml"}


def test_overviews_show_the_commonest_class_and_no_other(tmp_path):
    # An average of 0 and 2 would be 1, which is nowhere in this map.
    ids = np.zeros((2100, 2100), np.uint8)
    ids[:, 600:1100] = 2
    ids[::2, ::3] = 2
    write_class_cog(save(tmp_path / "raw.tif", ids), tmp_path / "classes.tif", ODD, {})
    with rasterio.open(tmp_path / "classes.tif") as src:
        levels = len(src.overviews(1))
        assert levels >= 2
    for level in range(levels):
        with rasterio.open(tmp_path / "classes.tif", OVERVIEW_LEVEL=level) as src:
            small = src.read(1)
            assert set(np.unique(small)) == {0, 2}
            factor = 2100 / src.width
            inside = small[5:-5, int(600 / factor) + 2 : int(1100 / factor) - 2]
            assert (inside == 2).all()


def test_equal_pixels_and_tags_give_equal_bytes(tmp_path):
    ids = ids_of((900, 1300))
    other = save(tmp_path / "other.tif", ids)
    with rasterio.open(other, "r+") as dst:
        dst.update_tags(STARTED="at another time")
    hashes = set()
    sources = (save(tmp_path / "raw.tif", ids), other)
    for name, source in itertools.product(("a.tif", "b.tif"), sources):
        write_class_cog(source, tmp_path / name, ODD, TAGS)
        pair = (tmp_path / name, tmp_path / f"{name}.aux.xml")
        hashes.add(tuple(hashlib.sha256(p.read_bytes()).hexdigest() for p in pair))
    assert len(hashes) == 1


def test_an_older_map_is_replaced_whole(tmp_path):
    target = tmp_path / "classes.tif"
    write_class_cog(save(tmp_path / "raw.tif", ids_of((40, 40))), target, ODD, {"N": "1"})
    new = ids_of((30, 50), seed=1)
    write_class_cog(save(tmp_path / "raw.tif", new), target, load_scheme("buildings-roads"), {})
    with rasterio.open(target) as src:
        np.testing.assert_array_equal(src.read(1), new)
        assert "N" not in src.tags()
    assert read_scheme(target).names == ("background", "building", "road")


@pytest.mark.parametrize(
    ("pixels", "nodata", "words"),
    [
        (np.full((600, 600), 3, np.uint8), 255, "holds the value 3"),
        (np.zeros((9, 9), np.uint8), 0, "nodata 0"),
        (np.zeros((9, 9), np.float32), 255, "float32"),
        (np.zeros((2, 9, 9), np.uint8), 255, "2 bands"),
    ],
)
def test_what_is_no_class_map_leaves_nothing(tmp_path, pixels, nodata, words):
    source = save(tmp_path / "raw.tif", pixels, nodata=nodata)
    with pytest.raises(SceneError, match=words):
        write_class_cog(source, tmp_path / "classes.tif", ODD, {})
    assert [p.name for p in tmp_path.iterdir()] == ["raw.tif"]


def test_a_failed_write_keeps_the_older_map(tmp_path):
    target = tmp_path / "classes.tif"
    write_class_cog(save(tmp_path / "raw.tif", ids_of((40, 40))), target, ODD, {})
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.name.startswith("classes")}
    bad = save(tmp_path / "bad.tif", np.full((40, 40), 9, np.uint8))
    with pytest.raises(SceneError):
        write_class_cog(bad, target, ODD, {})
    after = {p: p.read_bytes() for p in tmp_path.iterdir() if p.name.startswith("classes")}
    assert after == before


def test_a_damaged_source_is_a_scene_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, (1500, 1500)).astype(np.uint8)
    source = save(tmp_path / "raw.tif", noise)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(SceneError, match=r"cannot|not a raster"):
        write_class_cog(source, tmp_path / "classes.tif", ODD, {})
    assert [p.name for p in tmp_path.iterdir()] == ["raw.tif"]


def test_a_missing_folder_is_named(tmp_path):
    source = save(tmp_path / "raw.tif", ids_of((9, 9)))
    with pytest.raises(OutputError, match=r"nowhere/classes.tif: there is no such file or folder"):
        write_class_cog(source, tmp_path / "nowhere" / "classes.tif", ODD, {})


def test_a_score_map_reads_as_scores(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, SCORE_STEPS + 1, (3, 600, 700)).astype(np.uint8)
    scores[:, :50] = 255
    target = tmp_path / "scores.tif"
    write_score_cog(save(tmp_path / "raw.tif", scores), target, ODD, TAGS)
    with rasterio.open(target) as src:
        np.testing.assert_array_equal(src.read(), scores)
        assert src.descriptions == ODD.names
        assert src.scales == (1 / SCORE_STEPS,) * 3
        assert src.offsets == (0.0,) * 3
        assert src.nodata == 255
        assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert src.tags().items() >= TAGS.items()
        assert rasterio.enums.ColorInterp.red not in src.colorinterp
    with rasterio.open(target, OVERVIEW_LEVEL=0) as src:
        # Means of 2 x 2 px: near the whole mean of 125, while nodata stays apart.
        small = src.read(1)
        assert (small[:24] == 255).all()
        assert abs(small[30:].mean() - 125) < 2
        assert small[30:].std() < 50


def test_a_raster_without_names_has_no_scheme(tmp_path):
    assert read_scheme(save(tmp_path / "raw.tif", ids_of((9, 9)))) is None


def test_names_without_colours_get_some(tmp_path):
    path = save(tmp_path / "raw.tif", ids_of((9, 9)))
    (tmp_path / "raw.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category>a</Category>'
        "<Category></Category><Category>c</Category><Category></Category></CategoryNames>"
        "</PAMRasterBand></PAMDataset>"
    )
    found = read_scheme(path)
    assert found.names == ("a", "class 1", "c")
    assert len({c.color for c in found.classes}) == 3
