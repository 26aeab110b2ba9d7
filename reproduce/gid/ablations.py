"""The parts of the study; each takes a seed's `Lab` and gives plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from geopipe.errors import LabelError
from geopipe.learn.patches import PatchGrid
from geopipe.learn.transfer import TransferPlan, select, standardized
from geopipe.learn.transfer.rounds import Round
from geopipe.metrics import Metrics
from geopipe.validation import read_json
from reproduce.gid import data
from reproduce.gid.experiment import Domain, Experiment, true_labels
from reproduce.gid.metrics import ALL, precision
from reproduce.gid.overlap import shared_with_source
from reproduce.gid.sensor import Sensor, write_simulated

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
    def shared(self) -> frozenset[str]:
        """Target crops that share pixels with source crops: 167 of 386; they are left out."""
        return shared_with_source(self.gid)

    @cached_property
    def target(self) -> PatchGrid:
        """All cells of the fifteen-class crops, in five classes."""
        target = self.gid / "target"
        patches = data.crops(target / "image", target / "label", self.shared)
        data.check_merged(patches, data.FINE, data.scheme())
        return patches

    @cached_property
    def groups(self) -> np.ndarray:
        """(crops,) equal for target crops that share pixels."""
        return data.groups(self.target)

    @cached_property
    def shifted(self) -> PatchGrid:
        """The same as another sensor would see them; written once."""
        folder, record = self.out / "shifted", self.out / "shifted.json"
        expected = json.dumps({**asdict(self.sensor), "crops": data.names_digest(self.target)})
        if not record.exists() or record.read_text() != expected:
            record.unlink(missing_ok=True)
            write_simulated(self.gid / "target" / "image", folder, self.sensor)
            record.write_text(expected)
        return data.crops(folder, self.gid / "target" / "label", self.shared)

    @cached_property
    def photos(self) -> PatchGrid:
        """All cells of the foreign photographs."""
        assert self.foreign is not None
        return data.photographs(self.foreign, self.photographs)

    def domain(self, part: str, lab: Experiment) -> Domain:
        """Where part B, C, D or E is to go."""
        test_crops = lab.crops[1]
        if part == "D":
            names = np.array(data.folders(lab.source))[test_crops].tolist()
            groups = data.groups(lab.source, test_crops)
            first, second = (test_crops[half] for half in data.halves(names, lab.seed, groups))
            train, test = (data.of_rasters(lab.source, half) for half in (second, first))
            return Domain("same", train, test, first, {})
        name = {"B": "target", "C": "shifted", "E": "photos"}[part]
        patches: PatchGrid = getattr(self, name)
        # The simulated sensor sees the same crops, so their groups are those of the originals.
        crop_groups = None if part == "E" else self.groups
        train, test = (
            data.of_rasters(patches, half)
            for half in data.halves(data.folders(patches), lab.seed, crop_groups)
        )
        parameters = {"sensor": asdict(self.sensor)} if part == "C" else {}
        return Domain(name, train, test, test_crops, parameters)


def scales(study: Study, lab: Experiment) -> dict[str, Any]:
    """A: sizes of patches alone and together, and segments, on held-out source and target."""
    test_patches = data.of_rasters(lab.source, lab.crops[1])
    results = {
        "source": lab.evaluate("source-held", lab.model_path, test_patches, {}),
        "target": lab.evaluate("target-all", lab.model_path, study.target, {}),
    }
    return {where: _plain(metrics) for where, metrics in results.items()}


def transfer_part(
    part: str, study: Study, lab: Experiment, methods: Sequence[str]
) -> dict[str, Any]:
    """B to E: the methods on a domain, what the evidence said, and what the labels say of both."""
    domain, plan = study.domain(part, lab), TransferPlan(seed=lab.seed)
    out = lab.folder / f"part-{part}.json"

    def run(_: str) -> None:
        out.write_text(json.dumps(_transfer_methods(lab, domain, plan, methods), indent=1))

    parameters = {
        "learn": data.names_digest(domain.train),
        "judge": data.names_digest(domain.test),
        "held": domain.test_crops.tolist(),
        "settings": asdict(lab.settings),
        "plan": plan.to_dict(),
        "methods": list(methods),
        **domain.parameters,
    }
    lab.done(f"part-{part}", [lab.model_path], parameters, out, run)
    return dict(read_json(out, dict[str, JsonValue], LabelError, f"remove {out}; it is made again"))


def _transfer_methods(
    lab: Experiment, domain: Domain, plan: TransferPlan, methods: Sequence[str]
) -> dict[str, Any]:
    selected, names = lab.select_samples(domain, plan), data.scheme().names
    maps = {
        "none": lab.evaluate(f"{domain.name}-none", lab.model_path, domain.test, domain.parameters)
    }
    for method in (m for m in METHODS if m in methods and m != "none"):
        method_round = _round_of(method, lab, domain, plan, selected)
        name = f"{domain.name}-{method}"
        if len(method_round.selected.selected):
            path = lab.train_transferred(name, domain, method_round, plan)
            maps[method] = lab.evaluate(name, path, domain.test, domain.parameters)
        else:  # nothing to learn from: the model stays
            maps[method] = maps["none"]
    gained = maps["both"][ALL].overall_accuracy - maps["none"][ALL].overall_accuracy
    return {
        "methods": {method: _plain(metrics) for method, metrics in maps.items()},
        "samples": selected.selected.table(names),
        "precision": precision(selected.selected, domain.train.ids, names),
        "evidence": selected.evidence.to_dict(),
        "goes_on": selected.evidence.proceeds,
        "true_gain": 100 * gained,
    }


def _round_of(
    method: str, lab: Experiment, domain: Domain, plan: TransferPlan, full_round: Round
) -> Round:
    """What a method trains on."""
    if method == "pseudo":
        return lab.select_samples(domain, replace(plan, agreement=0.0, entropy=1.0))
    return full_round if method == "both" else true_labels(full_round, domain.train.ids)


def ablations(study: Study, lab: Experiment, *, train: bool) -> dict[str, Any]:
    """F: pseudo-labels of the other sensor by threshold and neighbours; with `train`, models."""
    domain, usual = study.domain("C", lab), TransferPlan(seed=lab.seed)
    out = lab.folder / "part-F.json"
    plans = {
        **{f"threshold-{t:g}": replace(usual, threshold=t) for t in THRESHOLDS},
        **{f"neighbours-{k}": replace(usual, neighbours=k) for k in NEIGHBOURS},
    }

    def run(_: str) -> None:
        source, target = standardized(*lab.samples(domain))
        results: dict[str, Any] = {}
        for name, plan in plans.items():
            selection = select(source, target, plan)
            results[name] = {
                "samples": selection.table(data.scheme().names),
                "precision": precision(selection, domain.train.ids, data.scheme().names),
            }
            if train and len(selection.selected):
                run_name = "shifted-both" if plan == usual else f"shifted-{name}"
                path = lab.train_transferred(
                    run_name, domain, lab.select_samples(domain, plan), plan
                )
                maps = lab.evaluate(run_name, path, domain.test, domain.parameters)
                results[name]["maps"] = _plain(maps)
        out.write_text(json.dumps(results, indent=1))

    parameters = {
        "learn": data.names_digest(domain.train),
        "judge": data.names_digest(domain.test),
        "plans": {n: p.to_dict() for n, p in plans.items()},
        "settings": asdict(lab.settings),
        "train": train,
        **domain.parameters,
    }
    lab.done("part-F", [lab.model_path], parameters, out, run)
    return dict(read_json(out, dict[str, JsonValue], LabelError, f"remove {out}; it is made again"))


def _plain(maps: dict[str, Metrics]) -> dict[str, Any]:
    return {kind: m.to_dict() for kind, m in maps.items()}
