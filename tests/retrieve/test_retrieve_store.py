"""The folder on disk: whole or as it was, however it is written, and damage is told."""

import json

import geopandas as gpd
import numpy as np
import pytest

from geopipe.errors import ChipIndexError
from geopipe.retrieve import ChipIndex, ChipRow
from geopipe.retrieve.header import NAME, VECTORS, Header, Unfinished
from geopipe.retrieve.store import Writer

MODEL = {"backbone": "none", "weights": "auto", "weights_sha256": "0" * 64}
VECTORS_ = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
PLACE = (1.0, 0.0, 500_000.0, 0.0, -1.0, 4_700_000.0)


def rows(first, count):
    return [
        ChipRow(
            f"/some/{i}.tif",
            "1:2",
            "a" if i % 2 else "",
            f"{i:032x}",
            3,
            i,
            5,
            6,
            *(("EPSG:32631", PLACE) if i % 3 else ()),
        )
        for i in range(first, first + count)
    ]


def fill(folder, steps=(2, 3, 4), dtype="float32"):
    folder.mkdir(exist_ok=True)
    at = 0
    for n in steps:
        Writer(folder, Header(MODEL, dtype)).append(VECTORS_[at : at + n], rows(at, n), None)
        at += n
    return ChipIndex.open(folder)


def test_what_was_written_is_read(tmp_path):
    index = fill(tmp_path / "x")
    index.verify()
    assert len(index) == 9
    assert (index.vectors == VECTORS_).all()
    assert isinstance(index.vectors, np.memmap)
    assert list(index.all_rows()) == rows(0, 9)
    assert list(index.all_rows(4)) == rows(0, 4)
    assert index.rows([7, 0, 3, 0]) == [rows(i, 1)[0] for i in (7, 0, 3, 0)]
    assert index.column("class_name") == ["", "a"] * 4 + [""]


def test_rows_are_geoparquet_with_footprints(tmp_path):
    fill(tmp_path / "x", (9,))
    table = gpd.read_parquet(tmp_path / "x/chips-00000.parquet")
    assert table["id"].tolist() == list(range(9))
    assert table.crs.to_string() == "OGC:CRS84"
    assert table.geometry.isna().tolist() == [i % 3 == 0 for i in range(9)]
    back = table.loc[[1], "geometry"].to_crs("EPSG:32631").iloc[0]
    assert back.bounds == pytest.approx((500_000, 4_699_995, 500_006, 4_700_000), abs=1e-3)


def test_half_the_bytes(tmp_path):
    index = fill(tmp_path / "x", dtype="float16")
    assert (tmp_path / "x" / VECTORS).stat().st_size == 9 * 4 * 2
    assert index.vectors == pytest.approx(VECTORS_, abs=2e-3)


def test_a_reader_sees_what_was_there_when_it_opened(tmp_path):
    index = fill(tmp_path / "x", (2,))
    fill_more = Writer(tmp_path / "x", Header(MODEL, "float32"))
    fill_more.append(VECTORS_[2:5], rows(2, 3), Unfinished("p", 2, 1, 2))
    assert len(index) == 2
    assert (index.vectors == VECTORS_[:2]).all()
    later = ChipIndex.open(tmp_path / "x")
    assert len(later) == 5
    assert later.header.unfinished == Unfinished("p", 2, 1, 2)


def test_a_writer_killed_at_any_step_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    index = fill(tmp_path / "x", (2,))
    before = index.digest

    class KilledError(BaseException):
        pass

    def die(*_):
        raise KilledError

    for step in ("geopipe.retrieve.store.write_rows", "geopipe.retrieve.header.Header.write"):
        with monkeypatch.context() as patch:
            patch.setattr(step, die)
            with pytest.raises(KilledError):
                Writer(tmp_path / "x", index.header).append(VECTORS_[2:5], rows(2, 3), None)
        again = ChipIndex.open(tmp_path / "x")
        again.verify()
        assert again.digest == before
    assert (tmp_path / "x" / VECTORS).stat().st_size > 2 * 16  # what the kill left behind
    Writer(tmp_path / "x", index.header).append(VECTORS_[2:9], rows(2, 7), None)
    whole = ChipIndex.open(tmp_path / "x")
    whole.verify()
    assert (whole.vectors == VECTORS_).all()


def test_nothing_there(tmp_path):
    with pytest.raises(ChipIndexError, match="no such folder"):
        ChipIndex.open(tmp_path / "none")
    with pytest.raises(ChipIndexError, match="hardly begun"):
        ChipIndex.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / NAME).write_text("{"), "index.json is damaged"),
        (lambda f: (f / NAME).write_text("[]"), "index.json is damaged"),
        (lambda f: (f / NAME).write_text('{"format": 2}'), "index.json is damaged"),
        (lambda f: edit(f, format=7), "has format 7, this geopipe reads 2"),
        (lambda f: edit(f, count=8), "8 chips in parts of"),
        (lambda f: cut(f / VECTORS), "has 143 bytes, 9 chips need 144"),
        (lambda f: (f / VECTORS).unlink(), "has 0 bytes, 9 chips need"),
        (lambda f: cut(f / "chips-00001.parquet"), "chips-00001.parquet has"),
        (lambda f: (f / "chips-00001.parquet").unlink(), "chips-00001.parquet is missing"),
    ],
)
def test_damage_is_told_when_it_is_opened(tmp_path, change, said):
    fill(tmp_path / "x")
    change(tmp_path / "x")
    with pytest.raises(ChipIndexError, match=said):
        ChipIndex.open(tmp_path / "x")


def edit(folder, **changes):
    values = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps({**values, **changes}))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("file", [VECTORS, "chips-00001.parquet"])
def test_a_turned_bit_is_found_when_it_is_verified(tmp_path, file):
    index = fill(tmp_path / "x")
    data = bytearray((tmp_path / "x" / file).read_bytes())
    data[40] ^= 4
    (tmp_path / "x" / file).write_bytes(data)
    with pytest.raises(ChipIndexError, match="not what was written"):
        index.verify()


def test_rows_that_cannot_be_read(tmp_path):
    index = fill(tmp_path / "x")
    part = tmp_path / "x/chips-00000.parquet"
    part.write_bytes(b"x" * part.stat().st_size)
    with pytest.raises(ChipIndexError, match="cannot read"):
        index.rows([0])


def test_vectors_of_another_length(tmp_path):
    index = fill(tmp_path / "x")
    with pytest.raises(ChipIndexError, match="3 values do not fit an index of 4"):
        Writer(tmp_path / "x", index.header).append(VECTORS_[:1, :3], rows(0, 1), None)
