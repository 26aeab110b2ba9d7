"""What scheduling a million tiles takes: tiles a second, memory, the journal, the mosaic.

    python -m benchmarks.scheduler [--tiles 100000] [--batched-tiles 1000000]

writes ``docs/results/bench/scheduler.json``. The dask scheduler and the workers are real processes
on this machine, `run_tiles` and `Journal` are geopipe's own; only the job does nothing. A process
holds many workers of one thread each, so that the scheduler has as many connections as with as many
GPUs.

Seconds depend on who else uses the machine. The CPU time of a tile does less, and tells which
process is full first: client and scheduler have one thread that matters, so neither can do more
than 1 / (CPU time of a tile).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.local_cluster import ROOT, WORKER_PROCESSES, Cluster, cluster
from benchmarks.machine import describe_machine, load, steal
from benchmarks.overhead import (
    CORE,
    INPUTS,
    SIDE,
    Idle,
    Several,
    areas,
    first,
    mosaic,
    resume,
    tiling,
)
from geopipe.grid import Tile
from geopipe.mapping.journal import NAME, Journal
from geopipe.parallel import Workers, run_tiles
from geopipe.parallel.cluster import PREFETCH, _portable

OUT = ROOT / "docs/results/bench/scheduler.json"
FEW, SOME, MANY = 1, 8, 128
"""Workers in each of the worker processes; the long runs have SOME."""
GROUP = 8
"""Tiles in a task, where there are several."""
PARTS = (
    "mosaics",
    "areas",
    "journal",
    "few_workers",
    "many_workers",
    "run_tiles",
    "prototype",
)
MARKS = (1000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)

Done = list[tuple[Tile, Any]]
Way = Callable[[Idle, Iterable[Tile], str], Iterable[Done]]
"""Runs a job over tiles on the cluster at an address; gives results as they come."""


def one_by_one(job: Idle, tiles: Iterable[Tile], address: str) -> Iterator[Done]:
    """`run_tiles` as it is."""
    for pair in run_tiles(job, tiles, Workers(scheduler=address)):
        yield [pair]


def group_of_tiles(job: Idle, tiles: Iterable[Tile], address: str) -> Iterator[Done]:
    """`run_tiles` as it is, with GROUP tiles in a task."""
    groups: Any = in_groups(tiles, GROUP)
    task: Any = Several(job)
    for group, done in run_tiles(task, groups, Workers(scheduler=address)):
        yield list(zip(group, done, strict=True))


def gathered(job: Idle, tiles: Iterable[Tile], address: str, *, count: int = 1) -> Iterator[Done]:
    """A prototype: of all tasks that are ready, results come and successors go in one message.

    `run_tiles` asks the scheduler for each result and sends each task on its own.
    """
    from distributed import Client, as_completed

    remaining = in_groups(tiles, count)
    running: dict[str, tuple[Tile, ...]] = {}
    with Client(address, set_as_default=False) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()

        def send(number: int) -> list[Any]:
            groups = list(islice(remaining, number))
            futures = client.map(partial(_portable, job), groups, pure=False) if groups else []
            running.update((f.key, group) for f, group in zip(futures, groups, strict=True))
            return list(futures)

        size = PREFETCH * sum(w["nthreads"] for w in workers)
        queue = as_completed(send(size), loop=client.loop, with_results=True)
        for ready in queue.batches():
            for future, done in ready:
                yield list(zip(running.pop(future.key), done, strict=True))
            queue.update(send(len(ready)))


def in_groups(tiles: Iterable[Tile], count: int) -> Iterator[tuple[Tile, ...]]:
    """`count` at a time, fewer at the end."""
    remaining = iter(tiles)
    return iter(lambda: tuple(islice(remaining, count)), ())


WAYS: dict[str, tuple[Way, int]] = {
    "run_tiles": (one_by_one, 1),
    f"run_tiles, {GROUP} tiles a task": (group_of_tiles, GROUP),
    "gathered": (gathered, 1),
    f"gathered, {GROUP} tiles a task": (partial(gathered, count=GROUP), GROUP),
}
"""Name -> how, and tiles in a task."""
FASTEST = f"gathered, {GROUP} tiles a task"


def timed(way: Way, tiles: int, run: Cluster, folder: Path) -> dict[str, Any]:
    """`tiles` tiles recorded by a Journal in `folder`; what they took, and had taken at MARKS."""
    count, marks_reached, marks = 0, [], [*(m for m in MARKS if m < tiles), tiles]
    journal = Journal(folder, INPUTS, len(tiling()), classes=3, restart=True)
    cpu, start = run.cpu(), time.perf_counter()
    for finished in way(Idle.make(), first(tiles), run.address):
        for tile, done in finished:
            journal.add(tile.index, done)
        count += len(finished)
        while marks and count >= marks[0]:
            mark = {
                "tiles": marks.pop(0),
                "seconds": round(time.perf_counter() - start, 1),
                "cpu_seconds": {k: round(v - cpu[k], 1) for k, v in run.cpu().items()},
                "rss_mb": {k: round(v, 1) for k, v in run.rss().items()},
                "journal_mb": round((folder / NAME).stat().st_size / 1e6, 2),
            }
            marks_reached.append(mark)
            print(mark, file=sys.stderr, flush=True)
    seconds, cpu_used = time.perf_counter() - start, run.cpu()
    journal.close()
    return {
        "tiles": count,
        "seconds": round(seconds, 1),
        "tiles_per_second": round(count / seconds),
        "cpu_us_per_tile": {k: round(1e6 * (cpu_used[k] - cpu[k]) / count) for k in cpu_used},
        "marks": marks_reached,
    }


def full_run(name: str, tiles: int, each: int = SOME) -> dict[str, Any]:
    """`tiles` tiles in one way, on a cluster of its own."""
    before, stolen = load(), steal()
    with tempfile.TemporaryDirectory() as folder, cluster(each) as run:
        warm_up(run, each)
        result = timed(WAYS[name][0], tiles, run, Path(folder))
    return {
        "way": name,
        "workers": each * WORKER_PROCESSES,
        **result,
        "load_before": before,
        "load_after": load(),
        "stolen_seconds": round(steal() - stolen, 1),
    }


def compare_ways(tasks: int, each: int, rounds: int) -> dict[str, Any]:
    """Every way in turn, `tasks` tasks each; medians of `rounds`."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    before = load()
    with tempfile.TemporaryDirectory() as folder, cluster(each) as run:
        warm_up(run, each)
        for name in [*WAYS] * rounds:
            way, in_task = WAYS[name]
            runs[name].append(timed(way, tasks * in_task, run, Path(folder)))
    return {
        "workers": each * WORKER_PROCESSES,
        "rounds": rounds,
        "load_before": before,
        "load_after": load(),
        "ways": {name: medians(results) for name, results in runs.items()},
    }


