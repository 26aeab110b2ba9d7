"""How fast this machine trains and maps, measured in a few seconds."""

from collections.abc import Iterator

from geopipe.doctor.finding import Finding, Probe

_FOREZ_KM2 = 4.2
"""Training scene of ``make forez-map``, whose labels are aligned."""
_FOREZ_MPX = 2.1
"""Net pixels of its test scene, in millions: mapped, and mapped again for the evaluation."""


def _speed() -> Iterator[Finding]:
    import torch

    from geopipe.classes import load_scheme
    from geopipe.learn.base_network import BaseNetworkPlan
    from geopipe.learn.refinement import RefinementPlan
    from geopipe.progress import duration
    from geopipe.workflow.estimate import Work, estimate

    yield Finding("speed", "instructions", torch.backends.cpu.get_cpu_capability())
    work = Work(BaseNetworkPlan.of(), RefinementPlan.of(), _FOREZ_MPX, _FOREZ_KM2)
    estimated = estimate(work, load_scheme("buildings-roads"))
    assert work.refinement is not None
    rates = {
        "training, CNN": f"{work.base.steps / estimated.base_network:.2g} steps/s",
        "training, refinement": f"{work.refinement.steps / estimated.sharpening:.2g} steps/s",
        "mapping, CNN+RNN": f"{work.mapped_mpx / estimated.mapping:.2g} million pixels of 1 m/s",
        "make forez-map": f"about {duration(estimated.total)}, installation aside",
    }
    for name, value in rates.items():
        yield Finding("speed", name, value)


PROBES = (Probe("speed", "speed", _speed, ("torch",)),)
