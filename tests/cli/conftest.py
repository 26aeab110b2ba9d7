"""The command line as a user meets it: words in, exit code and two streams out."""

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_place import draw_place, lively

from geopipe.cli import main


@dataclass(frozen=True)
class Said:
    """What a command left on its streams."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A scene, its OSM, and a model."""

    scene: Path
    osm: Path
    model: Path


@pytest.fixture
def geopipe(capfd, monkeypatch):
    """``geopipe(*words)``: the command in this process, with all that reaches the streams.

    Also what GDAL writes past Python, warnings and log lines, which pytest would keep to itself.
    """

    # What takes a second on a busy machine would tell of its progress.
    monkeypatch.setattr("geopipe.progress._QUIET_S", 1e9)

    def told(message, category, filename, lineno, file=None, line=None):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))

    def run(*words):
        capfd.readouterr()
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        root.handlers.clear()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                for quiet in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
                    warnings.simplefilter("ignore", quiet)  # as outside of a test
                monkeypatch.setattr(warnings, "showwarning", told)
                main.main([str(w) for w in words], prog_name="geopipe")
        except SystemExit as e:
            code = e.code or 0
        finally:
            root.handlers[:], root.level = handlers, level
        streams = capfd.readouterr()
        return Said(code, streams.out, streams.err)

    return run


@pytest.fixture(scope="session")
def drawn(tmp_path_factory, make_model):
    """A place whose files nobody changes."""
    folder = tmp_path_factory.mktemp("drawn")
    scene, osm = draw_place(folder, "scene", (180, 200))
    model = lively(make_model(seed=3))
    model.save(folder / "model.safetensors")
    return Place(scene, osm, folder / "model.safetensors")
