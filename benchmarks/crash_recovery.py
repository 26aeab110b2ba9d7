"""Kill a mapping with SIGKILL, again and again, and see whether its map is that of a calm run.

    python -m benchmarks.crash_recovery [--kills 32] [--final 4] [--size 4096]

maps a scene undisturbed, then with the same command killed at random moments, and some more while
its files are finished: in this process and with two workers. What stands at the end is compared
byte for byte. Then a dask cluster on loopback loses a worker, and its scheduler. Prints a line per
kill and writes ``docs/results/bench/kill.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rasterio

from benchmarks.generated_scenes import ROOT, choose_model, make_scene
from benchmarks.killed_runs import Attempt, EndureError, Plan, cluster, digest, wait_for_workers
from benchmarks.machine import describe_machine, load

WAYS = {"one process": (), "two worker processes": ("--workers", "2")}
PACKAGES = ("geopipe", "torch", "dask", "rasterio")


def main(argv: Sequence[str] | None = None) -> int:
    """Kill and write; 1 where a map is another one."""
    args = parse(argv)
    maps = args.folder / "maps"
    shutil.rmtree(maps, ignore_errors=True)
    maps.mkdir(parents=True)
    model, trained = choose_model(args.folder)
    scene = make_scene(args.folder, args.size)
    plan = Plan(scene, model, maps, args.core, (-(-args.size // args.core)) ** 2)
    begun, rng = load(), random.Random(args.seed)
    variants = {
        way: run_with_kills(plan, way, arguments, args.kills // len(WAYS), args.final, rng)
        for way, arguments in WAYS.items()
    }
    (reference_hash, *others) = {str(way["calm"]["sha256"]) for way in variants.values()}
    lost_runs = [lose_one_worker(plan, rng), lose_scheduler(plan, rng)]
    figures = {
        "command": f"python -m benchmarks.crash_recovery --kills {args.kills} --final {args.final} "
        f"--size {args.size} --tile-size {args.core} --seed {args.seed}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "load": [begun, load()],
        "versions": {p: version(p) for p in PACKAGES} | {"gdal": rasterio.__gdal_version__},
        "model_trained": trained,
        "pixels_a_side": args.size,
        "tiles": plan.tiles,
        "ways": variants,
        "cluster": lost_runs,
    }
    outcomes = [*(end for way in variants.values() for end in way["ends"]), *lost_runs]
    same = not others and all(end["sha256"] == reference_hash for end in outcomes)
    figures |= {"maps_compared": len(outcomes), "all_same_bytes": same}
    write(args.out, figures)
    say("every map has the same bytes" if same else "MAPS DIFFER")
    return 0 if same else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="kill a mapping and look at its map")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/bench/kill.json")
    parser.add_argument("--kills", type=int, default=32, help="at any time, over all ways")
    parser.add_argument("--final", type=int, default=4, help="of each way, at the end")
    parser.add_argument("--size", type=int, default=4096, metavar="PX")
    parser.add_argument("--tile-size", dest="core", type=int, default=256, metavar="PX")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs/endure")
    return parser.parse_args(argv)


def run_with_kills(
    plan: Plan, mode: str, arguments: Sequence[str], kills: int, final: int, rng: random.Random
) -> dict[str, Any]:
    """A calm map and as many lives as `kills` + `final` kills take."""
    calm = Attempt(plan, "calm", arguments)
    mapped_s: list[float] = []
    calm.run_until(record_end(calm, mapped_s), "none")
    finish_s = calm.seconds - mapped_s[0]
    result = {
        "seconds": round(calm.seconds, 1),
        "mapped_after_s": round(mapped_s[0], 1),
        "sha256": digest(calm.out),
    }
    say(f"{mode}, undisturbed: {result}")
    calm.clear()
    attempts, outcomes = [Attempt(plan, "map", arguments)], []
    aims = ["any time"] * kills + ["the end"] * final
    while aims:
        life = attempts[-1]
        # A life that only has its end before it has had its share of kills at any time.
        over = aims[0] == "any time" and len(life.tile_stats()) == plan.tiles
        killed = not over and kill_condition(life, aims[0], calm.seconds, finish_s, rng)
        if killed:
            del aims[0]
            say(f"{mode}, life {len(attempts)}: {asdict(life.kills[-1])}")
        if not killed or life.out.exists() or not aims:
            outcomes.append(life.finish())
            say(f"{mode}, life {len(attempts)} ends after {len(life.kills)} kills: {outcomes[-1]}")
            life.clear()
            attempts.append(Attempt(plan, "map", arguments))
    kills_by_attempt = [[asdict(kill) for kill in life.kills] for life in attempts if life.kills]
    return {"calm": result, "lives": kills_by_attempt, "ends": outcomes}


def record_end(life: Attempt, times: list[float]) -> Callable[[float], bool]:
    """A moment that never comes; it puts into `times` when the files begin to be finished."""
    begun = time.time()

    def is_finished(seconds: float) -> bool:
        if not times and life.finishing(begun):
            times.append(seconds)
        return False

    return is_finished


def kill_condition(
    life: Attempt, aim: str, whole_s: float, finish_s: float, rng: random.Random
) -> bool:
    """Run `life` on and kill it; False when it was over before."""
    if aim == "any time":
        kill_time = rng.uniform(0, whole_s * rng.choice((0.5, 1)))
        whom = rng.choice(("all", "parent"))
        return life.run_until(lambda seconds: seconds >= kill_time, aim, whom)
    begun: list[float] = []
    delay, is_finished = rng.uniform(0, finish_s), record_end(life, begun)

    def is_time(seconds: float) -> bool:
        is_finished(seconds)
        return bool(begun) and seconds >= begun[0] + delay

    return life.run_until(is_time, aim)


def lose_one_worker(plan: Plan, rng: random.Random) -> dict[str, Any]:
    """One of two workers of a running cluster is killed in the middle."""
    with cluster(plan.folder) as (address, (_, worker, _)):
        wait_for_workers(address, 2)
        life = Attempt(plan, "cluster", ("--scheduler", address))
        killed = lose(life, worker, rng)
        end = life.finish()
    life.clear()
    result = {"lost": "one worker of two", "after_tiles": killed, "said": "", **end}
    say(str(result))
    return result


def lose_scheduler(plan: Plan, rng: random.Random) -> dict[str, Any]:
    """The scheduler is killed in the middle; a run without it goes on."""
    error_text = "nothing"
    with cluster(plan.folder) as (address, (scheduler, *_)):
        wait_for_workers(address, 2)
        life = Attempt(plan, "cluster", ("--scheduler", address))
        try:
            killed = lose(life, scheduler, rng)
        except EndureError as e:
            error_text = str(e).replace(str(plan.folder.parent), "…")
    killed = len(life.tile_stats())
    end = replace(life, words=()).finish()
    life.clear()
    result = {"lost": "the scheduler", "after_tiles": killed, "said": error_text, **end}
    say(str(result))
    return result


def lose(life: Attempt, process: subprocess.Popen[bytes], rng: random.Random) -> int:
    """Kill `process` somewhere in the middle of the map; returns the tiles done then."""
    target_tiles, killed = rng.randint(life.plan.tiles // 10, life.plan.tiles // 2), list[int]()

    def kills(_: float) -> bool:
        if not killed and (count := len(life.tile_stats())) >= target_tiles:
            process.kill()
            killed.append(count)
        return False

    life.run_until(kills, "none")
    return killed[0]


def write(out: Path, figures: Mapping[str, Any]) -> None:
    """The figures, and the page that shows them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1)
    text = re.sub(r"\{[^{}]*\}", lambda match: " ".join(match[0].split()), text)
    out.write_text(text + "\n")  # a line for each kill
    out.with_suffix(".md").write_text(page(json.loads(text)), encoding="utf-8")


