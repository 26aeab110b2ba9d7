"""Part b: megapixels per second, held against the device's roofs and against other loops."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.agreement import equal_pixels
from benchmarks.generated_scenes import make_scene
from benchmarks.gpu.idle import watched
from benchmarks.gpu.roofs import Roofs, measure_roofs, seconds_of, work_of
from benchmarks.gpu.setting import Figures, Setting
from benchmarks.memory_monitor import RunError, run_monitored
from benchmarks.peers.job import Job
from benchmarks.peers.loops import plain
from benchmarks.runners import Setting as PeerSetting
from benchmarks.runners import command, environment, why_not
from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.checkpoint import image as image_module
from geopipe.errors import ConfigError
from geopipe.grid import NetworkGrid, Tile, Tiling
from geopipe.mapping import Engine, Workers, map_scene
from geopipe.mapping.tile import Precision, TileJob, autocast
from geopipe.raster import Scene

CORE = 1024
NO_GPU = "the device is a CPU"


@dataclass(frozen=True, slots=True)
class Way:
    """A way of mapping with geopipe."""

    name: str
    precision: Precision = "float32"
    tiles_at_once: int | None = None
    """None: geopipe's own choice."""
    pinned: bool = True
    gpu_only: bool = False


USUAL = Way("geopipe map")
WAYS = (
    USUAL,
    Way("geopipe, one tile at a time", tiles_at_once=1),
    Way("geopipe, 8 tiles at a time", tiles_at_once=8, gpu_only=True),
    Way("geopipe, memory not pinned", pinned=False, gpu_only=True),
    Way("geopipe, TF32", "tf32", gpu_only=True),
    Way("geopipe, bfloat16", "bfloat16", gpu_only=True),
)
"""With one tile at a time nothing is read while another tile is computed: no double buffering."""


def measure(setting: Setting, figures: Figures) -> None:
    """Roofs; then all ways on one scene; then geopipe and the plain loop on the large one."""
    size = setting.amount
    precisions: tuple[Precision, ...] = ("float32",)
    if setting.on_gpu:
        precisions += ("tf32", "bfloat16")
    roofs = measure_roofs(setting.device, precisions, size.matmul, size.copy_mb)
    model, source = setting.model()
    figures.put(model=source, roofs=roofs.to_dict(), work={}, runs=[], left_out={})
    speed = Speed(setting, figures, model.resolve(), roofs)
    small = make_scene(setting.folder, size.variant_px)
    speed.nets_alone(small)
    for way in WAYS:
        if way.gpu_only and not setting.on_gpu:
            speed.leave_out(way.name, NO_GPU)
        else:
            speed.geopipe(way, small)
    speed.plain_loop(small)
    speed.torchgeo(small)
    large = make_scene(setting.folder, size.scene_px)
    speed.geopipe(USUAL, large)
    speed.plain_loop(large)


