"""The header of a chip index: a small JSON file that says what of the folder counts.

It is replaced in one step after what it speaks of is on the disk, so a reader sees either the index
before or after an addition, whatever a writer is doing or was doing when it was killed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from geopipe import __version__
from geopipe.errors import ChipIndexError
from geopipe.files import atomic_file
from geopipe.raster import Scene
from geopipe.raster.remote import remote_allowed
from geopipe.validation import (
    STORED,
    Count,
    Digest,
    Dtype,
    Nodata,
    Schema,
    Side,
    Text,
    parse_json,
    read_bytes,
    shown_value,
)

VectorDtype = Literal["float32", "float16"]
NAME = "index.json"
VECTORS = "vectors.bin"
FORMAT = 2
MOST_WIDTH = 1 << 22
"""Values of a vector: all of a map of 2048 channels are 100,000."""
_REBUILD = "build the index again"
Finite6 = Annotated[tuple[float, ...], Field(min_length=6, max_length=6)]
"""(a, b, c, d, e, f) of pixels."""

_Metres = Annotated[float, Field(gt=0, le=1e9)]


@dataclass(frozen=True, slots=True)
class IndexPart:
    """A file of rows, and the batch of the vectors that belongs to them."""

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    file: Annotated[str, StringConstraints(pattern=r"^chips-[0-9]{5,9}\.parquet$")]
    first: Count
    count: Annotated[int, Field(ge=1, le=2**40)]
    size: Count
    """Bytes of the file."""
    sha256: Digest
    """Of the file."""
    vectors_sha256: Digest


@dataclass(frozen=True, slots=True)
class SceneEntry:
    """A scene that was cut into chips."""

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    path: Text
    stamp: Text
    shape: tuple[Side, Side]
    crs: Annotated[str, Field(max_length=1 << 16)]
    affine: Finite6
    bands: tuple[Annotated[int, Field(ge=1, le=65535)], ...]
    dtype: Dtype
    nodata: Nodata | None
    cut: tuple[_Metres, _Metres, Annotated[float, Field(ge=0, le=1)]]
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

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    plan: Text
    """Digest of all it is to do."""
    first: Count
    """Chips that were in the index before it began."""
    batches: Count
    """Pieces of its work that are in the index."""
    of: Count
    """Pieces there are."""


@dataclass(frozen=True, slots=True)
class SearchFile:
    """An approximate search that was made of an index."""

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    kind: Literal["ivf", "hnsw", "pq"]
    file: Annotated[str, StringConstraints(pattern=r"^[\w-]{1,100}\.faiss$")]
    size: Count
    """Bytes of the file."""
    count: Count
    """Chips that it covers, the first ones."""
    recall: Annotated[float, Field(ge=0, le=1)] = 0.0


def _named(model: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("weights", "weights_sha256"):
        if not isinstance(model.get(key), str):
            raise ValueError(f"'{key}' is to be a text")
    return model


@dataclass(frozen=True, slots=True)
class Header:
    """What `index.json` holds."""

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    model: Annotated[Mapping[str, Any], AfterValidator(_named)]
    """Identity of the model, see `EmbeddingModel.identity`, and where its `weights` were."""
    dtype: VectorDtype
    width: Annotated[int, Field(ge=0, le=MOST_WIDTH)] = 0
    """Length of a vector; 0 while there is none."""
    count: Count = 0
    parts: tuple[IndexPart, ...] = ()
    scenes: tuple[SceneEntry, ...] = ()
    unfinished: Unfinished | None = None
    search: SearchFile | None = None
    """The approximate search that was made of it, see `search`."""

    @classmethod
    def read(cls, folder: Path) -> "Header":
        """The header of the index `folder`; ChipIndexError where there is none that is whole."""
        path = folder / NAME
        if not path.exists():
            reason = "its build had hardly begun" if folder.is_dir() else "there is no such folder"
            raise ChipIndexError(
                f"{folder} is no chip index: {reason}",
                "make one: geopipe index build SOURCE -o INDEX",
            )
        text = read_bytes(path, ChipIndexError)
        version = parse_json(text, _Version, str(path), ChipIndexError, _REBUILD)
        if version.format != FORMAT:
            raise ChipIndexError(
                f"{folder} has format {shown_value(version.format)}, this geopipe reads {FORMAT}",
                f"it was made by {shown_value(version.made_by)}; build it again",
            )
        stored = parse_json(text, _Stored, str(path), ChipIndexError, _REBUILD)
        header = cls(**{f.name: getattr(stored, f.name) for f in fields(cls)})
        if problem := header.inconsistent():
            raise ChipIndexError(f"{path} is damaged: {problem}", _REBUILD)
        return header

    def inconsistent(self) -> str:
        """What contradicts itself, or nothing."""
        first = 0
        for i, part in enumerate(self.parts):
            if part.first != first:
                return f"parts.{i}.first: {part.first}, {first} chips come before it"
            first += part.count
        if first != self.count:
            return f"count: {self.count} chips in parts of {[p.count for p in self.parts[:9]]}"
        if self.count and not self.width:
            return "width: vectors of no values"
        if len({p.file for p in self.parts}) < len(self.parts):
            return "parts: a file is named twice"
        if self.search and self.search.count > self.count:
            return f"search.count: {self.search.count} of {self.count} chips"
        if self.unfinished and self.unfinished.batches > self.unfinished.of:
            return f"unfinished.batches: {self.unfinished.batches} of {self.unfinished.of}"
        return ""

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


class _Version(Schema):
    model_config = ConfigDict(extra="ignore")
    format: Any
    made_by: Any = "another version"


@dataclass(frozen=True, kw_only=True)
class _Stored(Header):
    """`Header` as the file has it."""

    format: Literal[2]
    made_by: Text
