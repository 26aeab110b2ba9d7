"""What the header of a model file may say."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    model_validator,
)

from geopipe.checkpoint.domain import DomainHeader
from geopipe.classes import ClassScheme
from geopipe.errors import ConfigError
from geopipe.nets.backbones import backbone
from geopipe.networks import NetworkWithoutSizes
from geopipe.validation import STORED, Digest, Dtype, Nodata, Schema, Text

FORMAT = 2
LABEL_AREAS = "label_area_q01_m2"
"""Where the provenance keeps the 1 % quantile of the labels' areas, square metres by class name."""
MIN_GSD, MAX_GSD = 1e-3, 1e4
"""Metres: from what a microscope sees to less than a satellite does."""
_MOST_BANDS = 1024
_MOST_VALUE = 1e15
"""Of a mean or a deviation: float32 still holds its square."""
_PX = Field(ge=1, le=4096)


class _WithoutSizes(Schema):
    net: NetworkWithoutSizes = "cnn"


class _UNet(Schema):
    net: Literal["unet"]
    base: int = Field(default=16, ge=1, le=1024)
    depth: int = Field(default=3, ge=1, le=10)


class _LiteUNet(Schema):
    net: Literal["lite-unet"]
    cores: bool = False


def _known(name: str) -> str:
    try:
        backbone(name)
    except ConfigError as e:
        raise ValueError(f"{e.message}; {e.hint}") from e
    return name


class _Patches(Schema):
    net: Literal["patches"]
    backbone: Annotated[str, AfterValidator(_known)]
    sizes: Annotated[tuple[Annotated[int, _PX], ...], Field(min_length=1, max_length=16)]
    cell: Annotated[int, _PX]
    side: int = Field(ge=32, le=4096)
    weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None


class _Chips(Schema):
    net: Literal["scenes"]
    model: Annotated[str, StringConstraints(max_length=200)]
    chip: Annotated[int, _PX]
    step: Annotated[int, _PX]
    side: int = Field(ge=64, le=2048)
    hidden: int = Field(default=0, ge=0, le=65536)
    flat: bool = False


class _Refinement(Schema):
    iterations: int = Field(default=5, ge=1, le=50)
    class_agnostic: bool = False
    recurrent: bool = True


class _SegmentSettings(Schema):
    scales: Annotated[tuple[Annotated[int, _PX], ...], Field(min_length=1, max_length=8)]
    receptive_radius: int = Field(ge=1, le=8192)


class _Segments(Schema):
    segments: _SegmentSettings


Postprocessor = Annotated[
    Annotated[_Segments, Tag("segments")] | Annotated[_Refinement, Tag("refinement")],
    Discriminator(
        lambda v: "segments" if isinstance(v, dict) and "segments" in v else "refinement"
    ),
]
Architecture = Annotated[
    _WithoutSizes | _UNet | _LiteUNet | _Patches | _Chips, Field(discriminator="net")
]
_Deviation = Annotated[float, Field(gt=0, le=_MOST_VALUE)]
_Mean = Annotated[float, Field(ge=-_MOST_VALUE, le=_MOST_VALUE)]


class Provenance(Schema):
    """Of how a model was made, what is read again; everything else is only shown."""

    model_config = ConfigDict(**{**STORED, "extra": "allow"})
    __pydantic_extra__: dict[str, JsonValue]
    credit: str = ""
    gsd_known: bool = True
    label_area_q01_m2: dict[str, Annotated[float, Field(ge=0, le=1e12)]] = Field(default={})
    source: str | None = None
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.2
    hold_out_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    bands: list[Annotated[int, Field(ge=1, le=65535)]] | None = None
    nodata: Nodata | None = None
    transferred_from: Digest | None = None


class ModelHeader(Schema):
    """What the metadata entry ``geopipe`` of a model's safetensors file holds."""

    format: Literal[2]
    geopipe: Text
    bands: int = Field(ge=1, le=_MOST_BANDS)
    architecture: Architecture = _WithoutSizes()
    postprocessor: Postprocessor | None
    scheme: ClassScheme
    mean: tuple[_Mean, ...]
    std: tuple[_Deviation, ...]
    dtype: Dtype
    gsd: float = Field(ge=MIN_GSD, le=MAX_GSD)
    halo: int = Field(ge=0, le=2**20)
    stride: int = Field(ge=1, le=2**20)
    provenance: Provenance
    domain: DomainHeader | None = None
    temperature: float = Field(default=1.0, ge=1e-3, le=1e3)

    @model_validator(mode="after")
    def _consistent(self) -> "ModelHeader":
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.bands:
                raise ValueError(f"{name}: {len(values)} values for {self.bands} bands")
        return self


class FormatOnly(Schema):
    """Which format it is, of a header that this version may not know."""

    model_config = ConfigDict(extra="ignore")
    format: Any = None
    geopipe: Any = None
