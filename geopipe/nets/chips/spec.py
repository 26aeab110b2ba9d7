"""ModelSpec: the parts of a scene classifier, as in ``fusion:googlenet.im+alexnet.c5``."""

from dataclasses import dataclass
from typing import Literal, Self

from geopipe.errors import ConfigError
from geopipe.nets.backbones import backbone

Kind = Literal["finetune", "fusion", "ddrl-am"]

_ATTENTIVE = ("resnet18", "resnet50", "efficientnet_lite0", "mobilenet_v2")
"""Backbones whose last map is ceil(side / 32) wide, as that of the spatial feature transformer;
that of GoogLeNet is narrower at some sides, 112 px for one."""
_HINT = "e.g. finetune:resnet18, fusion:googlenet.im+alexnet.c5 or ddrl-am"


@dataclass(frozen=True, slots=True)
class BackboneFeature:
    """A backbone, and which of its features is used."""

    backbone: str
    feature: str

    @classmethod
    def parse(cls, text: str, feature: str = "") -> Self:
        """``NET`` or ``NET.FEATURE``; without one `feature`, or else im, or else c5."""
        name, dot, feature_name = text.partition(".")
        spec = backbone(name)
        feature_name = feature_name if dot else feature or ("im" if "im" in spec.features else "c5")
        if feature_name not in spec.features:
            raise ConfigError(
                f"{name} has no feature {feature_name!r}", f"one of {', '.join(spec.features)}"
            )
        return cls(name, feature_name)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A kind of classifier and its backbones; ``str`` gives the word it is parsed from."""

    kind: Kind
    parts: tuple[BackboneFeature, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """``finetune:NET``, ``fusion:A+B`` or ``ddrl-am[:NET]``; NET may name a ``.FEATURE``.

        Raises ConfigError for anything else.
        """
        kind, _, nets = text.strip().partition(":")
        names = [name.strip() for name in nets.split("+")] if nets else []
        match kind, len(names):
            case "finetune", 1:
                return cls("finetune", (BackboneFeature.parse(names[0], "pooled"),))
            case "fusion", 2:
                return cls("fusion", tuple(BackboneFeature.parse(name) for name in names))
            case "ddrl-am", 0 | 1:
                part = BackboneFeature.parse(names[0] if names else "resnet18", "c5")
                if part.backbone not in _ATTENTIVE or part.feature != "c5":
                    raise ConfigError(
                        f"ddrl-am multiplies maps of a 32nd of the image, {names[0]} gives no such",
                        f"one of {', '.join(_ATTENTIVE)}",
                    )
                return cls("ddrl-am", (part,))
        raise ConfigError(f"no scene classifier {text!r}", _HINT)

    def __str__(self) -> str:
        return f"{self.kind}:" + "+".join(f"{p.backbone}.{p.feature}" for p in self.parts)
