"""Names are terms of the field: retired identifiers stay away, search terms have a place."""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "geopipe"
CODE = ("geopipe", "benchmarks", "reproduce", "sample_tiles", "qgis")

RETIRED = {
    "MapNet", "CoarseNet", "RefineNet", "ScoreNet", "Belief", "QuickLook", "ModelBelief",
    "ShiftField", "Surfaces", "Checkup", "Fate", "Caution", "doubts", "sureness", "skill", "room",
    "Cells", "Pictures", "Seen", "looker", "Recipe", "Asker", "Wishes", "Answer", "likeness",
    "relit", "Fitted", "burn", "taps", "right_angles", "pieces", "HERE", "AHEAD",
    "keep_pages", "give_back", "patiently", "listening", "is_whole", "whole_scores",
    "found", "asked", "told", "mine", "ours", "theirs", "taught", "verdict", "doubtful", "belief",
    "fates", "judged", "sight", "said",
}  # fmt: skip
"""Words of a private language that the code once spoke, each replaced by a term of the field."""

TERMS = {
    "semantic segmentation": ["README.md", "geopipe/labels/__init__.py", "geopipe/mapping"],
    "ground truth": ["README.md", "geopipe/evaluation"],
    "embedding": ["geopipe/retrieve", "docs/retrieval.md"],
    "rasteriz": ["geopipe/labels/rasterize.py", "docs/labels.md"],
    "domain adaptation": ["geopipe/learn/transfer", "docs/patches.md"],
    "augmentation": ["geopipe/learn"],
    "registration": ["geopipe/register", "docs/labels.md"],
}


def identifiers(path: Path) -> Counter[str]:
    """Names that a module binds or reads, without those it only takes from elsewhere."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return Counter(t.string for t in tokens if t.type == tokenize.NAME)


def modules() -> list[Path]:
    return sorted(p for folder in CODE for p in (ROOT / folder).rglob("*.py"))


def test_no_retired_name_is_used():
    counts = {
        f"{path.relative_to(ROOT)}: {name}": count
        for path in modules()
        for name, count in identifiers(path).items()
        if name.strip("_") in RETIRED
    }
    assert counts == {}


def test_a_docstring_names_what_exists():
    """Names in single backticks, of the package; or words of its strings (keys, names of nets)."""
    texts = {p: p.read_text(encoding="utf-8") for p in modules() if p.is_relative_to(PACKAGE)}
    known = {name for path in texts for name in identifiers(path)} | {p.stem for p in texts}
    for text in texts.values():
        code = re.sub(r'"""[\s\S]*?"""', "", text)
        known |= {
            w for quoted in re.findall(r'"([^"\n]*)"', code) for w in re.findall(r"\w+", quoted)
        }
    strange = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in texts.items()
        for docstring in re.findall(r'"""[\s\S]*?"""', text)
        for name in re.findall(r"(?<!`)`([A-Za-z_][\w.]+)(?:\([^`]*\))?`(?!`)", docstring)
        if name.rpartition(".")[2] not in known
    }
    assert strange == set()


@pytest.mark.parametrize("term", TERMS)
def test_a_term_of_the_field_is_where_a_reader_looks(term):
    for place in TERMS[term]:
        path = ROOT / place
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        assert any(term in f.read_text(encoding="utf-8").lower() for f in files), place


def public_names(path: Path) -> set[str]:
    """Classes and functions that a module defines for others."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {n.name for n in body if isinstance(n, kinds) and not n.name.startswith("_")}


def test_a_public_class_name_means_one_thing():
    places: dict[str, list[str]] = {}
    internal = (p for p in (ROOT / "geopipe").rglob("*.py") if p.parent.name != "api")
    for path in sorted(internal):  # the public Scene and ChipIndex wrap the internal ones
        for name in public_names(path):
            if name[0].isupper():
                places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {n: p for n, p in places.items() if len(p) > 1} == {}
