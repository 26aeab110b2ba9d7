"""Readers of geopipe's own files: what they refuse, with file, field and reason."""

import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.weights import load_backbone
from geopipe.classes import load_scheme
from geopipe.config import parse, read_toml
from geopipe.errors import (
    CheckpointError,
    ChipIndexError,
    ConfigError,
    GeopipeError,
    GridError,
    JobError,
    LabelError,
    SceneError,
)
from geopipe.evaluation.iterations import IterationMetrics
from geopipe.grid import Tiling
from geopipe.learn.loop import TrainingHistory
from geopipe.learn.memory import require_memory
from geopipe.mapping.journal import NAME, Journal
from geopipe.metrics import Metrics
from geopipe.nets import MnihCNN
from geopipe.raster.inputs import scene_paths
from geopipe.retrieve import ChipIndex
from geopipe.tensors import TensorFile, read_npy
from geopipe.validation import MOST_BYTES, Schema, parse_json, read_bytes
from geopipe.workflow.schema import Workflow, load_workflow


class Small(Schema):
    count: int
    share: float = 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"count": 1.5}', r"x.json is damaged: count: .*integer .*1\.5"),
        ('{"count": "3"}', r"count: .*integer .got '3'"),
        ('{"count": true}', "count: .*integer .got True"),
        ('{"count": 1, "share": NaN}', "share: .*finite"),
        ('{"count": 1, "share": Infinity}', "share: .*finite"),
        ('{"share": 1}', "'count' is missing"),
        ('{"count": 1, "extra": 2}', "unknown key 'extra'"),
        ("[" * 10_000, "it is not JSON: recursion limit"),
        ('{"count": ' + "9" * 5000 + "}", "it is not JSON|count"),
        ('{"count": "' + "x" * 10**6 + '"}', r"x\.\.\."),
        ("", "it is not JSON"),
    ],
)
def test_the_error_names_file_field_and_reason(text, said):
    with pytest.raises(JobError, match=said) as caught:
        parse_json(text, Small, "x.json", JobError, "make it again")
    assert len(str(caught.value)) < 400
    assert caught.value.hint == "make it again"


def test_what_is_right_is_read():
    assert parse_json('{"count": 3, "share": 1}', Small, "x", JobError, "") == Small(
        count=3, share=1.0
    )


READERS = {
    "model": Checkpoint.load,
    "weights": lambda p: load_backbone("resnet18", p),
    "workflow": load_workflow,
    "history": TrainingHistory.load,
    "index": lambda p: ChipIndex.open(p.parent),
    "metrics": Metrics.read,
    "evaluation": lambda p: IterationMetrics.load(p.parent),
    "journal": lambda p: Journal(p.parent, {}, 2, classes=2),
    "stac": lambda p: scene_paths([str(p)]),
    "tensors": lambda p: TensorFile.open(p, SceneError),
    "npy": lambda p: read_npy(p, "uint8", (None,), SceneError),
    "text": lambda p: read_bytes(p, SceneError),
    "scheme": load_scheme,
}
NAMES = {
    "weights": "w.pth",
    "index": "index.json",
    "evaluation": "evaluation.json",
    "journal": NAME,
    "stac": "s.json",
    "scheme": "c.toml",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["a named pipe", "a folder"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    path = tmp_path / NAMES.get(name, "file")
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    with pytest.raises(GeopipeError, match=f"{path.name} is {kind}, not a file"):
        READERS[name](path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(SceneError, match="more than 64 MB"):
        read_bytes(path, SceneError)


# Sizes before allocation


def tensors(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}, "a: F32 of shape"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "bytes 4 to 8"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "a.tensor.shape.0: .*0"),
        ({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}, "a: F4"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, "its header names"),
        ({"a": {"dtype": "F32", "shape": [1]}}, "a.__metadata__"),
    ],
)
def test_tensors_that_do_not_fit_their_file(tmp_path, header, said):
    path = tensors(tmp_path / "a.safetensors", header, b"\0" * 4)
    with pytest.raises(SceneError, match=said):
        TensorFile.open(path, SceneError)


