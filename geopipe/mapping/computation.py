"""How the tiles of a map were computed: what its bytes depend on beside scene and model."""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field

from geopipe.mapping.tile import Precision, TileJob
from geopipe.nets import Kernels

Form = Literal["convolution", "matmul"]


class Computation(BaseModel):
    """Kept with a map, so that `geopipe verify` computes its tiles in the same way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tile_px: int = Field(ge=256, multiple_of=256)
    """Pixels a side of a tile's core."""
    device: Literal["cpu", "cuda"]
    precision: Precision
    flips: Literal[1, 2, 4] = 1
    base_kernels: Form
    refinement_kernels: Form
    torch: str
    """Version that computed the tiles, or handed them out to a cluster."""
    instructions: str
    """Of the processor, as torch names them, such as AVX512."""
    min_area_m2: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = ()
    """Least area of each class; empty where all areas stay."""

    @classmethod
    def of(cls, job: TileJob, tile_px: int) -> Self:
        """That of `job`, on this machine."""
        return cls(
            tile_px=tile_px,
            device="cpu" if job.device == "cpu" else "cuda",
            precision=job.precision,
            flips=job.flips,
            base_kernels=job.kernels.base,
            refinement_kernels=job.kernels.refinement,
            torch=torch.__version__,
            instructions=torch.backends.cpu.get_cpu_capability(),
        )

    @property
    def kernels(self) -> Kernels:
        """As a network takes them."""
        return Kernels(self.base_kernels, self.refinement_kernels)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return self.model_dump(mode="json")
