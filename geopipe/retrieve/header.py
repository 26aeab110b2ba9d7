"""The header of a chip index: a small JSON file that says what of the folder counts.

It is replaced in one step after what it speaks of is on the disk, so a reader sees either the index
before or after an addition, whatever a writer is doing or was doing when it was killed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from geopipe import __version__
from geopipe.errors import ChipIndexError
from geopipe.files import atomic_file
from geopipe.raster import Scene
from geopipe.raster.remote import remote_allowed
from geopipe.regularfile import require_regular

NAME = "index.json"
VECTORS = "vectors.bin"
FORMAT = 2


@dataclass(frozen=True, slots=True)
class IndexPart:
    """A file of rows, and the batch of the vectors that belongs to them."""

    file: str
    first: int
    count: int
    size: int
    """Bytes of the file."""
    sha256: str
    """Of the file."""
    vectors_sha256: str


@dataclass(frozen=True, slots=True)
class SceneEntry:
    """A scene that was cut into chips."""

    path: str
    stamp: str
    shape: tuple[int, int]
    crs: str
    affine: tuple[float, ...]
    bands: tuple[int, ...]
    dtype: str
    nodata: float | None
    cut: tuple[float, float, float]
    """Metres a side of a chip, metres between chips, least share of valid pixels."""
    whole: bool = False
    """All of its chips are in."""

    @property
    def scene(self) -> Scene:
        """The scene, as it was described when it was cut."""
        geobox = GeoBox(self.shape, Affine(*self.affine), self.crs)
        return Scene(self.path, geobox, self.bands, self.dtype, self.nodata, remote_allowed())


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A build that has not ended: which one, how far it is in."""

    plan: str
    """Digest of all it is to do."""
    first: int
    """Chips that were in the index before it began."""
    batches: int
    """Pieces of its work that are in the index."""
    of: int
    """Pieces there are."""


@dataclass(frozen=True, slots=True)
class Header:
    """What `index.json` holds."""

    model: Mapping[str, Any]
    """Identity of the model, see `Model.identity`, and where its `weights` were."""
    dtype: str
    """float32 or float16"""
    width: int = 0
    """Length of a vector; 0 while there is none."""
    count: int = 0
    parts: tuple[IndexPart, ...] = ()
    scenes: tuple[SceneEntry, ...] = ()
    unfinished: Unfinished | None = None
    search: Mapping[str, Any] | None = None
    """The approximate search that was made of it, see `search`."""

    @classmethod
    def read(cls, folder: Path) -> "Header":
        """The header of the index `folder`; ChipIndexError where there is none that is whole."""
        path = folder / NAME
        require_regular(path, ChipIndexError)
        if not path.is_file():
            reason = "its build had hardly begun" if folder.is_dir() else "there is no such folder"
            raise ChipIndexError(
                f"{folder} is no chip index: {reason}",
                "make one: geopipe index build SOURCE -o INDEX",
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                raise ChipIndexError(
                    f"{folder} has format {values['format']}, this geopipe reads {FORMAT}",
                    f"it was made by {values.get('made_by', 'another version')}; build it again",
                )
            return cls._of(values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise ChipIndexError(
                f"{path} is damaged: {type(e).__name__}: {e}", "build the index again"
            ) from e

    @classmethod
    def _of(cls, values: dict[str, Any]) -> "Header":
        listed: list[dict[str, Any]] = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in s.items()}
            for s in values["scenes"]
        ]
        scenes = tuple(SceneEntry(**s) for s in listed)
        unfinished = Unfinished(**values["unfinished"]) if values["unfinished"] else None
        count, width = int(values["count"]), int(values["width"])
        parts = tuple(IndexPart(**p) for p in values["parts"])
        if sum(p.count for p in parts) != count or values["dtype"] not in ("float32", "float16"):
            raise ValueError(f"{count} chips in parts of {[p.count for p in parts]}")
        search = values["search"]
        if search and not re.fullmatch(r"[\w-]+\.faiss", str(search["file"])):
            raise ValueError(f"search file {search['file']!r}")
        return cls(
            dict(values["model"]),
            values["dtype"],
            width,
            count,
            parts,
            scenes,
            unfinished,
            search,
        )

    def write(self, folder: Path) -> None:
        """Replace the header of `folder`; raises OutputError."""
        values = {"format": FORMAT, "made_by": f"geopipe {__version__}", **asdict(self)}
        with atomic_file(folder / NAME) as part:
            part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @property
    def incomplete(self) -> str | None:
        """What a reader should know of a build that has not ended."""
        if self.unfinished is None:
            return None
        return (
            f"the index is not whole: {self.unfinished.batches} of {self.unfinished.of} batches of "
            "its last build are in; if nothing builds it now, run that command again"
        )

    def patch(self, **changes: Any) -> "Header":
        """The same with other values."""
        return replace(self, **changes)
