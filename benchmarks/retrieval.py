"""How fast chips are found, and what it takes as their number grows.

    python -m benchmarks.retrieval [--sizes 10000 100000 1000000] [--width 256] [--kinds ...]

writes ``docs/results/bench/retrieval.{json,md}``. Vectors are random unit vectors; each query has
ten planted neighbours, so that there is something to find. In each size one process after another
asks the same queries: brute force by numpy, faiss's own flat index, and geopipe's index on disk,
exact and by every approximate search, with recall at 10 against exact and the memory of each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.generated_scenes import ROOT
from benchmarks.machine import describe_machine, load
from geopipe.retrieve.embedding import EmbeddingConfig, EmbeddingModel
from geopipe.retrieve.header import Header, SearchFile
from geopipe.retrieve.rows import ChipRow
from geopipe.retrieve.search import Searcher, exact, make, save
from geopipe.retrieve.search import load as load_search
from geopipe.retrieve.store import ChipIndex, Writer

RESULTS = ROOT / "docs/results/bench/retrieval"
NEIGHBOURS = 10
PART = 4096
"""As a build appends."""
Result = dict[str, Any]


def main() -> None:
    """Measure and write, after every size."""
    parser = argparse.ArgumentParser(description="rates of the chip index")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--kinds", nargs="*", default=["ivf", "hnsw", "pq"])
    parser.add_argument("--embed", type=int, default=512, help="chips through the default net")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs/bench/retrieval")
    args = parser.parse_args()
    facts = {**{k: v for k, v in vars(args).items() if k != "folder"}, **about()}
    results: list[Result] = []
    embedding = in_subprocess(embed, args.embed) if args.embed else {}
    for size in args.sizes:
        folder = args.folder / str(size)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        results += measure(folder, size, args)
        write(results, embedding, facts)
        shutil.rmtree(folder)


def measure(folder: Path, size: int, args: argparse.Namespace) -> list[Result]:
    """Every way to search `size` vectors."""
    results = [{"way": "append", **in_subprocess(append, folder, size, args.width, args.queries)}]
    runs: list[tuple[str, Callable[..., Result], tuple[Any, ...]]] = [
        ("numpy brute force", numpy_brute, ()),
        ("faiss flat, in memory", faiss_flat, ()),
        ("geopipe exact", geopipe_exact, ()),
        *((f"geopipe {kind}", geopipe_kind, (kind,)) for kind in args.kinds),
    ]
    for name, function, arguments in runs:
        results.append({"way": name, **in_subprocess(function, folder, *arguments)})
        print(f"{size}: {results[-1]}", flush=True)
    return [{"size": size, **f} for f in results]


def in_subprocess(function: Callable[..., Result], *arguments: Any) -> Result:
    """What `function` measures in a process of its own, and that process's largest memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, arguments))


def _measured(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    before = _peak_mb()
    result = function(*arguments)
    return {**_own_mb(), **result, "peak_mb": _peak_mb(), "start_mb": before}


def _peak_mb() -> float:
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale)


def _own_mb() -> Result:
    """Memory that is the process's own: pages of mapped files are the system's to take back."""
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return {"own_mb": round(int(lines["RssAnon"].split()[0]) / 1e3)}


def append(folder: Path, size: int, width: int, queries: int) -> Result:
    """Write an index of `size` vectors, PART by PART, and queries beside it."""
    rng = np.random.default_rng(size)
    model = {"backbone": "none", "weights": "auto", "weights_sha256": "0" * 64}
    queries_data = unit(rng.normal(size=(queries, width)))
    neighbours = np.repeat(queries_data, NEIGHBOURS, 0)
    planted = unit(neighbours + rng.normal(size=neighbours.shape) * 0.7 / np.sqrt(width))
    positions = rng.choice(size, len(planted), replace=False)
    writer, seconds = Writer(folder, Header(model, "float32")), 0.0
    for first in range(0, size, PART):
        data = unit(rng.normal(size=(min(PART, size - first), width)))
        in_block = np.flatnonzero((positions >= first) & (positions < first + len(data)))
        data[positions[in_block] - first] = planted[in_block]
        rows = [
            ChipRow("/a.tif", "1:2", "", f"{i:032x}", i, 0, 64, 64)
            for i in range(first, first + len(data))
        ]
        start = time.perf_counter()
        writer.append(data, rows, None)
        seconds += time.perf_counter() - start
    np.save(folder / "queries.npy", queries_data)
    return {"per_second": size / seconds}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Of length 1, float32."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def timed(folder: Path, search: Callable[[np.ndarray], np.ndarray]) -> Result:
    """Seconds a query, one at a time and all at once, and recall at 10 of ids (m, 10)."""
    queries, vectors = np.load(folder / "queries.npy"), ChipIndex.open(folder).vectors
    search(queries[:2])  # what is read or made once
    first_queries = queries[:20]
    start = time.perf_counter()
    for q in first_queries:
        search(q[None])
    single_s = (time.perf_counter() - start) / len(first_queries)
    start = time.perf_counter()
    ids = search(queries)
    batch_s = (time.perf_counter() - start) / len(queries)
    truth = exact(vectors, queries, NEIGHBOURS)[1]
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(truth, ids, strict=True))
    return {"alone_s": single_s, "together_s": batch_s, "recall": hits / truth.size, **_own_mb()}