def test_arrays_are_what_was_saved(tmp_path):
    path, array = tmp_path / "a.safetensors", np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"a": array, "b": array}, path, {"x": "y"})
    file = TensorFile.open(path, SceneError)
    assert file.metadata == {"x": "y"}
    assert (file.arrays({"a": ("F32", (None, 3))})["a"] == array).all()
    with pytest.raises(SceneError, match=r"a: F32 of shape \[2, 3\]"):
        file.arrays({"a": ("F32", (3, None))})
    with pytest.raises(SceneError, match="'c' is missing"):
        file.arrays({"c": ("F32", ())})


def test_npy_files_of_other_sizes(tmp_path):
    path, array = tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(path, array)
    assert (read_npy(path, "float32", (2, None), SceneError) == array).all()
    for dtype, shape, said in (
        ("uint8", (2, 3), "it holds '<f4', not uint8"),
        ("float32", (3, 3), r"its shape is \(2, 3\)"),
        ("float32", (6,), r"its shape is \(2, 3\)"),
    ):
        with pytest.raises(SceneError, match=said):
            read_npy(path, dtype, shape, SceneError)
    claims = path.read_bytes().replace(b"(2, 3)", b"(2, 9)")
    path.write_bytes(claims)
    with pytest.raises(SceneError, match="152 bytes, not those of"):
        read_npy(path, "float32", (None, None), SceneError)
    path.write_bytes(claims[:-1].replace(b"<f4", b"|O8"))
    with pytest.raises(SceneError, match="not float32"):
        read_npy(path, "float32", (None, None), SceneError)


def test_a_small_model_that_asks_for_a_large_network(tmp_path, make_model):
    import resource

    path = tmp_path / "m.safetensors"
    header = {
        **{"format": 2, "geopipe": "1", "bands": 3, "postprocessor": None, "dtype": "uint8"},
        **{"mean": [0.0] * 3, "std": [1.0] * 3, "gsd": 1.0, "halo": 0, "stride": 256},
        "scheme": make_model().scheme.to_dict(),
        "provenance": {},
        "architecture": {
            **{"net": "scenes", "model": "fusion:vgg16.fc7+vgg19.fc7", "chip": 256},
            **{"step": 256, "side": 224, "hidden": 65536, "flat": False},
        },
    }
    save_file({"a": np.zeros(3, np.float32)}, path, {"geopipe": json.dumps(header)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        CheckpointError, match=r"do not fit its header: base\.backbone.* is missing"
    ):
        Checkpoint.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kilobytes"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path, make_model, value):
    import torch

    model = make_model(iterations=0)
    with torch.no_grad():
        model.net.base.conv1.bias[3] = value
    model.save(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"no numbers to compute with: base\.conv1\.bias"):
        Checkpoint.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("gsd", float("inf"), "gsd: .*finite"),
        ("gsd", -1.0, "gsd: .*0.001 .got -1.0"),
        ("gsd", 1e9, "gsd: .*10000"),
        ("std", (0.0, 1.0, 1.0), "std.0: .*greater than 0"),
        ("mean", (1.0, float("nan"), 1.0), "mean.1: .*finite"),
        ("dtype", "complex64", "dtype: .*pattern"),
        ("provenance", {"label_area_q01_m2": {"road": -1}}, "label_area_q01_m2.road: .*0 .got -1"),
        ("provenance", {"credit": 3}, "provenance.credit: .*string"),
        ("provenance", {"hold_out": 2.0}, "provenance.hold_out: .*less than 1"),
    ],
)
def test_fields_of_a_model(tmp_path, make_model, field, value, said):
    path = tmp_path / "m"
    replace(make_model(iterations=0), **{field: value}).save(path)
    with pytest.raises(CheckpointError, match=rf"the header of {path} is damaged: .*{said}"):
        Checkpoint.load(path)


def test_batches_and_tiles_are_bounded_by_the_machine(monkeypatch):
    monkeypatch.setattr("geopipe.learn.memory.memory_mb", lambda: 1000)
    net = MnihCNN(3, 3)
    require_memory(net, 4, 316, "cpu")
    with pytest.raises(ConfigError, match=r"4096 samples .* 58897 MB, .* 1000 MB .*at most 69"):
        require_memory(net, 4096, 316, "cpu")
    require_memory(net, 4096, 316, "cuda:0")
    with pytest.raises(GridError, match="a tile size of 1000000000 is more than 16384"):
        Tiling((10, 10), 10**9)


