"""Every error a user can cause, in one flat file.

A message carries the numbers and the way out; ``hint`` is a second sentence for the command line.
"""


class GeopipeError(Exception):
    """Base of all errors that geopipe raises on purpose (exit code 1 on the command line)."""

    def __init__(self, message: str, hint: str = "") -> None:
        message = " ".join(message.splitlines())  # what a library says may have several
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[type["GeopipeError"], tuple[str, str]]:
        # Exceptions cross process borders in dask; the default reduce would lose the hint.
        return type(self), (self.message, self.hint)


class SceneError(GeopipeError, OSError):
    """A raster cannot be opened, read or written, or lacks what a scene needs."""


class UnsafeFileError(SceneError):
    """A raster is no regular file, or refers to what a file may not refer to."""


class GridError(GeopipeError, ValueError):
    """A pixel plane, window or tiling is impossible or does not match another one."""


class LabelError(GeopipeError):
    """Vectors or label rasters are missing, unreadable, or do not fit the scene."""


class CheckpointError(GeopipeError):
    """A model file is not a geopipe Checkpoint or does not fit the data."""


class ConfigError(GeopipeError, ValueError):
    """A TOML file or an option has an unknown key or an impossible value."""


class OutputError(GeopipeError):
    """A file or folder exists already, or cannot be written where it should be."""


class ServiceError(GeopipeError):
    """A service on the web does not answer, refuses, or answers what is of no use."""


class JobError(GeopipeError):
    """A tile failed while a scene was processed."""


class ChipIndexError(GeopipeError):
    """A chip index is missing, damaged, half built, or was made with another model."""
