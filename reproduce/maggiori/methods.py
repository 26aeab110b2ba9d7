"""The methods that are compared: each trains what it needs and gives metrics and a map."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geopipe.checkpoint import Checkpoint
from geopipe.evaluation.iterations import IterationMetrics
from geopipe.grid import Window
from geopipe.learn import BaseNetworkPlan
from geopipe.metrics import Metrics
from geopipe.nets import RefinementRNN, SegmentationModel
from geopipe.networks import BaseNetworkName
from reproduce.maggiori import crf, forest
from reproduce.maggiori.maps import labelled
from reproduce.site import Site

BEYOND = 15
"""Iterations that a refinement trained for five is run for, to see whether it diverges."""


@dataclass(frozen=True)
class Run:
    """What a method did with one seed."""

    steps: tuple[Metrics, ...]
    """On the test scene after 0, 1... iterations; one for a method without any."""
    map: Path
    """The class map of the test scene."""
    model: Path | None = None
    trained: tuple[Metrics, ...] = ()
    """On the tile it was trained on, where that is asked."""


@dataclass(frozen=True)
class Method:
    """A row of the tables."""

    name: str
    does: Callable[[Site, int], Run]
    paper: tuple[float, ...] = ()
    """Overall accuracy, mean IoU, IoU of building, road, background in the paper, percent."""


def coarse_model(site: Site, seed: int) -> Path:
    """The CNN on noisy labels, which all the paper's methods start from."""
    return site.coarse(f"raw-{seed}", site.labels("train"), BaseNetworkPlan(seed=seed))


def cnn(site: Site, seed: int) -> Run:
    """The coarse CNN alone."""
    model = coarse_model(site, seed)
    return _evaluated(site.evaluated(f"raw-{seed}", model), model)


def rnn(site: Site, seed: int) -> Run:
    """The refinement of the paper."""
    return _refined(site, seed, "rnn")


def agnostic(site: Site, seed: int) -> Run:
    """One update function for all classes."""
    return _refined(site, seed, "agnostic", class_agnostic=True)


def unshared(site: Site, seed: int) -> Run:
    """Own weights for each iteration."""
    return _refined(site, seed, "unshared", recurrent=False)


def _refined(site: Site, seed: int, tag: str, **changes: bool) -> Run:
    name = f"{tag}-{seed}"
    model = site.refined(name, coarse_model(site, seed), site.refine_plan(seed, **changes))
    previous = site.evaluated(name, model, "enhance").steps
    return _evaluated(site.evaluated(name, model), model, previous)


def beyond(site: Site, seed: int) -> Run:
    """The refinement of the paper, run for more iterations than it was trained for."""
    trained = rnn(site, seed).model
    assert trained is not None
    name = f"beyond-{seed}"
    longer = site.out / name / "refined.safetensors"

    def unroll(_: str) -> None:
        model = Checkpoint.load(trained)
        short = model.net.postprocessor
        assert isinstance(short, RefinementRNN)
        refine = RefinementRNN(
            short.bands, short.classes, iterations=BEYOND, class_agnostic=short.class_agnostic
        )
        refine.load_state_dict(short.state_dict())
        model.with_net(SegmentationModel(model.net.base, refine.eval()), {}).save(longer)

    site.done(f"{name}-unrolled", [trained], {"iterations": BEYOND}, longer, unroll)
    return _evaluated(site.evaluated(name, longer), longer)


def with_crf(site: Site, seed: int) -> Run:
    """The dense CRF on the coarse CNN's scores, its energy chosen on the enhancement tile."""
    return _crf(site, seed, "crf", (0.0,))


def with_shares_and_crf(site: Site, seed: int) -> Run:
    """As above, the scores first corrected for the class shares of the enhancement tile."""
    return _crf(site, seed, "crf-shares", crf.TAUS)


def with_shares(site: Site, seed: int) -> Run:
    """The coarse CNN with that correction alone."""
    return _crf(site, seed, "crf-shares", crf.TAUS, unary_only=True)


def _crf(
    site: Site, seed: int, tag: str, taus: Sequence[float], *, unary_only: bool = False
) -> Run:
    folder = site.out / f"{tag}-{seed}"
    search_file, source = folder / "search.json", coarse_model(site, seed)
    maps = {False: folder / "map.tif", True: folder / "alone.tif"}

    def search(_: str) -> None:
        model = Checkpoint.load(source)
        best = crf.search(model, site.scene("enhance"), site.labels("enhance"), taus)
        window = _evaluation_window(site)
        crf.apply(model, site.scene("test"), best.best, maps[False], window)
        crf.apply(model, site.scene("test"), best.unary_only.energy, maps[True], window)
        search_file.write_text(json.dumps(best.to_dict(), indent=1))

    inputs = [source, site.labels("enhance")]
    site.done(f"{tag}-{seed}", inputs, {"taus": list(taus)}, search_file, search)
    name = f"{tag}-{seed}-alone" if unary_only else f"{tag}-{seed}"
    return Run((site.scored(name, maps[unary_only]),), maps[unary_only], source)


