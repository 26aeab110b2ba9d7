"""The ways to a map that are compared: settings of a workflow."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Method:
    """A workflow's settings, and what its two maps are called."""

    alone: str
    """The network that learnt from the training labels only."""
    with_tile: str
    """What the accurate tile makes of it."""
    settings: dict[str, str] = field(default_factory=dict)


def _finetuned(net: str) -> dict[str, str]:
    return {"base.net": net, "refinement.kind": "finetune"}


FOREST = "forest"
METHODS = {
    FOREST: Method(
        "random forest on the training labels",
        "random forest on the accurate tile",
        {"gsd": "1.0", "base.net": "cnn"},
    ),
    "cnn-rnn": Method("CNN", "CNN+RNN", {"gsd": "1.0", "base.net": "cnn"}),
    "unet": Method("U-Net", "U-Net fine-tuned", {"gsd": "1.0", **_finetuned("unet")}),
    "lite-unet": Method(
        "lite-unet, as in decision 16",
        "the same, fine-tuned",
        {"gsd": "1.0", "schedule": "paper", **_finetuned("lite-unet")},
    ),
    "auto": Method("default without an accurate tile", "default"),
}
