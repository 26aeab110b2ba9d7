"""France at 0.5 m on 1, 16 and 256 GPUs: what it would take, from measured and assumed figures.

    python -m benchmarks.france [--write]

prints the tables of ``docs/scale.md``, or writes them there. What the scheduler takes comes from
``docs/results/bench/scheduler.json``. No GPU was measured: its rate is a share of its peak.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.local_cluster import ROOT

PAGE = ROOT / "docs/scale.md"
SCHEDULER = ROOT / "docs/results/bench/scheduler.json"

PIXELS = 550_000e6 / 0.5**2
NET_PIXELS = PIXELS / 4
"""The nets work at 1 m."""
HALO_PX = 80
"""Scene pixels read beyond a core on each side."""
BLOCK_PX = 512
"""Side of a block in the scenes' files."""

FLOP = 76e9 / 1e6
"""Of a net pixel: base network 35 G, folded refinement 41 G a megapixel."""
CPU_PX_S = 6.3e6 / 2
"""Measured, of a core: `geopipe map` on 10,000 x 10,000 px, float32, two cores."""
DECODE_PX_S = {"deflate": 130e6, "zstd": 360e6}
"""Measured, of a thread."""
BYTES = 3 / 1.57
"""Of a pixel in a file: three bands, deflate, imagery as noisy as the bench's."""
FINISH_PX_S = 20_000**2 / 4.0
"""Measured: the class map's COG with overviews, one process."""

PEAK = {"float32": 19.5e12, "bfloat16": 312e12}
"""FLOP/s of an A100 80 GB, NVIDIA's data sheet (tensor cores without sparsity)."""
SHARE = 0.3
"""Assumed share of the peak."""
THREADS = 8
"""Assumed threads that decode for a GPU."""
DISK_BYTES_S = 10e9
"""Assumed of the shared disk, all readers together."""
PRICE = (1.0, 4.0)
"""Assumed price of such a GPU with its share of a machine, USD an hour."""
CORE_PRICE = (0.02, 0.05)
"""Assumed price of a CPU core with its memory, USD an hour."""

COUNTS = (1, 16, 256)
STAGES = ("compute", "decode", "read", "schedule")