def _evaluation_window(site: Site) -> Window:
    """The part of the test scene that is labelled; the rest need not be mapped."""
    return labelled(site.scene("test"), site.labels("test"), site.scheme)


def forest_on_noisy(site: Site, seed: int) -> Run:
    """A random forest on OpenStreetMap's labels."""
    return _forest(site, seed, "forest-noisy")


def forest_on_accurate(site: Site, seed: int) -> Run:
    """A random forest on the enhancement tile."""
    return _forest(site, seed, "forest-accurate")


def _forest(site: Site, seed: int, tag: str) -> Run:
    map_path = site.out / f"{tag}-{seed}" / "map.tif"
    accurate = (site.scene("enhance"), site.labels("enhance"))
    noisy = (site.scene("train"), site.labels("train"))

    def grow(_: str) -> None:
        if tag == "forest-noisy":
            grown = forest.train_on_noisy(noisy, accurate, site.scheme, seed)
        else:
            grown = forest.train_on_accurate(accurate, site.scheme, seed)
        forest.apply(grown, site.scene("test"), site.scheme, map_path, _evaluation_window(site))

    site.done(f"{tag}-{seed}", [accurate[1], noisy[1]], {"seed": seed}, map_path, grow)
    return Run((site.scored(f"{tag}-{seed}", map_path),), map_path)


def unet(site: Site, seed: int, net: BaseNetworkName = "unet") -> Run:
    """A U-Net straight on the noisy labels."""
    name = f"{net}-{seed}"
    model = site.coarse(name, site.labels("train"), BaseNetworkPlan.of(net, seed=seed))
    return _evaluated(site.evaluated(name, model), model)


def unet_tuned(site: Site, seed: int, net: BaseNetworkName = "unet") -> Run:
    """The same U-Net fine-tuned on the enhancement tile."""
    return _fine_tuned(site, seed, f"{net}-tuned", unet(site, seed, net), net)


def cnn_tuned(site: Site, seed: int) -> Run:
    """The coarse CNN fine-tuned on the enhancement tile."""
    return _fine_tuned(site, seed, "cnn-tuned", cnn(site, seed))


def _fine_tuned(site: Site, seed: int, tag: str, start: Run, net: BaseNetworkName = "cnn") -> Run:
    assert start.model is not None
    model = site.finetuned(f"{tag}-{seed}", start.model, seed, net)
    return _evaluated(site.evaluated(f"{tag}-{seed}", model), model)


def _evaluated(metrics: IterationMetrics, model: Path, previous: tuple[Metrics, ...] = ()) -> Run:
    return Run(metrics.steps, metrics.maps[-1], model, previous)


METHODS = {
    "cnn": Method("CNN", cnn, (96.72, 48.32, 38.92, 9.34, 96.69)),
    "crf": Method("CNN+CRF", with_crf, (96.96, 44.15, 29.05, 6.62, 96.78)),
    "agnostic": Method("class-agnostic CNN+RNN", agnostic, (97.78, 65.30, 59.12, 39.03, 97.74)),
    "rnn": Method("CNN+RNN", rnn, (98.24, 72.90, 69.16, 51.32, 98.20)),
    "unshared": Method("non-recurrent", unshared),
    "beyond": Method("CNN+RNN, run on", beyond),
    "shares": Method("CNN, class shares corrected", with_shares),
    "crf-shares": Method("CNN+CRF, class shares corrected", with_shares_and_crf),
    "cnn-tuned": Method("CNN fine-tuned", cnn_tuned),
    "unet": Method("U-Net", unet),
    "unet-tuned": Method("U-Net fine-tuned", unet_tuned),
    "lite-unet": Method("U-Net from ImageNet", partial(unet, net="lite-unet")),
    "lite-unet-tuned": Method(
        "U-Net from ImageNet, fine-tuned", partial(unet_tuned, net="lite-unet")
    ),
    "forest-noisy": Method("random forest, OSM labels", forest_on_noisy),
    "forest-accurate": Method("random forest, accurate tile", forest_on_accurate),
}
"""In the order of the tables; the paper's first."""
