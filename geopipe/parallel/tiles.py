"""What every executor does with a tile."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from geopipe.errors import GeopipeError, JobError

R = TypeVar("R")


class Indexed(Protocol):
    """A piece of work: a tile of a scene, or some chips; ``str`` names it in errors."""

    @property
    def index(self) -> int:
        """Its number, in the order of the work."""
        ...


T = TypeVar("T", bound=Indexed)


def begin_thread() -> None:
    """Prepare a thread, or a process, for tiles: each is computed by one torch thread."""
    torch.set_num_threads(1)
    if torch.cuda.is_available():  # copies of one tile run beside the nets of another
        torch.cuda.set_stream(torch.cuda.Stream())


def with_tile_name(job: Callable[[T], R], tile: T) -> R:
    """job(tile), with what fails named by its tile."""
    try:
        return job(tile)
    except (GeopipeError, KeyboardInterrupt):
        raise
    except (MemoryError, torch.OutOfMemoryError) as e:
        raise JobError(f"tile {tile}: out of memory", "use smaller tiles or less memory") from e
    except Exception as e:
        raise JobError(f"tile {tile}: {type(e).__name__}: {e}") from e
