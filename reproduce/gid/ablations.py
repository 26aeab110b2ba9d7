"""The parts of the study; each takes a seed's `Lab` and gives plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geopipe.learn.patches import PatchGrid
from geopipe.learn.transfer import TransferPlan, select
from geopipe.metrics import Metrics
from geopipe.workflow.transfer import Round
from reproduce.gid import data
from reproduce.gid.experiment import Domain, Lab, true_labels
from reproduce.gid.metrics import ALL, precision
from reproduce.gid.sensor import Sensor, write_seen

THRESHOLDS = (0.5, 0.8, 0.95)
NEIGHBOURS = (5, 10, 20)
METHODS = {
    "none": "without transfer",
    "pseudo": "pseudo-labels, no retrieval",
    "both": "pseudo-labels and retrieval",
    "oracle": "oracle: labels of the target",
}
PARTS = {
    "A": "sizes of patches and segments",
    "B": "other scenes",
    "C": "another sensor",
    "D": "the same domain",
    "E": "a foreign domain",
    "F": "thresholds and neighbours",
}


@dataclass(frozen=True)
class Study:
    """The images, the same for all seeds."""

    out: Path
    gid: Path
    foreign: Path | None
    """None where no part asks for it."""
    photographs: int
    sensor: Sensor = field(default_factory=Sensor)

    @cached_property
    def source(self) -> PatchGrid:
        """All cells of the five-class crops."""
        return data.crops(self.gid / "source" / "image", self.gid / "source" / "label")

    @cached_property
    def copies(self) -> frozenset[str]:
        """Target crops that are source crops as well: 52 of 386; nothing may be judged on them."""
        return data.copies(self.gid / "target" / "image", self.gid / "source" / "image")

    @cached_property
    def target(self) -> PatchGrid:
        """All cells of the fifteen-class crops, in five classes."""
        target = self.gid / "target"
        cells = data.crops(target / "image", target / "label", self.copies)
        data.check_merged(cells, data.FINE, data.scheme())
        return cells

    @cached_property
    def shifted(self) -> PatchGrid:
        """The same as another sensor would see them; written once."""
        folder, told = self.out / "shifted", self.out / "shifted.json"
        wanted = json.dumps({**asdict(self.sensor), "crops": data.names_digest(self.target)})
        if not told.exists() or told.read_text() != wanted:
            told.unlink(missing_ok=True)
            write_seen(self.gid / "target" / "image", folder, self.sensor)
            told.write_text(wanted)
        return data.crops(folder, self.gid / "target" / "label", self.copies)

    @cached_property
    def photos(self) -> PatchGrid:
        """All cells of the foreign photographs."""
        assert self.foreign is not None
        return data.photographs(self.foreign, self.photographs)

    def domain(self, part: str, lab: Lab) -> Domain:
        """Where part B, C, D or E is to go."""
        held = lab.crops[1]
        if part == "D":
            names = np.array(data.folders(lab.source))[held].tolist()
            first, second = (held[half] for half in data.halves(names, lab.seed))
            learn, judge = (data.of_planes(lab.source, half) for half in (second, first))
            return Domain("same", learn, judge, first, {})
        name = {"B": "target", "C": "shifted", "E": "photos"}[part]
        cells: PatchGrid = getattr(self, name)
        learn, judge = (
            data.of_planes(cells, half) for half in data.halves(data.folders(cells), lab.seed)
        )
        made = {"sensor": asdict(self.sensor)} if part == "C" else {}
        return Domain(name, learn, judge, held, made)


def scales(study: Study, lab: Lab) -> dict[str, Any]:
    """A: sizes of patches alone and together, and segments, on held-out source and target."""
    held = data.of_planes(lab.source, lab.crops[1])
    found = {
        "source": lab.judged("source-held", lab.model_path, held, {}),
        "target": lab.judged("target-all", lab.model_path, study.target, {}),
    }
    return {where: _plain(metrics) for where, metrics in found.items()}


def moved(part: str, study: Study, lab: Lab, methods: Sequence[str]) -> dict[str, Any]:
    """B to E: the methods on a domain, what the evidence said, and what the labels say of both."""
    domain, plan = study.domain(part, lab), TransferPlan(seed=lab.seed)
    out = lab.folder / f"part-{part}.json"

    def run(_: str) -> None:
        out.write_text(json.dumps(_moved(lab, domain, plan, methods), indent=1))

    what = {
        "learn": data.names_digest(domain.learn),
        "judge": data.names_digest(domain.judge),
        "held": domain.held.tolist(),
        "settings": asdict(lab.settings),
        "plan": plan.to_dict(),
        "methods": list(methods),
        **domain.made,
    }
    lab.done(f"part-{part}", [lab.model_path], what, out, run)
    return dict(json.loads(out.read_text()))


def _moved(lab: Lab, domain: Domain, plan: TransferPlan, methods: Sequence[str]) -> dict[str, Any]:
    found, names = lab.look(domain, plan), data.scheme().names
    maps = {"none": lab.judged(f"{domain.name}-none", lab.model_path, domain.judge, domain.made)}
    for method in (m for m in METHODS if m in methods and m != "none"):
        taken = _taken(method, lab, domain, plan, found)
        name = f"{domain.name}-{method}"
        if len(taken.selected.selected):
            path = lab.tuned(name, domain, taken, plan)
            maps[method] = lab.judged(name, path, domain.judge, domain.made)
        else:  # nothing to learn from: the model stays
            maps[method] = maps["none"]
    gained = maps["both"][ALL].overall_accuracy - maps["none"][ALL].overall_accuracy
    return {
        "methods": {method: _plain(metrics) for method, metrics in maps.items()},
        "samples": found.selected.table(names),
        "precision": precision(found.selected, domain.learn.ids, names),
        "evidence": found.evidence.to_dict(),
        "goes_on": found.evidence.proceeds,
        "true_gain": 100 * gained,
    }


def _taken(method: str, lab: Lab, domain: Domain, plan: TransferPlan, both: Round) -> Round:
    """What a method trains on."""
    if method == "pseudo":
        return lab.look(domain, replace(plan, agreement=0.0, entropy=1.0))
    return both if method == "both" else true_labels(both, domain.learn.ids)


def ablations(study: Study, lab: Lab, *, train: bool) -> dict[str, Any]:
    """F: pseudo-labels of the other sensor by threshold and neighbours; with `train`, models."""
    domain, usual = study.domain("C", lab), TransferPlan(seed=lab.seed)
    out = lab.folder / "part-F.json"
    plans = {
        **{f"threshold-{t:g}": replace(usual, threshold=t) for t in THRESHOLDS},
        **{f"neighbours-{k}": replace(usual, neighbours=k) for k in NEIGHBOURS},
    }

    def run(_: str) -> None:
        source, target = lab.samples(domain)
        found: dict[str, Any] = {}
        for name, plan in plans.items():
            chosen = select(source, target, plan)
            found[name] = {
                "samples": chosen.table(data.scheme().names),
                "precision": precision(chosen, domain.learn.ids, data.scheme().names),
            }
            if train and len(chosen.selected):
                which = "shifted-both" if plan == usual else f"shifted-{name}"
                path = lab.tuned(which, domain, lab.look(domain, plan), plan)
                maps = lab.judged(which, path, domain.judge, domain.made)
                found[name]["maps"] = _plain(maps)
        out.write_text(json.dumps(found, indent=1))

    what = {
        "learn": data.names_digest(domain.learn),
        "judge": data.names_digest(domain.judge),
        "plans": {n: p.to_dict() for n, p in plans.items()},
        "settings": asdict(lab.settings),
        "train": train,
        **domain.made,
    }
    lab.done("part-F", [lab.model_path], what, out, run)
    return dict(json.loads(out.read_text()))


def _plain(maps: dict[str, Metrics]) -> dict[str, Any]:
    return {kind: m.to_dict() for kind, m in maps.items()}
