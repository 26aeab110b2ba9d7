"""The model that comes with geopipe, for a first map of a scene without labels."""

from importlib.resources import files
from pathlib import Path

NAME = "starter"
"""Stands for the file of the model wherever one is asked for."""
STARTER_KEY = "starter"
"""In the provenance of the starter model, and of no other: what it was trained on."""
STARTER = Path(str(files("geopipe"))) / "starter" / "buildings.safetensors"
"""Buildings in images of 0.1 to 0.5 m; see docs/starter-model.md."""


def model_path(model: str | Path) -> Path:
    """The file of `model`; `NAME` is that of the starter model, unless a file has this name."""
    return STARTER if str(model) == NAME and not Path(model).exists() else Path(model)