# TOML


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 10_000 + "]" * 10_000, "nested too deep"),
        ("a = " + "[" * 90 + "]" * 90, "'a.0.0.*' is nested more than 64 deep"),
        ("a." * 10_000 + "b = 1", "a key of more than 64 parts"),
        ("[" + "a." * 100_000 + "b]\n", "a key of more than 64 parts"),
        ("a = " + "9" * 400, "'a' is an integer of more than 64 bits"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ('[b]\na = "x\\u0000y"', "'b.a' holds a NUL character"),
        ('"\\u0000" = 1', "NUL"),
        ("x" * (1 << 20) + " = 1", "more than 1 MB"),
    ],
    ids=["deep", "90 deep", "key", "table", "400 digits", "5000 digits", "nul", "nul key", "huge"],
)
def test_toml_that_no_setting_can_be(tmp_path, text, said):
    path = tmp_path / "w.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_toml(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("gsd", float("inf"), "gsd: .*finite"),
        ("gsd", 1e-9, "gsd: .*0.001"),
        ("workers", 1000, "workers: .*less than or equal to"),
        ("seed", 2**63 - 1, None),
        ("base", {"batch": 10**9}, "base.batch: .*4096"),
        ("base", {"steps": 10**12}, "base.steps: .*10000000"),
        ("map", {"tile_size": 10**9}, "map.tile_size: .*16384"),
        ("map", {"min_area": {"building": -1}}, "min_area"),
        ("map", {"nodata": float("nan")}, None),
        ("map", {"bands": [0]}, "map.bands.0: .*1"),
    ],
)
def test_bounds_of_a_workflow(key, value, said):
    tables = {"name": "a", "out": "b", "train": {"scene": "s.tif", "labels": "l.gpkg"}, key: value}
    if said is None:
        assert parse(tables, Workflow, "w.toml").name == "a"
        return
    with pytest.raises(ConfigError, match=said):
        parse(tables, Workflow, "w.toml")


# Journals, metrics


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"tile": 7, "pixels": [1, 2], "size": 1, "bad": ""}, "tile 7 of 2"),
        ({"tile": -1, "pixels": [1, 2], "size": 1, "bad": ""}, "tile: .*0 .got -1"),
        ({"tile": 1, "pixels": [1], "size": 1, "bad": ""}, "1 classes of 2"),
        ({"tile": 1, "pixels": [1, -5], "size": 1, "bad": ""}, "pixels.1: .*got -5"),
        ({"tile": 1, "pixels": [1, 2], "size": 1}, "'bad' is missing"),
    ],
)
def test_a_line_of_a_journal_that_cannot_be(tmp_path, line, said):
    (tmp_path / NAME).write_text(json.dumps({"a": 1}) + "\n" + json.dumps(line) + "\n")
    journal = Journal(tmp_path, {"a": 1}, 2, classes=2)
    with pytest.raises(JobError, match=said):
        list(journal.recorded())
    journal.close()


@pytest.mark.parametrize("matrix", [[[1, 2], [3]], [[1, 2]], [[1, -2], [3, 4]], [[1, 2], [3, 4.5]]])
def test_a_matrix_that_is_none(tmp_path, matrix):
    table = Metrics(("a", "b"), np.array([[1, 2], [3, 4]])).to_dict()
    path = tmp_path / "m.json"
    path.write_text(json.dumps(table))
    assert Metrics.read(path).matrix.tolist() == [[1, 2], [3, 4]]
    path.write_text(json.dumps({**table, "matrix": matrix}))
    with pytest.raises(LabelError, match="matrix"):
        Metrics.read(path)


@pytest.mark.parametrize("field", ["count", "first"])
def test_parts_of_an_index_that_do_not_follow_each_other(tmp_path, field):
    part = {"file": "chips-00000.parquet", "first": 0, "count": 2, "size": 1}
    part |= {"sha256": "0" * 64, "vectors_sha256": "0" * 64, field: 1}
    header = {"format": 2, "made_by": "g", "model": {"weights": "", "weights_sha256": ""}}
    header |= {"dtype": "float32", "width": 4, "count": 2, "parts": [part], "scenes": []}
    (tmp_path / "index.json").write_text(json.dumps({**header, "unfinished": None, "search": None}))
    with pytest.raises(ChipIndexError, match=rf"index.json is damaged: .*{field}"):
        ChipIndex.open(tmp_path)
