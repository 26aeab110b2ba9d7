"""Objects against objects, on squares whose figures can be worked out by hand."""

import json
import math

import geopandas as gpd
import numpy as np
import pytest
from click.testing import CliRunner
from shapely import Polygon, box

from geopipe.cli.evaluate import evaluate
from geopipe.errors import LabelError
from geopipe.evaluation.objects import evaluate_objects, match_objects


def shapes(*polygons):
    return np.array(polygons, object)


def test_matches_are_one_to_one_from_an_iou_of_one_half():
    truth = shapes(box(0, 0, 10, 10), box(20, 0, 30, 10), box(40, 0, 50, 10), box(60, 0, 70, 10))
    mapped = shapes(
        box(0, 0, 10, 10),  # 1
        box(20, 0, 30, 8),  # 0.8
        box(40, 0, 50, 4),  # 0.4
        box(0, 0, 10, 9),  # 0.9 of the first, which is taken
        box(80, 0, 90, 10),
    )
    m = match_objects(mapped, truth)
    assert (m.mapped, m.truth) == (5, 4)
    assert (m.precision, m.recall) == (2 / 5, 2 / 4)
    assert m.f1 == pytest.approx(4 / 9)
    assert m.mean_iou == pytest.approx(0.9)
    # At 0.50 to 0.80 two pairs, then one.
    assert m.mean_f1 == pytest.approx((7 * 4 / 9 + 3 * 2 / 9) / 10)
    assert (m.over_segmented, m.under_segmented) == (1 / 4, 0)
    assert m.vertex_ratio == 1


def test_splits_and_merges_are_counted():
    truth = shapes(box(0, 0, 10, 10), box(20, 0, 30, 10), box(30, 0, 40, 10))
    mapped = shapes(box(0, 0, 5, 10), box(5, 0, 10, 10), box(20, 0, 40, 10))
    m = match_objects(mapped, truth)
    assert (m.over_segmented, m.under_segmented) == (1 / 3, 1 / 3)
    assert m.f1 == pytest.approx(2 * 2 / 6), "half of each is enough once"


def test_nothing_is_no_number():
    nothing = np.empty(0, object)
    m = match_objects(nothing, nothing)
    assert math.isnan(m.f1)
    assert m.to_dict()["precision"] is None
    assert match_objects(nothing, shapes(box(0, 0, 1, 1))).recall == 0


def save(path, polygons, crs="EPSG:32631", **columns):
    gpd.GeoDataFrame(columns, geometry=list(polygons), crs=crs).to_file(path, layer="buildings")
    return path


SQUARES = [box(5e5 + x, 5e6, 5e5 + x + 10, 5e6 + 10) for x in (0, 20, 40)]


def test_files_in_other_crs_and_areas(tmp_path):
    mapped = save(tmp_path / "m.gpkg", SQUARES, **{"class": ["building"] * 3})
    there = gpd.GeoSeries(SQUARES[:2], crs=32631).to_crs(4326)
    truth = save(tmp_path / "t.geojson", there, 4326)
    m = evaluate_objects(mapped, truth)
    assert (m.precision, m.recall) == (2 / 3, 1)
    assert m.mean_iou == pytest.approx(1, abs=1e-3)
    area = save(tmp_path / "a.gpkg", [box(5e5 - 5, 5e6 - 5, 5e5 + 32, 5e6 + 20)])
    assert evaluate_objects(mapped, truth, area=area).precision == 1


def test_broken_polygons_are_counted_and_repaired(tmp_path, caplog):
    bow = Polygon([(5e5, 5e6), (5e5 + 10, 5e6 + 10), (5e5 + 10, 5e6), (5e5, 5e6 + 10)])
    truth = save(tmp_path / "t.gpkg", [bow, None, *SQUARES[1:]])
    mapped = save(tmp_path / "m.gpkg", SQUARES)
    metrics = evaluate_objects(mapped, truth)
    assert "t.gpkg: 1 of 4 geometries are broken and were repaired" in caplog.text
    assert metrics.truth == 4, "the bow is two triangles"
    assert metrics.recall == 2 / 4


def test_the_command_compares_objects_where_the_map_is_vectors(tmp_path):
    mapped = save(tmp_path / "m.gpkg", SQUARES)
    result = CliRunner().invoke(evaluate, [str(mapped), str(mapped), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["f1"] == 1
    assert "| F1 (IoU 0.5) | 100.00 % |" in CliRunner().invoke(evaluate, [str(mapped)] * 2).output


def test_files_that_do_not_fit_are_refused(tmp_path):
    mapped = save(tmp_path / "m.gpkg", SQUARES)
    far = save(tmp_path / "far.gpkg", [box(6e5, 5e6, 6e5 + 10, 5e6 + 10)])
    other = save(tmp_path / "o.gpkg", SQUARES, **{"class": ["road"] * 3})
    (tmp_path / "bad.gpkg").write_bytes(b"x" * 99)
    for path, words in (
        (tmp_path / "none.gpkg", "there is no file"),
        (tmp_path / "bad.gpkg", "cannot read"),
        (other, "no 'building'.*holds road"),
    ):
        with pytest.raises(LabelError, match=words):
            evaluate_objects(mapped, path)
    with pytest.raises(LabelError, match="no layer 'x'"):
        evaluate_objects(mapped, mapped, layer="x")
    with pytest.raises(LabelError, match="lies where"):
        evaluate_objects(mapped, far)


@pytest.mark.parametrize("name", ["Buildng", None, " "])
def test_a_misspelt_class_is_told_and_another_one_is_not(tmp_path, caplog, name):
    names = ["building", name, "road"]
    truth = save(tmp_path / "t.gpkg", SQUARES, **{"class": names})
    assert evaluate_objects(save(tmp_path / "m.gpkg", SQUARES), truth).truth == 1
    said = (name or "").strip().casefold()
    assert f"t.gpkg: 1 x class '{said}' left out" in caplog.text
    assert "'road'" not in caplog.text
