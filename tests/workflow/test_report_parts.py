"""What reports say of a map: numbers of objects, lead table, scale bar, provenance."""

import json

import numpy as np
import pytest
from scipy import ndimage

from geopipe.classes import load_scheme
from geopipe.evaluation.raster_objects import ObjectCounts, count_objects
from geopipe.mapping import area_counts as counting
from geopipe.metrics import Metrics
from geopipe.report.figures import scale_bar
from geopipe.report.map_summary import area_table, counted
from geopipe.report.provenance import provenance_facts
from geopipe.report.summary import lead_table, summary_text

NAMES = ("background", "building")


@pytest.mark.parametrize("strip", [64, 2**22])
def test_areas_are_counted_once_whatever_the_strips(tmp_path, make_raster, monkeypatch, strip):
    rng = np.random.default_rng(0)
    ids = (ndimage.gaussian_filter(rng.normal(size=(300, 90)), 2) > 0).astype(np.uint8)
    ids[40:50, 20:60] = 255
    expected = tuple(ndimage.label(ids == k)[1] for k in (0, 1))
    assert min(expected) > 10
    monkeypatch.setattr(counting, "_STRIP_PX", strip)
    assert counting.area_counts(make_raster(ids[None], nodata=255), 2) == expected


def test_objects_agree_from_an_iou_of_a_half(make_raster):
    truth, mapped = np.zeros((2, 40, 40), np.uint8)
    truth[2:10, 2:10] = mapped[2:10, 4:10] = 1  # IoU 0.75
    truth[20:28, 2:10] = mapped[20:28, 8:16] = 1  # IoU 1 / 7
    mapped[30:34, 30:34] = 1  # nothing there
    truth[0:4, 30:34] = 1
    mapped[0:4, 30:34] = 255  # not known
    paths = (make_raster(a[None], f"{n}.tif") for n, a in (("map", mapped), ("truth", truth)))
    assert count_objects(*paths, 1) == ObjectCounts(truth=2, mapped=3, matched=1)


def test_a_class_that_falls_is_said_though_the_mean_rises():
    before = Metrics(NAMES, np.array([[60, 40], [5, 20]]))
    after = Metrics(NAMES, np.array([[99, 1], [9, 16]]))
    worse = Metrics(NAMES, np.array([[99, 1], [18, 7]]))
    assert worse.mean_iou > before.mean_iou
    assert worse.iou[1] < before.iou[1]
    assert "rises from 30.8 % to 61.5 %" in summary_text([before, after], ("CNN", "RNN"))[0]
    objects = {"building": ObjectCounts(69, 61, 19)}
    first, second = summary_text([before, worse], ("CNN", "RNN"), objects)
    assert "IoU of building on the test scene falls from 30.8 % to 26.9 %" in first
    assert "The map finds 19 of 69 areas of building" in second
    head, *rows = lead_table([before, worse], ("CNN", "RNN"), objects)
    assert head[:3] == ("class", "IoU CNN", "IoU RNN")
    assert rows[1][:3] == ("building", "30.8 %", "26.9 %")
    assert rows[1][-3:] == ("61", "69", "19")


def test_classes_of_areas_are_counted_and_lines_are_not():
    scheme = load_scheme("buildings-roads")
    assert [counted(c) for c in scheme.classes] == [False, True, False]
    head, background, building = area_table(
        {"background": 30_000.0, "building": 10_000.0}, {"building": 12}
    )
    assert head == ("class", "area", "share", "number")
    assert background == ("background", "3.00 ha", "75.0 %", "")
    assert building == ("building", "1.00 ha", "25.0 %", "12")


@pytest.mark.parametrize(
    ("width", "gsd", "text"), [(1000, 1.0, "200 m"), (1600, 0.1, "50 m"), (900, 20.0, "5 km")]
)
def test_a_scale_bar_is_a_round_length(width, gsd, text):
    bar = scale_bar(width, gsd)
    assert bar.text == text
    metres = float(text.split()[0]) * (1000 if "km" in text else 1)
    assert bar.share == pytest.approx(100 * metres / (width * gsd), abs=0.01)
    assert scale_bar(width, None) is None


def test_provenance_is_rows():
    inner = {"base": {"net": "cnn", "lr": 0.01}, "credit": "OSM", "augment": True}
    rows = provenance_facts({"scene": "a.tif", "model_provenance": json.dumps(inner)})
    assert rows == (
        ("scene", "a.tif"),
        ("base: net", "cnn"),
        ("base: learning rate", "0.01"),
        ("credit", "OSM"),
        ("augment", "yes"),
    )