@dataclass(frozen=True, slots=True)
class Core:
    """Tiles with cores of `px` a side."""

    px: int

    @property
    def tiles(self) -> float:
        """In all of France."""
        return PIXELS / self.px**2

    @property
    def computed(self) -> float:
        """Pixels that go through the nets for each of the map: the halo's too."""
        return (1 + 2 * HALO_PX / self.px) ** 2

    @property
    def decoded(self) -> float:
        """Pixels decoded for each of the map, when tiles share no block (the worst case)."""
        blocks = -(-self.px // BLOCK_PX) + 2 * -(-HALO_PX // BLOCK_PX)
        return (blocks * BLOCK_PX / self.px) ** 2


def gpu_px_s(precision: str, core: Core) -> float:
    """Pixels of the map a second that one GPU computes, under the assumption."""
    return SHARE * PEAK[precision] / FLOP * 4 / core.computed


def schedule_s(report: dict[str, Any]) -> dict[str, float]:
    """Seconds a tile takes of the client or the scheduler, whichever takes longer."""
    timings = report["run_tiles"]["cpu_us_per_tile"], report["prototype"]["cpu_us_per_tile"]
    area = report["areas"]["cpu_us_per_tile"]
    as_it_is, batched = (max(r["client"] + area, r["scheduler"]) / 1e6 for r in timings)
    return {"as it is": as_it_is, "in batches": batched}


def hours(gpus: int, precision: str, core: Core, tile_s: float) -> dict[str, float]:
    """Hours of each of STAGES, which run at the same time: mapping takes the longest."""
    return {
        "compute": PIXELS / gpu_px_s(precision, core) / gpus / 3600,
        "decode": PIXELS * core.decoded / DECODE_PX_S["deflate"] / (gpus * THREADS) / 3600,
        "read": PIXELS * core.decoded * BYTES / DISK_BYTES_S / 3600,
        "schedule": core.tiles * tile_s / 3600,
    }


def one_gpu(cores: Sequence[Core]) -> Iterator[str]:
    """What one GPU needs so that it never waits."""
    yield "| one GPU | Mpx/s | threads, deflate | threads, zstd | GB/s read | tiles/s |"
    yield "|---|---:|---:|---:|---:|---:|"
    for core in cores:
        for precision in PEAK:
            rate = gpu_px_s(precision, core)
            threads = (rate * core.decoded / DECODE_PX_S[kind] for kind in DECODE_PX_S)
            row = [
                f"{core.px} px, {precision}",
                f"{rate / 1e6:,.0f}",
                *(f"{t:,.1f}" for t in threads),
                f"{rate * core.decoded * BYTES / 1e9:.2f}",
                f"{rate / core.px**2:,.0f}",
            ]
            yield f"| {' | '.join(row)} |"


def france(cores: Sequence[Core], tile_s: float) -> Iterator[str]:
    """Hours of mapping by stage, the longest of them, and the price of the GPUs."""
    yield f"| GPUs | {' | '.join(STAGES)} | longest | USD |"
    yield "|---|" + "---:|" * len(STAGES) + "---|---:|"
    for core in cores:
        for precision in PEAK:
            for gpus in COUNTS:
                took = hours(gpus, precision, core, tile_s)
                longest = max(took, key=lambda stage: took[stage])
                low, high = (gpus * took[longest] * p for p in PRICE)
                row = [
                    f"{gpus}, {core.px} px, {precision}",
                    *(f"{took[s]:.2f}" for s in STAGES),
                    longest,
                    f"{low:,.0f}-{high:,.0f}",
                ]
                yield f"| {' | '.join(row)} |"


def finishing() -> str:
    """What comes after mapping, and what GPUs that wait for it cost."""
    total = PIXELS / FINISH_PX_S / 3600
    low, high = (COUNTS[-1] * total * p for p in PRICE)
    return (
        f"Then one client writes the finished rasters: {total:.1f} hours at "
        f"{FINISH_PX_S / 1e6:.0f} Mpx/s, however many GPUs there are. {COUNTS[-1]} GPUs that "
        f"wait for it cost {low:,.0f}-{high:,.0f} USD."
    )


def without_gpu() -> str:
    """The measured rate of a core, carried to all of France."""
    total = PIXELS / CPU_PX_S / 3600
    low, high = (total * p for p in CORE_PRICE)
    return (
        f"Without a GPU: {PIXELS:.2g} px at {CPU_PX_S / 1e6:.1f} Mpx/s a core are {total:.0f} "
        f"core-hours, {total / 64:.1f} hours on 64 cores if they scale as two did; "
        f"{low:.0f}-{high:.0f} USD."
    )


def tables(report: dict[str, Any]) -> str:
    """All tables, as Markdown."""
    seconds, cores = schedule_s(report), (Core(1024), Core(4096))
    limits = ", ".join(f"{name} {1 / s:,.0f}" for name, s in seconds.items())
    counts = ", ".join(f"{core.tiles:,.0f} with tiles of {core.px} px" for core in cores)
    lines = [
        *(without_gpu(), "", *one_gpu(cores), ""),
        f"Tiles a second that client and scheduler can manage: {limits}. Tiles: {counts}. Hours:",
        *("", *france(cores, seconds["as it is"]), "", finishing(), ""),
    ]
    return "\n".join(lines)


def inserted(page: str, text: str) -> str:
    """`page` with `text` between its two marks."""
    new, count = re.subn(
        r"(<!-- france -->\n).*?(<!-- /france -->)",
        lambda match: f"{match[1]}{text}{match[2]}",
        page,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{count} places for the tables, not one")
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description="what France at 0.5 m would take")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    args = parser.parse_args(argv)
    text = tables(json.loads(SCHEDULER.read_text()))
    if args.write:
        PAGE.write_text(inserted(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
