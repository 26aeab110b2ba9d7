"""``import geopipe``: fast, lazy, and the same names for people and for type checkers."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import geopipe as gp

HEAVY = ("torch", "dask", "osmnx", "rasterio", "xarray", "rioxarray", "numpy", "pandas")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_import_loads_nothing_heavy_and_takes_no_time():
    code = (
        "import sys, time; start = time.process_time(); import geopipe; "
        "print(time.process_time() - start, *sys.modules)"
    )
    seconds, *modules = run(code)
    assert not set(HEAVY) & set(modules)
    assert float(seconds) < 0.1


def test_to_open_a_scene_no_torch_is_loaded():
    assert "torch" not in run("import sys, geopipe; geopipe.open_scene; print(*sys.modules)")


def test_every_name_is_there_and_documented():
    assert set(gp.__all__) == {*gp._HOMES, "__version__"}
    assert set(gp.__all__) <= set(dir(gp))
    for name in gp._HOMES:
        value = getattr(gp, name)
        assert value.__name__ == name
        assert value.__module__ == f"geopipe.api.{gp._HOMES[name]}"
        assert inspect.getdoc(value)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(gp.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {a.name: n.module for n in block.body for a in n.names}
    assert seen == {name: f"geopipe.api.{home}" for name, home in gp._HOMES.items()}
    assert (Path(gp.__file__).parent / "py.typed").exists()


def test_no_package_has_the_name_of_a_function():
    """An import of the package would take the place of the function."""
    assert not {m.name for m in pkgutil.iter_modules(gp.__path__)} & set(gp.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'open_scenes'"):
        gp.open_scenes  # noqa: B018


def test_the_accessor_comes_with_the_api():
    code = "import geopipe.api, xarray; print(hasattr(xarray.DataArray, 'geopipe'))"
    assert run(code) == ["True"]
