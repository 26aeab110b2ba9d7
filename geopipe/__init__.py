"""geopipe: very-high-resolution satellite scenes in, building and road maps out.

The public names of the package, each explained with an example in ``docs/python.md``. They are
loaded when they are first used: ``import geopipe`` alone loads neither torch nor rasterio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geopipe.api.accuracy import MapAccuracy, evaluate
    from geopipe.api.changes import MapChanges, compare
    from geopipe.api.chipindex import ChipIndex
    from geopipe.api.labels import Labels, align_labels, open_labels
    from geopipe.api.mapping import MapResult, map_scene
    from geopipe.api.model import Model, load_model
    from geopipe.api.prediction import predict
    from geopipe.api.scene import Scene, open_scene
    from geopipe.api.training import train

__version__ = "0.1.0"

_HOMES = {
    "ChipIndex": "chipindex",
    "Labels": "labels",
    "MapAccuracy": "accuracy",
    "MapChanges": "changes",
    "MapResult": "mapping",
    "Model": "model",
    "Scene": "scene",
    "align_labels": "labels",
    "compare": "changes",
    "evaluate": "accuracy",
    "load_model": "model",
    "map_scene": "mapping",
    "open_labels": "labels",
    "open_scene": "scene",
    "predict": "prediction",
    "train": "training",
}
"""Public name -> the module of `geopipe.api` that defines it."""

__all__ = [
    "ChipIndex",
    "Labels",
    "MapAccuracy",
    "MapChanges",
    "MapResult",
    "Model",
    "Scene",
    "__version__",
    "align_labels",
    "compare",
    "evaluate",
    "load_model",
    "map_scene",
    "open_labels",
    "open_scene",
    "predict",
    "train",
]


if not TYPE_CHECKING:  # where it would make any name pass for one that there is

    def __getattr__(name: str) -> Any:
        """Load a public name on first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module 'geopipe' has no attribute {name!r}")
        value = getattr(import_module(f"geopipe.api.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
