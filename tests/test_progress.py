"""Progress on stderr where nobody sees a bar: plain lines with the time left."""

import re

import pytest

from geopipe import progress as module
from geopipe.progress import progress


def test_time_left_is_that_of_this_run_not_of_the_one_resumed(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("training", 100, before=90) as advance:
        now[0] = 20.0
        advance(5)
    assert capsys.readouterr().err == "training: 95/100, about 20 s left\n"


def test_what_takes_less_than_a_second_is_silent(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("short", 3) as advance:
        for _ in range(3):
            now[0] += 0.3
            advance()
    assert capsys.readouterr().err == ""


def test_a_note_stays_until_the_next(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("training", 4) as advance:
        advance(0, "loss 1.5")
        now[0] = 30.0
        advance(4)
    assert re.fullmatch(r"training: 4/4 loss 1\.5, done in 30 s\n", capsys.readouterr().err)


def lines(monkeypatch, capsys, steps, total, label="aligning"):
    """What is written when ``(seconds, units)`` of `steps` pass one after the other."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress(label, total) as advance:
        for seconds, units in steps:
            now[0] += seconds
            advance(units)
    return capsys.readouterr().err.splitlines()


def test_time_left_follows_the_pace_of_late(monkeypatch, capsys):
    """A slow start is forgotten within minutes, and one quick unit changes little."""
    slow = [(20.0, 1)] * 10
    told = lines(monkeypatch, capsys, [*slow, (10.0, 1)], 200)
    first, second = (float(line.split()[-3]) for line in told[-2:])
    assert first == pytest.approx(190 * 20 / 60, abs=0.5)
    assert 0.8 * first < second < first
    told = lines(monkeypatch, capsys, slow + [(1.0, 1)] * 300, 1000)
    assert float(told[-1].split()[-3]) * 60 == pytest.approx(690, rel=0.15)


def test_units_that_end_together_are_one_pace(monkeypatch, capsys):
    """Two threads: each pair of units takes 10 s."""
    pairs = [(10.0, 1), (0.0, 1)] * 5
    told = lines(monkeypatch, capsys, pairs, 20)[-1]
    assert told in ("aligning: 9/20, about 55 s left", "aligning: 9/20, about 65 s left")


def test_no_time_is_told_before_anything_is_done(monkeypatch, capsys):
    assert lines(monkeypatch, capsys, [(30.0, 0)], 5) == ["aligning: 0/5"]


@pytest.mark.parametrize(
    ("seconds", "done", "more", "words"),
    [(10.0, 5, 2, "4 s"), (11.0, 1, 7, "75 s"), (10.0, 1, 12, "2 min"), (60.0, 1, 200, "3.3 h")],
)
def test_time_left_is_told_as_roughly_as_it_is_known(
    monkeypatch, capsys, seconds, done, more, words
):
    told = lines(monkeypatch, capsys, [(seconds, done)], done + more)
    assert told == [f"aligning: {done}/{done + more}, about {words} left"]
