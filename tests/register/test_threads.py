"""Threads: order, shares and limits; the same results for any number of them."""

import json
import os
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
import torch

from geopipe.errors import LabelError
from geopipe.grid import Window
from geopipe.register import PixelClassifier, estimate_field
from geopipe.register import displacement as field
from geopipe.register.qc_tiles import examine
from geopipe.register.threads import MAX_THREADS, in_order, thread_count


@pytest.fixture
def machine(monkeypatch):
    """``machine(cores)``: a machine that allows so many threads."""

    def allow(cores, omp=None):
        monkeypatch.setattr(torch, "get_num_threads", lambda: omp or cores)
        monkeypatch.setattr(joblib, "cpu_count", lambda: cores)

    return allow


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_whichever_is_ready_first(threads):
    ready = [threading.Event() for _ in range(9)]

    def late(i):
        """The first of each pair waits for the second, where there is a thread for that."""
        if threads > 1 and i % 2 == 0 and i < 8:
            assert ready[i + 1].wait(20)
        ready[i].set()
        return i * i

    assert list(in_order(late, range(9), threads)) == [i * i for i in range(9)]


@pytest.mark.parametrize("threads", [1, 3])
def test_never_more_at_once_than_threads_and_little_ahead(threads):
    lock, running, most, begun = threading.Lock(), 0, 0, 0

    def counted(i):
        nonlocal running, most, begun
        with lock:
            running, begun = running + 1, begun + 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1

    for done, _ in enumerate(in_order(counted, range(40), threads), 1):
        with lock:
            assert begun <= done + 2 * threads - 2
            assert threads > 1 or not running
    assert most <= threads


def test_threads_are_shared_with_what_they_split(machine):
    machine(6)

    def inner(_):
        return thread_count(), threading.get_ident()

    def outer(_):
        return thread_count(), list(in_order(inner, range(4)))

    for count, share in ((2, 3), (6, 1), (9, 1)):
        found = list(in_order(outer, range(count)))
        assert [n for n, _ in found] == [share] * count
        idents = {ident for _, inside in found for _, ident in inside}
        assert {n for _, inside in found for n, _ in inside} == {1}
        assert len(idents) <= count * share


@pytest.mark.parametrize(
    ("cores", "omp", "threads"), [(4, 1, 1), (2, 4, 2), (64, 64, MAX_THREADS), (1, 1, 1)]
)
def test_omp_num_threads_and_the_cores_allowed_both_count(machine, cores, omp, threads):
    machine(cores, omp)
    assert thread_count() == threads


LIMITS = """
import json, threading
import sklearn.ensemble, torch
from threadpoolctl import threadpool_info
from geopipe.register.threads import in_order

def limits(_):
    return [x["num_threads"] for x in threadpool_info() if x["user_api"] == "openmp"]

def plain():
    found.append(limits(0))

found, thread = [], threading.Thread(target=plain)
thread.start(), thread.join()
inside = list(in_order(limits, range(3), 2))
print(json.dumps([found[0], *inside, torch.get_num_threads()]))
"""


def test_nothing_below_a_thread_starts_more():
    """torch and scikit-learn have an OpenMP each, whose limits belong to threads."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITS],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    plain, *inside, after = json.loads(done.stdout)
    assert set(plain) == {2}
    assert inside == [[1] * len(plain)] * 3
    assert after == 2


def test_what_fails_ends_the_rest():
    begun = []

    def failing(i):
        begun.append(i)
        if i == 3:
            raise LabelError("no", "none")
        return i

    with pytest.raises(LabelError):
        list(in_order(failing, range(1000), 2))
    assert len(begun) < 10
    alive = threading.active_count()
    steps = in_order(failing, [0] * 50, 2)
    next(steps)
    steps.close()
    assert threading.active_count() == alive


# -- alignment


@pytest.mark.parametrize("sheet", [2048, 200])
def test_a_field_is_the_same_for_any_number_of_threads(checked, machine, monkeypatch, sheet):
    """In one sheet its parts go to the threads, else sheets do."""
    monkeypatch.setattr(field, "BLOCK_PX", sheet)
    found = []
    for cores in (1, 3):
        machine(cores)
        found.append(estimate_field(checked.grid, checked.likelihood, 4.0).tie_points)
    assert len(found[0]) > 100
    assert found[0] == found[1]


def test_learning_is_the_same_for_any_number_of_threads(checked, machine, monkeypatch):
    monkeypatch.setattr("geopipe.register.likelihood._TILE", 256)
    monkeypatch.setattr("geopipe.register.likelihood._AT_ONCE", 1000)
    window, read = Window(100, 50, 301, 200), []
    for cores in (1, 3):
        machine(cores)
        likelihood = PixelClassifier.fit(checked.grid, checked.source)
        read += [likelihood.read(window) for _ in "12"]
    for other in read[1:]:
        assert np.array_equal(read[0], other)


def test_blocks_are_the_same_for_any_number_of_threads(checked, machine, monkeypatch):
    monkeypatch.setattr("geopipe.register.qc_tiles.BLOCK_PX", 200)
    found = []
    for cores in (1, 3):
        machine(cores)
        found.append(repr(examine(checked.grid, checked.likelihood, checked.field, 60.0)))
    assert "omission" in found[0]
    assert found[0] == found[1]
