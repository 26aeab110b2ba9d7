"""Overlaps resolved group by group are those of all polygons at once; a file holds what it got."""

from tempfile import gettempdir

import numpy as np
import pytest
import shapely
from shapely import affinity, box

from geopipe.errors import OutputError
from geopipe.vectors import overlaps, polygon_file
from geopipe.vectors.overlaps import resolve_overlaps, without_overlaps
from geopipe.vectors.polygon_file import PolygonFile


def neighbours(seed):
    """Traced squares 2 m apart, and each turned, grown and moved, so that some overlap."""
    rng = np.random.default_rng(seed)
    squares = [box(10 * x, 10 * y, 10 * x + 8, 10 * y + 8) for y in range(9) for x in range(9)]
    # One that reaches far south, past all that begin between.
    squares.append(box(90, 0, 98, 95))
    drawn = [
        affinity.translate(
            affinity.rotate(affinity.scale(s, *rng.uniform(0.9, 1.25, 2)), rng.uniform(0, 45)),
            *rng.uniform(-1, 1, 2),
        )
        for s in squares
    ]
    return np.array(drawn, object), np.array(squares, object)


@pytest.mark.parametrize("at_once", [1, 3, 2000])
@pytest.mark.parametrize("max_shift", [0.5, 2.5, 9.0])
@pytest.mark.parametrize("seed", range(4))
def test_groups_give_what_all_at_once_give(monkeypatch, seed, max_shift, at_once):
    monkeypatch.setattr(overlaps, "_AT_ONCE", at_once)
    polygons, traced = neighbours(seed)
    numbers = np.random.default_rng(seed).permutation(len(polygons))  # as they came
    with PolygonFile() as drawn, PolygonFile() as outlines:
        for k in numbers:
            drawn.add(polygons[[k]])
            outlines.add(traced[[k]])
        order = np.lexsort(outlines.bounds[:, :2].T)
        resolve_overlaps(drawn, outlines, order, max_shift)
        result = drawn[order]
        assert (drawn.bounds[order] == shapely.bounds(result)).all()
    expected = without_overlaps(polygons[numbers][order], traced[numbers][order], max_shift)
    assert shapely.equals_exact(result, expected).all()
    assert not shapely.equals_exact(result, polygons[numbers][order]).all()
    a, b = shapely.STRtree(result).query(result)
    common = shapely.area(shapely.intersection(result[a[a < b]], result[b[a < b]]))
    assert common.sum() < 1e-4


def test_without_overlaps_nothing_changes():
    _, traced = neighbours(0)
    with PolygonFile() as drawn, PolygonFile() as empty:
        drawn.add(traced)
        resolve_overlaps(drawn, drawn, np.arange(len(traced)), 2.0)
        assert (drawn[range(len(traced))] == traced).all()
        resolve_overlaps(empty, empty, np.arange(0), 2.0)


def test_a_file_gives_back_what_it_got(monkeypatch):
    monkeypatch.setattr(polygon_file, "_IN_MEMORY", 200)  # some in memory, the others on the disk
    drawn, traced = neighbours(1)
    with PolygonFile() as file:
        for part in (drawn[:2], traced[:0], traced, drawn[2:]):
            file.add(part)
        everything = np.concatenate([drawn[:2], traced, drawn[2:]])
        assert len(file) == len(everything)
        assert (file.bounds == shapely.bounds(everything)).all()
        for numbers in ([5], [len(file) - 1, 0, 7, 7], range(len(file))):
            assert shapely.equals_exact(file[numbers], everything[list(numbers)]).all()
        assert not len(file[[]])
        file.replace([3, 0], traced[[7, 8]])
        everything[[3, 0]] = traced[[7, 8]]
        assert shapely.equals_exact(file[range(len(file))], everything).all()
        assert (file.bounds == shapely.bounds(everything)).all()


def test_a_full_disk_is_told_with_the_folder_of_temporary_files(monkeypatch):
    _, traced = neighbours(1)
    with PolygonFile() as file:

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(file._file, "write", full)
        with pytest.raises(OutputError, match=f"cannot write {gettempdir()}: the disk is full"):
            file.add(traced)
