"""Which scenes a command means."""

from collections.abc import Sequence
from pathlib import Path


def scene_paths(inputs: Sequence[str]) -> list[str]:
    """The scenes in `inputs`."""
    return list(inputs)


def scene_names(paths: Sequence[str]) -> dict[str, str]:
    """A folder name for each scene."""
    return {path: Path(path).stem for path in paths}
