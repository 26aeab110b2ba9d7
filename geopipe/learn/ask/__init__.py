"""Ask an analyst: which of two models is better, and which places would teach the most."""

from geopipe.learn.ask.head import Head, HeadPlan, refit
from geopipe.learn.ask.places import draw_disagreements, rank_by_gain
from geopipe.learn.ask.sequential import Decision, TestPlan, Verdict, decide

__all__ = [
    "Decision",
    "Head",
    "HeadPlan",
    "TestPlan",
    "Verdict",
    "decide",
    "draw_disagreements",
    "rank_by_gain",
    "refit",
]
