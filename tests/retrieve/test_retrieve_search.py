"""Neighbours: exact as numpy's, approximate with what they miss, and faiss beside torch."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopipe.errors import ChipIndexError, ConfigError
from geopipe.retrieve import search
from geopipe.retrieve.header import SearchFile
from geopipe.retrieve.search import Searcher, choose_kind, exact, load, make, save

RNG = np.random.default_rng(0)
MIDDLES = RNG.normal(size=(40, 16)) * 3
CLUSTERED = (MIDDLES[RNG.integers(0, 40, 4000)] + RNG.normal(size=(4000, 16))).astype(np.float32)


def brute(vectors, queries, k):
    distances = np.linalg.norm(queries[:, None].astype(float) - vectors[None], axis=2)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99), st.booleans())
def test_exact_is_brute_force_whatever_the_blocks(n, k, seed, half):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 6)).astype(np.float16 if half else np.float32)
    queries = rng.normal(size=(3, 6)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_BLOCK_BYTES", 7 * 6 * 4)
        near, ids = exact(vectors, queries, k)
    wanted, order = brute(vectors, queries, k)
    assert (ids == order).all()
    assert near == pytest.approx(wanted, abs=1e-4)


def test_equal_vectors_come_in_their_order():
    _, ids = exact(np.zeros((9, 4), np.float32), np.zeros((1, 4), np.float32), 9)
    assert ids[0].tolist() == list(range(9))


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "pq"])
def test_approximate_searches_measure_again(tmp_path, kind):
    made = make(kind, CLUSTERED[:3900])
    size = save(made, tmp_path / "s.faiss")
    found = load(tmp_path, SearchFile(kind, "s.faiss", size, 3900), CLUSTERED)
    assert found.recall() > 0.9
    near, ids = found.search(CLUSTERED[[5, 3950]], 4)  # the second came after it was made
    assert ids[:, 0].tolist() == [5, 3950]
    assert near[:, 0] == pytest.approx(0, abs=1e-2)
    expected = np.linalg.norm(CLUSTERED[ids[0]] - CLUSTERED[5], axis=1)
    assert near[0] == pytest.approx(expected, abs=1e-2)
    assert [p.name for p in tmp_path.iterdir()] == ["s.faiss"]


def test_recall_of_an_exact_search_is_one():
    assert Searcher(CLUSTERED).recall() == 1


def test_finding_oneself_is_no_recall():
    class Narrow:
        ntotal = len(CLUSTERED)

        def search(self, queries, k):
            return None, exact(CLUSTERED, queries, 1)[1]

    assert Searcher(CLUSTERED, Narrow()).recall() == 0


def test_damaged_searches_are_told(tmp_path):
    size = save(make("ivf", CLUSTERED), tmp_path / "s.faiss")
    told = SearchFile("ivf", "s.faiss", size, len(CLUSTERED))
    with pytest.raises(ChipIndexError, match="not of this index"):
        load(tmp_path, told, CLUSTERED[:10])
    data = (tmp_path / "s.faiss").read_bytes()
    (tmp_path / "s.faiss").write_bytes(data[:-1])
    with pytest.raises(ChipIndexError, match=f"{size - 1} bytes, not {size}"):
        load(tmp_path, told, CLUSTERED)
    (tmp_path / "s.faiss").write_bytes(b"x" * size)
    with pytest.raises(ChipIndexError, match="cannot read"):
        load(tmp_path, told, CLUSTERED)
    (tmp_path / "s.faiss").unlink()
    with pytest.raises(ChipIndexError, match="there is no file"):
        load(tmp_path, told, CLUSTERED)


def test_kinds():
    assert choose_kind("auto", search.APPROXIMATE_FROM - 1) == "exact"
    assert choose_kind("auto", search.APPROXIMATE_FROM) == "ivf"
    assert make("exact", CLUSTERED) is None
    with pytest.raises(ConfigError, match="no search"):
        choose_kind("annoy", 1)
    with pytest.raises(ConfigError, match="need no"):
        make("pq", CLUSTERED[:9])


BESIDE = """
import sys, threading
for name in sys.argv[1:]:
    __import__(name)
import faiss, numpy as np, torch
x = np.random.default_rng(0).normal(size=(3000, 32)).astype("float32")
bad = []
def searches():
    for _ in range(4):
        _, ids = faiss.knn(x[:64], x, 3)
        bad.extend(np.flatnonzero(ids[:, 0] != np.arange(64)))
def nets():
    layer, image = torch.nn.Conv2d(3, 8, 3), torch.ones(1, 3, 64, 64)
    first = layer(image)
    for _ in range(20):
        if not torch.equal(layer(image), first):
            bad.append("net")
threads = [threading.Thread(target=f) for f in (searches, nets, searches, nets)]
for t in threads: t.start()
for t in threads: t.join()
assert not bad, bad
print("well")
"""


@pytest.mark.parametrize("order", [("torch", "faiss"), ("faiss", "torch")])
def test_faiss_and_torch_share_a_process(order):
    """Each brings an OpenMP of its own; with two, some builds hang or crash."""
    run = subprocess.run(
        [sys.executable, "-c", BESIDE, *order],
        capture_output=True,
        text=True,
        timeout=120,
        env={"OMP_NUM_THREADS": "2"},
    )
    assert run.stdout.strip() == "well", run.stderr