@dataclass(slots=True)
class Speed:
    """Runs, each written down as soon as it is known."""

    setting: Setting
    figures: Figures
    model: Path
    roofs: Roofs
    least: dict[Precision, float] = field(default_factory=dict)
    """Seconds that a scene pixel takes at least."""
    maps: dict[Path, Path] = field(default_factory=dict)
    """Scene -> geopipe's usual map of it."""

    def nets_alone(self, path: Path) -> None:
        """Forward passes over a tensor that is there, as many as the scene has tiles."""
        scene, device = Scene.open(str(path)), self.setting.device
        tile, count = _center_tile(scene)
        model = Checkpoint.load(self.model)
        grid = NetworkGrid.of(scene.geobox, model.gsd)
        core = grid.snap(grid.interpolated_from(tile.core), model.net.stride)
        window = core.expand(model.net.halo)
        image = torch.randn(1, model.bands, *window.shape, device=device)
        net = model.net.to(device)

        def forward() -> None:
            with torch.inference_mode(), autocast(device, "float32"):
                net(image)

        seconds = count * seconds_of(forward, device)
        least_seconds = count * self.roofs.seconds(work_of(forward), "float32")
        self._add("nets alone", scene, "float32", seconds, least_seconds)

    def geopipe(self, way: Way, path: Path) -> None:
        """geopipe's tiles, without overviews and report."""
        scene, device = Scene.open(str(path)), self.setting.device
        least_seconds = self._least_s(scene, way.precision)
        folder = self.setting.folder / f"map-{path.stem}-{WAYS.index(way)}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        engine = Engine(device, Workers(threads=way.tiles_at_once), precision=way.precision)
        try:
            with _memory(way), watched(device) as idle:
                files = map_scene(scene, ModelFile.open(self.model), folder, engine)
        except ConfigError as e:  # too few pixels keep their class
            self.leave_out(way.name, e.message)
            return
        classes = files.classes[-1]
        extra = {"idle_share": idle.share, "idle_by": idle.by}
        if way is USUAL:
            self.maps[path] = classes
        else:
            extra["equal"] = equal_pixels(classes, self.maps[path])
            shutil.rmtree(folder)
        self._add(way.name, scene, way.precision, files.seconds, least_seconds, **extra)

    def plain_loop(self, path: Path) -> None:
        """A rasterio loop over the same nets."""
        out, device = self.setting.folder / "plain.tif", self.setting.device
        with watched(device) as idle:
            done = plain(Job(path, self.model, out, device=device))
        self._peer("rasterio loop", path, out, done.seconds, idle_share=idle.share, idle_by=idle.by)

    def torchgeo(self, path: Path) -> None:
        """torchgeo's sampler over the same nets, where it is installed."""
        python = Path(self.setting.torchgeo_python)
        setting, size = PeerSetting(self.model, self.setting.folder, python), _side(path)
        missing = str(python) == sys.executable and find_spec("torchgeo") is None
        reason = "torchgeo is not installed" if missing else why_not("torchgeo", setting)
        if reason is None:
            line = [*command("torchgeo", path, size, setting), "--device", self.setting.device]
            try:
                done = run_monitored(line, environment("torchgeo"))
            except RunError as e:
                reason = str(e)
            else:
                seconds = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
                out = setting.map_path("torchgeo", size)
                assert out is not None
                self._peer("torchgeo sampler", path, out, seconds)
        if reason is not None:
            self.leave_out("torchgeo sampler", reason)

    def leave_out(self, name: str, reason: str) -> None:
        """With a word, so that nobody takes it for measured."""
        self.figures.put(left_out={**self.figures.result["left_out"], name: reason})

    def _peer(self, name: str, path: Path, out: Path, seconds: float, **extra: Any) -> None:
        scene = Scene.open(str(path))
        extra["equal"] = equal_pixels(out, self.maps[path])
        self._add(name, scene, "float32", seconds, self._least_s(scene, "float32"), **extra)

    def _add(
        self,
        name: str,
        scene: Scene,
        precision: Precision,
        seconds: float,
        least_s: float,
        **extra: Any,
    ) -> None:
        run = {
            "name": name,
            "px": scene.shape[0],
            "precision": precision,
            "seconds": round(seconds, 3),
            "share_of_roof": round(least_s / seconds, 4),
            "mpx_per_s": round(scene.shape[0] * scene.shape[1] / 1e6 / seconds, 2),
            **extra,
        }
        self.figures.put(runs=[*self.figures.result["runs"], run])
        print(run, flush=True)

    def _least_s(self, scene: Scene, precision: Precision) -> float:
        """What a map of `scene` computes takes at least, reading and writing aside."""
        if precision not in self.least:
            job, (tile, _) = self._job(scene, precision), _center_tile(scene)
            job.compute(tile)  # loads the model, which `map_scene` then has
            work, pixels = work_of(lambda: job.compute(tile)), tile.core.height * tile.core.width
            self.least[precision] = self.roofs.seconds(work, precision) / pixels
            seconds_by_limit = {
                "gflop_per_mpx": round(work.flop / 1e3 / pixels, 3),
                "gb_per_mpx": round(work.bytes / 1e3 / pixels, 3),
            }
            self.figures.put(work={**self.figures.result["work"], precision: seconds_by_limit})
        return self.least[precision] * scene.shape[0] * scene.shape[1]

    def _job(self, scene: Scene, precision: Precision) -> TileJob:
        """How `map_scene` computes a tile."""
        model = ModelFile.open(self.model)
        return TileJob(
            scene,
            model,
            self.setting.device,
            (model.checkpoint.net.iterations,),
            with_scores=False,
            precision=precision,
        )


def _center_tile(scene: Scene) -> tuple[Tile, int]:
    """The tile in the middle, and how many there are."""
    tiling = Tiling(scene.shape, CORE)
    rows, cols = tiling.grid
    return tiling[rows // 2 * cols + cols // 2], len(tiling)


def _side(path: Path) -> int:
    return Scene.open(str(path)).shape[0]


def _memory(way: Way) -> AbstractContextManager[Any]:
    """Copies to the device as the way has them."""
    if way.pinned:
        return nullcontext()
    return patch.object(image_module, "on_device", lambda x, device: x.to(device))
