"""The figures of Ge et al., tables 2 to 4: mAP in percent, ANMRR of fc6."""

from __future__ import annotations

NAMES = {
    "alexnet": "CNN-Alex",
    "caffenet": "CNN-Alex",
    "cnn_m": "CNN-M",
    "vgg16": "CNN-16",
    "vgg19": "CNN-19",
}
"""The paper's names of networks; its CNN-Alex is MatConvNet's AlexNet, trained as CaffeNet was."""
_LAYERS = ("pool5", "fc6", "fc7")
_MAP = {
    "ucmerced": {
        "CNN-Alex": (45.9, 52.4, 49.3),
        "CNN-M": (50.6, 55.8, 54.9),
        "CNN-16": (53.6, 55.3, 53.3),
        "CNN-19": (52.3, 54.6, 52.0),
    },
    "whu-rs": {
        "CNN-Alex": (55.1, 62.3, 62.2),
        "CNN-M": (59.2, 65.6, 64.6),
        "CNN-16": (58.1, 64.5, 63.3),
        "CNN-19": (56.6, 62.5, 60.8),
    },
}
_ANMRR = {
    "ucmerced": {"CNN-Alex": 0.405, "CNN-M": 0.370, "CNN-16": 0.374, "CNN-19": 0.380},
    "whu-rs": {"CNN-Alex": 0.308, "CNN-M": 0.278, "CNN-16": 0.291, "CNN-19": 0.308},
}
BOVW = {"ucmerced": (30.2, 0.601), "whu-rs": (38.9, 0.525)}
"""mAP in percent and ANMRR of 150 visual words."""


def table(data: str) -> list[str]:
    """All of them as Markdown, also of the networks whose weights are not here."""
    lines = ["| network | mAP % of pool5 | fc6 | fc7 | ANMRR of fc6 |", "|---|---:|---:|---:|---:|"]
    for name, figures in _MAP.get(data, {}).items():
        lines.append(f"| {name} | {' | '.join(map(str, figures))} | {_ANMRR[data][name]:.3f} |")
    value, rank = BOVW[data]
    return [*lines, f"| BoVW, 150 words | {value} | | | {rank:.3f} |"]


def mean_ap(data: str, backbone: str, feature: str) -> float | None:
    """The paper's mAP in percent; None where it has none."""
    value = _MAP.get(data, {}).get(NAMES.get(backbone, ""))
    return value[_LAYERS.index(feature)] if value and feature in _LAYERS else None


def anmrr(data: str, backbone: str, feature: str) -> float | None:
    """The paper's ANMRR, which it gives of fc6."""
    return _ANMRR.get(data, {}).get(NAMES.get(backbone, "")) if feature == "fc6" else None