def numpy_brute(folder: Path) -> Result:
    """All distances of a query by one product of matrices, in memory."""
    vectors = np.array(ChipIndex.open(folder).vectors)
    squared_norms = np.einsum("nd,nd->n", vectors, vectors)

    def search(queries: np.ndarray) -> np.ndarray:
        best = []
        for q in queries:
            distances = squared_norms - 2 * (vectors @ q)
            nearest = np.argpartition(distances, NEIGHBOURS)[:NEIGHBOURS]
            best.append(nearest[np.argsort(distances[nearest])])
        return np.array(best)

    return timed(folder, search)


def faiss_flat(folder: Path) -> Result:
    """faiss's own exact index, in memory."""
    vectors = np.array(ChipIndex.open(folder).vectors)
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    del vectors
    return timed(folder, lambda q: np.asarray(index.search(q, NEIGHBOURS)[1]))


def geopipe_exact(folder: Path) -> Result:
    """The index on disk."""
    searcher = Searcher(ChipIndex.open(folder).vectors)
    return timed(folder, lambda q: searcher.search(q, NEIGHBOURS)[1])


def geopipe_kind(folder: Path, kind: str) -> Result:
    """An approximate search of the index on disk, made here."""
    vectors = ChipIndex.open(folder).vectors
    start = time.perf_counter()
    size = save(make(kind, vectors), folder / f"{kind}.faiss")  # type: ignore[arg-type]
    build_s = time.perf_counter() - start
    searcher = load_search(
        folder,
        SearchFile(kind, f"{kind}.faiss", size, len(vectors)),  # type: ignore[arg-type]
        vectors,
    )
    result = timed(folder, lambda q: searcher.search(q, NEIGHBOURS)[1])
    return {**result, "made_s": build_s, "file_mb": size / 1e6}


def embed(chips: int) -> Result:
    """Chips described per second by the default net, and by its bare forward."""
    import torch

    from geopipe.checkpoint.weights import load_backbone

    torch.set_num_threads(1)
    images = [np.random.default_rng(i).integers(0, 255, (3, 224, 224), np.uint8) for i in range(64)]
    model = EmbeddingModel(EmbeddingConfig(), "auto").loaded()
    net, image_batch = (
        load_backbone("efficientnet_lite0", last_layer="pooled"),
        torch.randn(32, 3, 224, 224),
    )
    rounds = max(1, chips // 64)
    model.embed(images)
    start = time.perf_counter()
    for _ in range(rounds):
        model.embed(images)
    own_rate = 64 * rounds / (time.perf_counter() - start)
    start = time.perf_counter()
    with torch.inference_mode():
        for _ in range(2 * rounds):
            net(image_batch)
    return {"per_second": own_rate, "bare_per_second": 64 * rounds / (time.perf_counter() - start)}


def about() -> Result:
    """The machine."""
    return {"machine": describe_machine(), "load": load(), "threads": faiss.omp_get_max_threads()}


def write(results: list[Result], embedding: Result, facts: Result) -> None:
    """The figures as JSON and Markdown."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    values = {**facts, "embedding": embedding, "ways": results}
    RESULTS.with_suffix(".json").write_text(json.dumps(values, indent=1, default=str) + "\n")
    lines = [
        "# Finding chips",
        "",
        f"`python -m benchmarks.retrieval`; {facts['threads']} threads, load {facts['load']} at "
        "the start, random unit vectors of "
        f"{facts['width']} values (float32), {facts['queries']} queries with {NEIGHBOURS} planted "
        "neighbours each. *Own*: memory of the process itself at the end; *peak* counts pages of "
        "mapped files too, which the system takes back when it needs them.",
        "",
        "| vectors | way | made, s | file, MB | one query, ms | of many, ms | recall at 10 "
        "| own, MB | peak, MB |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for t in results:
        if t["way"] == "append":
            continue
        build_text = f"{t['made_s']:.1f}" if "made_s" in t else "-"
        size = f"{t['file_mb']:.0f}" if "file_mb" in t else "-"
        lines.append(
            f"| {t['size']:,} | {t['way']} | {build_text} | {size} | {1e3 * t['alone_s']:.2f} "
            f"| {1e3 * t['together_s']:.2f} | {t['recall']:.3f} | {t.get('own_mb', '-')} "
            f"| {t['peak_mb']} |"
        )
    lines += ["", "| vectors | appended per second | peak, MB |", "|---:|---:|---:|"]
    lines += [
        f"| {t['size']:,} | {t['per_second']:,.0f} | {t['peak_mb']} |"
        for t in results
        if t["way"] == "append"
    ]
    if embedding:
        own_rate, bare_rate = embedding["per_second"], embedding["bare_per_second"]
        lines += [
            "",
            f"Describing chips of 224 px, EfficientNet-Lite0, one thread: {own_rate:.1f} per "
            f"second; its bare forward {bare_rate:.1f} ({100 * own_rate / bare_rate:.0f} %).",
        ]
    RESULTS.with_suffix(".md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
