"""How much of the time of a map by patches is the backbone's own.

    python -m benchmarks.patches [--size 3584] [--repeats 3]

writes ``docs/results/bench/patches.{json,md}``. In each round `map_scene` maps a scene of noise and
the bare backbone takes as many patches, resized already, with the same threads; the ratio of the
two is within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine

from benchmarks.machine import describe_machine, load
from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.classes import load_scheme
from geopipe.learn.patches import patch_net
from geopipe.learn.patches.model import PatchModelSpec
from geopipe.mapping import Engine, Workers, map_scene
from geopipe.nets.patches import BATCH
from geopipe.raster import Scene

CL = torch.channels_last
RESULTS = Path("docs/results/bench/patches")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="patches per second")
    parser.add_argument("--size", type=int, default=3584, help="pixels a side: four tiles")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    design = PatchModelSpec(gsd=4, segments=False)
    model = design.model(load_scheme("land-cover"))
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        path, scene = Path(folder) / "land.model", _noise(Path(folder) / "scene.tif", args.size)
        model.save(path)
        patches = (args.size // design.cell) ** 2 * len(design.sizes)
        for number in range(args.repeats):
            out = Path(folder) / f"map-{number}"
            out.mkdir()
            engine = Engine("cpu", Workers(threads=args.threads))
            first = _bare(model, patches // 2, args.threads)  # half before, half after: drift
            mapped = map_scene(scene, ModelFile.open(path), out, engine).seconds
            bare_seconds = first + _bare(model, patches // 2, args.threads)
            rounds.append({"map": patches / mapped, "bare": patches / bare_seconds})
            print(f"round {number + 1}: {rounds[-1]}", flush=True)
    write(rounds, {**vars(args), "machine": describe_machine(), "load": load()})


def _noise(path: Path, size: int) -> Scene:
    pixels = np.random.default_rng(0).integers(0, 255, (3, size, size), dtype=np.uint8)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=size,
        height=size,
        count=3,
        dtype="uint8",
        tiled=True,
        crs="EPSG:32631",
        transform=Affine(4, 0, 500_000, 0, -4, 4_700_000),
        compress="deflate",
    ) as out:
        out.write(pixels)
    return Scene.open(path)


def _bare(model: Checkpoint, patches: int, threads: int) -> float:
    """Seconds that the backbone alone takes for as many patches."""
    net = patch_net(model)
    images = torch.randn(BATCH, 3, net.side, net.side).contiguous(memory_format=CL)

    def share(_: int) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(patches // (BATCH * threads)):
                net.head(net.backbone(images))

    before = torch.get_num_threads()
    start = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(share, range(threads)))
    torch.set_num_threads(before)
    done = patches // (BATCH * threads) * BATCH * threads
    return (time.monotonic() - start) * patches / done


def write(rounds: list[dict[str, float]], facts: dict[str, object]) -> None:
    """The figures as JSON and Markdown."""
    shares = [r["map"] / r["bare"] for r in rounds]
    report = {**facts, "rounds": rounds, "share": statistics.median(shares)}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.with_suffix(".json").write_text(json.dumps(report, indent=1, default=str) + "\n")
    lines = [
        "# Maps by patches",
        "",
        f"`python -m benchmarks.patches --size {facts['size']} --repeats {facts['repeats']}`; "
        f"{facts['threads']} threads. EfficientNet-Lite0, patches of 56, 112 and 224 px at 128 px, "
        "without segments, float32.",
        "",
        "| round | map, patches/s | backbone alone | share |",
        "|---|---:|---:|---:|",
        *(
            f"| {i} | {r['map']:.1f} | {r['bare']:.1f} | {100 * s:.0f} % |"
            for i, (r, s) in enumerate(zip(rounds, shares, strict=True), 1)
        ),
        "",
        f"Median share: {100 * statistics.median(shares):.0f} % of the bare backbone's rate.",
        "",
    ]
    RESULTS.with_suffix(".md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
