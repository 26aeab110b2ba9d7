"""The paper's figures with our results: each function takes data and writes one PNG."""

from reproduce.maggiori.figures.charts import Runs, class_bars, over_iterations
from reproduce.maggiori.figures.panels import (
    FuzzyRow,
    Place,
    close_ups,
    full_maps,
    fuzzy_maps,
    fuzzy_rows,
    read_place,
)
from reproduce.maggiori.figures.responses import Responses, kernels, respond, responses

__all__ = [
    "FuzzyRow",
    "Place",
    "Responses",
    "Runs",
    "class_bars",
    "close_ups",
    "full_maps",
    "fuzzy_maps",
    "fuzzy_rows",
    "kernels",
    "over_iterations",
    "read_place",
    "respond",
    "responses",
]