def medians(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several runs of one way."""
    rates = [r["tiles_per_second"] for r in results]
    parts = results[0]["cpu_us_per_tile"]
    return {
        "tiles": results[0]["tiles"],
        "tiles_per_second": round(statistics.median(rates)),
        "spread": [min(rates), max(rates)],
        "cpu_us_per_tile": {
            k: round(statistics.median(r["cpu_us_per_tile"][k] for r in results)) for k in parts
        },
    }


def warm_up(run: Cluster, each: int) -> None:
    """Every worker has loaded geopipe and torch."""
    for _ in one_by_one(Idle.make(), first(4 * WORKER_PROCESSES * each), run.address):
        pass


def extrapolated(run: dict[str, Any], tiles: int) -> dict[str, Any]:
    """More tiles than were run, in proportion; memory from the tile 10,000 on."""
    marks = run["marks"]
    start, end = next((m for m in marks if m["tiles"] >= 10_000), marks[-1]), marks[-1]
    share = (tiles - start["tiles"]) / max(end["tiles"] - start["tiles"], 1)
    return {
        "note": f"in proportion, from a run of {run['tiles']} tiles: not measured",
        "tiles": tiles,
        "hours": round(run["seconds"] * tiles / run["tiles"] / 3600, 2),
        "rss_growth_mb": {
            k: round((end["rss_mb"][k] - start["rss_mb"][k]) * share, 1) for k in end["rss_mb"]
        },
    }


def in_new_process(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """`function` in a process of its own, so that memory starts from nothing."""
    print(function.__name__, *args, f"load {load()}", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="measure the scheduling of tiles")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--tiles", type=int, default=100_000, help="through run_tiles")
    parser.add_argument("--batched-tiles", type=int, default=10**6, help="through the prototype")
    parser.add_argument("--lines", type=int, default=10**6, help="of the journal to resume from")
    parser.add_argument("--mosaics", type=int, nargs="+", default=[100, 316, 1000], metavar="SIDE")
    parser.add_argument("--tasks", type=int, default=2000, help="to compare ways with")
    parser.add_argument("--rounds", type=int, default=3)
    help_text = f"measure these anew, keep the others: {', '.join(PARTS)}"
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help=help_text)
    return parser.parse_args(argv)


def measure(part: str, args: argparse.Namespace) -> Any:
    """One of PARTS."""
    match part:
        case "mosaics":
            return [in_new_process(mosaic, side) for side in args.mosaics]
        case "areas":
            return in_new_process(areas, min(args.lines, 2000))
        case "journal":
            return [in_new_process(resume, n) for n in (args.lines // 10, args.lines)]
        case "few_workers":
            return in_new_process(compare_ways, args.tasks // 2, FEW, args.rounds)
        case "many_workers":
            return in_new_process(compare_ways, args.tasks, MANY, args.rounds)
        case "run_tiles":
            run = in_new_process(full_run, "run_tiles", args.tiles)
            return {**run, "extrapolated": extrapolated(run, len(tiling()))}
        case _:
            return in_new_process(full_run, FASTEST, args.batched_tiles)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write, part by part, so that what is done is kept."""
    args = parse(argv)
    report = json.loads(args.out.read_text()) if args.out.exists() else {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        result = measure(part, args)
        report |= {
            "machine": describe_machine(),
            "versions": {p: version(p) for p in ("geopipe", "dask", "distributed", "rasterio")},
            "scene": {"px": SIDE * CORE, "tiles": len(tiling())},
            "dates": report.get("dates", {}) | {part: f"{datetime.now(UTC):%Y-%m-%d %H:%M}"},
            part: result,
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(args.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