def page(figures: Mapping[str, Any]) -> str:
    """What was done and what came of it, then each kill."""
    m = figures["machine"]
    kills = {
        way: [(number, kill) for number, life in enumerate(table["lives"], 1) for kill in life]
        for way, table in figures["ways"].items()
    }
    total = sum(map(len, kills.values()))
    finishing = sum(k["phase"] == "finishing" for kill_list in kills.values() for _, k in kill_list)
    redone = sum(k["redone"] for kill_list in kills.values() for _, k in kill_list)
    lines = [
        "# Killed",
        "",
        f"`{figures['command']}`, {figures['date']}",
        "",
        f"{m['cpu']}, {m['cores']} cores; load {figures['load'][0]} before, {figures['load'][1]} "
        f"after. {figures['pixels_a_side']:,} x {figures['pixels_a_side']:,} px, "
        f"{figures['tiles']} tiles.",
        "",
        f"{total} times SIGKILL, {finishing} of them while the files were finished. "
        f"{figures['maps_compared']} maps came about all the same; "
        + (
            "all have the bytes of the undisturbed one. "
            if figures["all_same_bytes"]
            else "**NOT all have the bytes of the undisturbed one.** "
        )
        + f"{redone} tiles were computed again after their line was in the journal.",
    ]
    head = "| life | killed | aimed at | after s | while | resumed | tiles then | outlived s |"
    for way, table in figures["ways"].items():
        calm = table["calm"]
        lines += [
            "",
            f"## {way.capitalize()}",
            "",
            f"Undisturbed: {calm['seconds']} s, of these {calm['mapped_after_s']} s until the last "
            "tile.",
            "",
            head,
            "|---:|---|---|---:|---|---:|---:|---:|",
        ]
        lines += [
            f"| {life} | {k['whom']} | {k['aim']} | {k['at_s']} | {k['phase']} | {k['before']} | "
            f"{k['after']} | {k['outlived_s']} |"
            for life, k in kills[way]
        ]
    lines += [
        "",
        "## A cluster on loopback",
        "",
        "| lost | at tile | resumed | the command said |",
        "|---|---:|---:|---|",
    ]
    lines += [
        f"| {row['lost']} | {row['after_tiles']} | {row['resumed']} | {row['said']} |"
        for row in figures["cluster"]
    ]
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
