"""Ask an analyst: which of two models is better, and which places would teach the most."""

from geopipe.learn.ask.head import Head, HeadPlan, refit
from geopipe.learn.ask.places import draw_disagreements, rank_by_gain
from geopipe.learn.ask.questions import (
    AnsweredQuestions,
    Questions,
    keep_answers,
    listed,
    read_answers,
    write_questions,
)
from geopipe.learn.ask.sequential import Choice, Decision, TestPlan, decide

__all__ = [
    "AnsweredQuestions",
    "Choice",
    "Decision",
    "Head",
    "HeadPlan",
    "Questions",
    "TestPlan",
    "decide",
    "draw_disagreements",
    "keep_answers",
    "listed",
    "rank_by_gain",
    "read_answers",
    "refit",
    "write_questions",
]
