"""Training settings of a scene classifier."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from geopipe.errors import ConfigError
from geopipe.learn.precision import TrainingPrecision

AttentionMode = Literal["predicted", "true"]


@dataclass(frozen=True)
class ChipTrainingPlan:
    """Adam with AMSGrad, a lower rate for what was learnt on ImageNet, both falling.

    Iftene et al.: the pretrained parts at a lower rate than the softmax, rates decreasing. Li et
    al., section IV-C: 1e-4 and 1e-3, the second times 0.1 after every ten of their 40 epochs; here
    both fall.
    """

    epochs: int = 10
    batch: int = 32
    lr: float = 1e-3
    """Of what starts at random."""
    pretrained_lr: float = 1e-4
    """0 freezes the pretrained parts."""
    decay: float = 0.1
    """What both rates are multiplied by after each quarter of the epochs."""
    augment: bool = True
    """Turn each chip, and its attention map with it, by one of the 8 symmetries of a square."""
    center: float = 0.0
    """Lambda of Li et al., eq. 6; 0: no center loss. Theirs: 0.5."""
    center_lr: float = 0.5
    attention: AttentionMode = "predicted"
    """Whose attention map DDRL-AM learns with, and is judged with: that of the class that step 1
    predicts, or, to show what it flatters, of the true one, which nobody knows in use."""
    seed: int = 0
    precision: TrainingPrecision = "auto"

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1 or min(self.lr, self.pretrained_lr, self.center) < 0:
            raise ConfigError(
                f"epochs={self.epochs}, batch={self.batch}, lr={self.lr:g}, "
                f"pretrained_lr={self.pretrained_lr:g}, center={self.center:g}: at least one epoch "
                "and chip, nothing negative"
            )
        if not 0 < self.decay <= 1 or not 0 < self.center_lr <= 1:
            raise ConfigError(
                f"decay={self.decay:g}, center_lr={self.center_lr:g}: above 0, at most 1"
            )

    def rate(self, done: float) -> float:
        """What the rates are multiplied by when the share `done` of the steps is done."""
        return float(self.decay ** int(4 * done))

    def plain(self) -> Self:
        """The same without center loss and attention: that of step 1."""
        return replace(self, center=0.0, center_lr=0.5, attention="predicted")
