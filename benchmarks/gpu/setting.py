"""What all parts of one run share, and how much each size of it takes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
"""Here, since `benchmarks.generated_scenes` loads torch, which the processes of parts do for
themselves."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    scene_px: int
    """Side of the scene that geopipe and the plain loop map."""
    variant_px: int
    """Side of the scene that all ways of mapping are compared on."""
    tile_px: int | None
    """Side of the middle of the sample tiles that is used; None: the whole tiles."""
    seam_cores: tuple[int, ...]
    matmul: int
    """Side of the matrices whose product is the roof of arithmetic."""
    copy_mb: int
    """What is copied to find the roof of memory."""
    steps: dict[str, int]
    """Wanted of the base network and of the refinement."""
    pace: tuple[int, int]
    """Steps of two short trainings, whose difference tells the time of one."""
    reserve_s: float
    """What map and evaluation of the chain take, at most."""
    chain: dict[str, str]
    """Further settings of the chain, where they are not the workflow's own."""


SIZES = {
    "full": Size(
        scene_px=20_000,
        variant_px=8192,
        tile_px=None,
        seam_cores=(256, 512, 1024),
        matmul=8192,
        copy_mb=1024,
        steps={"base": 20_000, "refinement": 1500},
        pace=(20, 120),
        reserve_s=40,
        chain={},
    ),
    "tiny": Size(
        scene_px=640,
        variant_px=512,
        tile_px=400,
        seam_cores=(256,),
        matmul=256,
        copy_mb=4,
        steps={"base": 3, "refinement": 3},
        pace=(1, 2),
        reserve_s=15,
        chain={"train.align": "false", "base.batch": "3", "refinement.batch": "3"},
    ),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One run of one part; JSON carries it to the part's process."""

    device: str
    size: str
    folder: Path
    """Where scenes, models and logs lie."""
    limit_s: float
    torchgeo_python: str
    weights: tuple[str, ...] = ()
    """NET=FILE"""

    @property
    def amount(self) -> Size:
        """How much is done."""
        return SIZES[self.size]

    @property
    def on_gpu(self) -> bool:
        """Whether the device is one."""
        return self.device != "cpu"

    @property
    def chain(self) -> Path:
        """Where the chain (part c) leaves its models."""
        return self.folder / f"forez-{self.size}"

    def left_s(self) -> float:
        """Seconds until this process reaches its limit."""
        begun: float = psutil.Process().create_time()
        return self.limit_s - (time.time() - begun)

    def model(self) -> tuple[Path, str]:
        """The best model at hand, and where it is from: part c comes first for its sake."""
        from benchmarks.generated_scenes import TRAINED, save_model

        for path, source in (
            (self.chain / "refined.safetensors", "part c"),
            (TRAINED, "make forez-map"),
        ):
            if path.is_file():
                return path, source
        return save_model(self.folder / "untrained.safetensors"), "untrained"

    def to_json(self) -> str:
        """For the part's process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Setting:
        """Inverse of `to_json`."""
        values = json.loads(text)
        values["folder"], values["weights"] = Path(values["folder"]), tuple(values["weights"])
        return cls(**values)


@dataclass(slots=True)
class Figures:
    """What a part has found so far, on disk at once: a part that is stopped keeps it."""

    path: Path
    found: dict[str, Any] = field(default_factory=dict)

    def put(self, **values: Any) -> None:
        """Add figures by name."""
        self.found |= values
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=1, default=str))
        part.replace(self.path)


class SkippedError(Exception):
    """A part that cannot run here; the message says what it lacks."""
