"""Progress on stderr where nobody sees a bar: plain lines with the time left."""

import re

from geopipe import progress as module
from geopipe.progress import progress


def test_time_left_is_that_of_this_run_not_of_the_one_resumed(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("training", 100, before=90) as advance:
        now[0] = 20.0
        advance(5)
    assert capsys.readouterr().err == "training: 95/100, 20 s left\n"


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
    assert re.fullmatch(r"training: 4/4 loss 1\.5, 0 s left\n", capsys.readouterr().err)
