"""A dask scheduler and workers as processes of this machine, and what they take."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
WORKER_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Cluster:
    """A scheduler and worker processes on this machine, and this process, their client."""

    address: str
    processes: dict[str, list[psutil.Process]]

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far, by part."""
        return {k: sum(sum(p.cpu_times()[:2]) for p in ps) for k, ps in self.processes.items()}

    def rss(self) -> dict[str, float]:
        """MB, by part."""
        return {k: sum(p.memory_info().rss for p in ps) / 1e6 for k, ps in self.processes.items()}


@contextmanager
def cluster(each: int) -> Iterator[Cluster]:
    """WORKER_PROCESSES processes with `each` workers of one thread."""
    from distributed import Client

    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    serve = f"import benchmarks.local_cluster as c; c.serve({{!r}}, {each})"
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> psutil.Process:
        command = [sys.executable, *arguments]
        started.append(subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL))
        return psutil.Process(started[-1].pid)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        arguments = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
        quiet = ("--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file))
        try:
            scheduler = start(*arguments, *quiet)
            address = wait_for(file)
            workers = [start("-c", serve.format(address)) for _ in range(WORKER_PROCESSES)]
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(WORKER_PROCESSES * each, timeout=300)
            parts = {"client": [psutil.Process()], "scheduler": [scheduler], "workers": workers}
            yield Cluster(address, parts)
        finally:
            end(started[::-1])


def wait_for(file: Path) -> str:
    """The address in a scheduler's file, once it is written."""
    for _ in range(600):
        if file.exists() and (text := file.read_text()):
            return str(json.loads(text)["address"])
        time.sleep(0.1)
    raise TimeoutError("the scheduler did not start within a minute")


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Workers first: one that loses its scheduler on the way out may wait for ever."""
    for process in processes:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve(address: str, count: int) -> None:
    """`count` workers of one thread in this process, until the scheduler ends."""
    from distributed import Worker

    async def run() -> None:
        workers = [
            Worker(address, nthreads=1, memory_limit=0, dashboard=False) for _ in range(count)
        ]
        await asyncio.gather(*workers)
        await asyncio.gather(*(w.finished() for w in workers))

    asyncio.run(run())
