"""ChipNet: a scene classifier as a base network, so that whole scenes can be mapped with it."""

from typing import Any

import torch
from torch import Tensor

from geopipe.nets.backbones.table import pretrained_on
from geopipe.nets.base import MIN_PROBABILITY, BaseNetwork
from geopipe.nets.chips.attention import AttentionNet
from geopipe.nets.chips.spec import ModelSpec
from geopipe.nets.chips.vector import VectorNet
from geopipe.nets.patches import BATCH, resized

_MIN_SIDE = 64
"""Below, pooling leaves nothing of some nets' maps."""


class ChipNet(BaseNetwork):
    """A classifier of chips of `chip` x `chip` px, one every `step` px, each resized to `side` px.

    The scores of a cell, the middle `step` x `step` px of a chip, are the logarithms of the chip's
    class probabilities. Every chip lies within `receptive_radius`, so any window on the grid of
    cells gives the same scores.
    """

    patchwise = True

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        model: str,
        chip: int = 256,
        step: int = 256,
        side: int = 224,
        hidden: int = 0,
        flat: bool = False,
    ) -> None:
        """`model`: see `ModelSpec`. Raises ValueError for values that make no net."""
        super().__init__()
        if bands != 3:
            raise ValueError(f"a backbone takes 3 bands, not {bands}")
        if step < 1 or step > chip or (chip - step) % 2 or side < _MIN_SIDE or hidden < 0:
            raise ValueError(
                f"chips of {chip} px every {step} px, resized to {side} px: a chip is as large as "
                f"a step or an even number of pixels larger, and side >= {_MIN_SIDE}"
            )
        self.model_spec = ModelSpec.parse(model)
        self.pretrained_on = pretrained_on(p.backbone for p in self.model_spec.parts)
        self.bands, self.classes, self.stride = bands, classes, step
        self.chip, self.side, self.hidden, self.flat = chip, side, hidden, flat
        self.receptive_radius = -(-(chip - step) // 2 // step) * step
        branches = len(self.model_spec.parts) + (self.model_spec.kind == "ddrl-am")
        self.floats_per_pixel, self.floats_per_batch = 3, branches * BATCH * side**2 * 48
        # The check of local layers (nets/local.py) leaves out what is called so: it sees one chip.
        self.backbone: VectorNet | AttentionNet = (
            AttentionNet(self.model_spec.parts[0], classes, side=side, flat=flat)
            if self.model_spec.kind == "ddrl-am"
            else VectorNet(self.model_spec.parts, classes, hidden)
        )

    @property
    def architecture(self) -> dict[str, Any]:
        return {
            "net": "scenes",
            "model": str(self.model_spec),
            "chip": self.chip,
            "step": self.stride,
            "side": self.side,
            "hidden": self.hidden,
            "flat": self.flat,
        }

    def forward(self, image: Tensor) -> Tensor:
        out = self.receptive_radius - (self.chip - self.stride) // 2
        inside = image[..., out : image.shape[-2] - out, out : image.shape[-1] - out]
        view = inside.unfold(2, self.chip, self.stride).unfold(3, self.chip, self.stride)
        view = view.permute(0, 2, 3, 1, 4, 5)
        scores = self.class_scores(view).clamp(min=MIN_PROBABILITY).log()
        scores = scores.reshape(*view.shape[:3], -1).permute(0, 3, 1, 2)
        return scores.repeat_interleave(self.stride, -2).repeat_interleave(self.stride, -1)

    def class_scores(self, chips: Tensor) -> Tensor:
        """Probabilities (n, classes) of chips (..., 3, h, w) of any size, a batch at a time."""
        rows = chips.shape[:-3]
        scores = []
        for part in torch.arange(rows.numel(), device=chips.device).split(BATCH):
            resized_chips = resized(chips[torch.unravel_index(part, rows)], self.side)
            scores.append(self.backbone(resized_chips).float().softmax(1))
        return torch.cat(scores)

    def parameter_groups(self) -> None:
        """Switch to training: all learns but step 1 of DDRL-AM.

        Batch norm of pretrained parts keeps its statistics of ImageNet, for those of small batches
        are noisy, and so that what a chip gets does not depend on the others; its scale and shift
        learn. What starts at random (the spatial feature transformer) takes those of the batch.
        """
        self.train().requires_grad_()
        for branch in self.backbone.pretrained:
            branch.eval()
        if isinstance(self.backbone, AttentionNet):
            for frozen in (self.backbone.attention_backbone, self.backbone.looker_head):
                frozen.eval().requires_grad_(False)

    def rates(self, pretrained: float, new: float) -> list[dict[str, Any]]:
        """Parameter groups of an optimizer: pretrained parts, and all others that learn."""
        old = [p for b in self.backbone.pretrained for p in b.parameters()]
        old_ids = {id(p) for p in old}
        new_parameters = [p for p in self.parameters() if p.requires_grad and id(p) not in old_ids]
        groups: list[dict[str, Any]] = [{"params": new_parameters, "lr": new}]
        return [{"params": old, "lr": pretrained}, *groups] if pretrained else groups
