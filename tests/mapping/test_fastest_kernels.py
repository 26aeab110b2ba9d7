"""The choice of a form is measured once, kept, and never trusted when damaged."""

import json

import pytest

from geopipe.mapping import kernels as module
from geopipe.mapping.kernels import cache_file, fastest_kernels
from geopipe.nets import Kernels

CHOICE = Kernels("matmul", "convolution")


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """How often was measured; every call of `fastest_kernels` is a new process's first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def measure():
        calls.append(1)
        return CHOICE

    monkeypatch.setattr(Kernels, "benchmark", staticmethod(measure))
    fastest_kernels.cache_clear()
    yield calls
    fastest_kernels.cache_clear()


def again():
    fastest_kernels.cache_clear()
    return fastest_kernels()


def test_a_choice_is_kept(measured, tmp_path):
    assert again() == again() == CHOICE
    assert len(measured) == 1
    assert json.loads(cache_file().read_text()) == {"base": "matmul", "refinement": "convolution"}
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [cache_file()]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"base": "matmul", "refinement": "fast"}', '{"x": 1}', "\xff\x00"],
)
def test_a_damaged_file_is_measured_again(measured, text):
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(text.encode("latin-1"))
    assert again() == CHOICE
    assert len(measured) == 1
    assert again() == CHOICE  # and the file is whole again
    assert len(measured) == 1


def test_a_folder_that_cannot_be_written(measured, monkeypatch, tmp_path):
    (tmp_path / "geopipe").write_text("a file where the folder should be")
    assert again() == again() == CHOICE
    assert len(measured) == 2


def test_another_processor_or_torch_is_another_file(measured, monkeypatch):
    names = {cache_file()}
    monkeypatch.setattr(module, "_processor", lambda: "another")
    names.add(cache_file())
    monkeypatch.setattr(module.torch, "__version__", "9.9")
    names.add(cache_file())
    assert len(names) == 3
