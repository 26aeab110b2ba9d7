"""Killed at any moment, features are there whole or not at all, and the next run writes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_features import TOWN, town_map

from geopipe.vectors.features import write_features


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A map, and the bytes of its features."""
    folder = tmp_path_factory.mktemp("whole")
    source = town_map(folder)
    files = write_features(source, folder, TOWN, name="town").files.values()
    return source, {path.name: path.read_bytes() for path in files}


def test_killed_while_vectorizing_and_while_the_files_get_their_names(whole, tmp_path):
    source, expected = whole
    program = Path(__file__).with_name("dying.py")
    path = os.pathsep.join([str(program.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    ) as process:

        def dies(moment, folder):
            folder.mkdir()
            process.stdin.write(f"{moment}\t{source}\t{folder}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        moments = dies(0, tmp_path / "calm")
        assert moments > 12
        assert contents(tmp_path / "calm") == expected
        for moment in (*range(1, moments - 4, 4), *range(moments - 4, moments + 1, 2)):
            folder = tmp_path / str(moment)
            assert dies(moment, folder) == moment - 1
            here = {name: data for name, data in contents(folder).items() if name in expected}
            assert here.items() <= expected.items(), "a file is whole or not there"
            write_features(source, folder, TOWN, name="town")
            assert contents(folder) == expected, "nor is anything left beside them"


def contents(folder):
    return {p.name: p.read_bytes() if p.is_file() else None for p in folder.iterdir()}
