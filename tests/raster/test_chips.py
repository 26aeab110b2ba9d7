"""Stored samples in folders: every kind of image file, and what cannot be read."""

import logging

import numpy as np
import pytest
from PIL import Image

from geopipe.errors import SceneError
from geopipe.raster.chips import Chip, ChipFolder

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 255, (20, 31, 3), dtype=np.uint8)


def test_pixels_are_those_of_the_file(tmp_path):
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(RGB).save(tmp_path / name)
        assert np.array_equal(Chip(str(tmp_path / name)).read(), RGB.transpose(2, 0, 1))


def test_grey_is_repeated_and_alpha_left_out(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(Chip(str(tmp_path / "grey.png")).read(), np.stack([RGB[..., 0]] * 3))
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 128, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    assert np.array_equal(Chip(str(tmp_path / "alpha.png")).read(), RGB.transpose(2, 0, 1))


def test_palettes_give_their_colours_and_masks_their_ids(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "p.png")
    chip = Chip(str(tmp_path / "p.png"))
    assert np.array_equal(chip.read(), np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    assert np.array_equal(chip.read(1)[0], np.asarray(image))


def test_other_numbers_of_bands_are_refused(tmp_path, make_raster):
    path = make_raster(RNG.integers(0, 9, (4, 8, 8), dtype=np.uint8), photometric="minisblack")
    with pytest.raises(SceneError, match="4 bands, 3 are needed"):
        Chip(str(path)).read()


def folder(root):
    for name in ("b", "a", ".hidden"):
        (root / name).mkdir()
        Image.fromarray(RGB).save(root / name / "1.png")
        Image.fromarray(RGB).save(root / name / "2.JPG")
    (root / "a" / "notes.txt").write_text("no image")
    return root


def test_bands_can_be_chosen(tmp_path, make_raster):
    pixels = RNG.integers(0, 9, (4, 8, 8), dtype=np.uint8)
    path = make_raster(pixels, photometric="minisblack")
    assert np.array_equal(Chip(str(path), bands=(4, 1, 3)).read(), pixels[[3, 0, 2]])
    (chip,) = ChipFolder.open(path.parent, (2, 3, 4)).chips
    assert np.array_equal(chip.read(), pixels[1:])
    for wrong in ((1, 2, 5), (0, 1, 2), (1, 2)):
        with pytest.raises(SceneError, match=f"has 4 bands, .* not {wrong[0]},"):
            Chip(str(path), bands=wrong).read()


def test_folders_are_no_chips_whatever_their_name_and_lost_files_are_named(tmp_path, caplog):
    root = folder(tmp_path)
    (root / "a" / "old.tif").mkdir()
    (root / "b" / "3.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(SceneError, match=r"3\.png"):
        ChipFolder.open(root).readable(skip_bad=False)
    with caplog.at_level(logging.WARNING):
        left = ChipFolder.open(root).readable(skip_bad=True).unique()
    assert len(left.chips) == 2
    assert "1 of 5 chips left out" in caplog.text
    assert "3.png" in caplog.text


def test_folders_are_classes(tmp_path):
    found = ChipFolder.open(folder(tmp_path))
    assert found.class_names == ("a", "b")
    names = [(c.class_name, c.path.rsplit("/", 1)[1]) for c in found.chips]
    assert names == [("a", "1.png"), ("a", "2.JPG"), ("b", "1.png"), ("b", "2.JPG")]


def test_chips_without_a_folder_have_no_class(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "1.png")
    found = ChipFolder.open(tmp_path)
    assert found.class_names == ()
    assert [c.class_name for c in found.chips] == [""]


@pytest.mark.parametrize("make", [False, True])
def test_nothing_there(tmp_path, make):
    if make:
        (tmp_path / "x").mkdir()
    with pytest.raises(SceneError, match="no image" if make else "no folder"):
        ChipFolder.open(tmp_path / "x")


def test_unreadable_chips_are_an_error_or_named(tmp_path, caplog):
    root = folder(tmp_path)
    whole = (root / "a" / "1.png").read_bytes()
    (root / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "3.png").write_bytes(b"this is no image")
    with pytest.raises(SceneError, match=r"1\.png"):
        ChipFolder.open(root).readable(skip_bad=False)
    with caplog.at_level(logging.WARNING):
        left = ChipFolder.open(root).readable(skip_bad=True)
    assert [c.path.rsplit("/", 2)[1:] for c in left.chips] == [
        ["a", "2.JPG"],
        ["b", "1.png"],
        ["b", "2.JPG"],
    ]
    assert "2 of 5 chips left out" in caplog.text
    for chip in left.chips:
        (tmp_path / chip.path).write_bytes(b"")
    with pytest.raises(SceneError, match="none of the 5 images"):
        ChipFolder.open(root).readable(skip_bad=True)


def test_copies_are_left_out_and_counted(tmp_path, caplog):
    root = folder(tmp_path)
    other = RGB.copy()
    other[0, 0] ^= 1
    Image.fromarray(other).save(root / "b" / "3.png")
    with caplog.at_level(logging.WARNING):
        left = ChipFolder.open(root).unique()
    names = [tuple(c.path.rsplit("/", 2)[1:]) for c in left.chips]
    assert names == [("a", "1.png"), ("a", "2.JPG"), ("b", "3.png")]
    assert "2 of 5 chips are copies" in caplog.text
