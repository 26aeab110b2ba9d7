"""Measure how far a net looks, to hold its declared reach against."""

from typing import Any

import torch
from torch import Tensor, nn

from geopipe.errors import ConfigError
from geopipe.nets.segmentation import SegmentationModel, center

_EXTRA_PX = 32
"""Pixels beyond the declared halo that the probe looks at, at least."""
_NOISE_DRAWS = 8
_ROUNDING = 1e-5
"""Relative difference between two float32 forwards of one net that is still rounding."""


def measured_halo(net: SegmentationModel, bands: int) -> int:
    """Pixels around a stride-aligned block that its outputs depend on, found by a gradient probe.

    The gradient of one stride period of outputs is taken with respect to the input, over several
    draws of noise, so that every ReLU opens for some: the true support of the weights. The input
    is larger than the declared halo by as much again and at least 32 pixels; a net that looks
    further still, or everywhere, is measured as looking to its border. Raises ConfigError when the
    net does not use up the halo it declares.
    """
    size, margin = net.stride, net.halo + _margin(net)
    is_used = torch.zeros(size + 2 * margin, size + 2 * margin, dtype=torch.bool)
    for seed in range(_NOISE_DRAWS):
        image = _noise(net, bands, seed).requires_grad_()
        with torch.enable_grad():
            block = center(_scores(net, image), torch.Size((size, size)))
            (gradient,) = torch.autograd.grad(block.square().sum(), image)
        is_used |= gradient[0].abs().sum(0).cpu() > 0
    if not is_used.any():
        return 0
    rows, cols = is_used.any(1).nonzero(), is_used.any(0).nonzero()
    first = min(int(rows[0]), int(cols[0]))
    last = max(int(rows[-1]), int(cols[-1]))
    return max(margin - first, last - (size + margin - 1), 0)


def check_receptive_field(net: SegmentationModel, bands: int) -> int:
    """The measured halo; raises ConfigError for a net that looks further than it declares.

    Also for one whose scores depend on where a window lies in ways that gradients do not show: a
    stride larger than declared, pixel positions, statistics of the image.
    """
    measured, margin = measured_halo(net, bands), net.halo + _margin(net)
    if measured > net.halo:
        measured_text = f"at least {measured}" if measured == margin else f"{measured}"
        raise ConfigError(
            f"the net looks {measured_text} px far and declares a halo of {net.halo} px; "
            f"first too far: {_exceeds_halo(net, bands)}",
            "declare its true receptive-field radius; `inexact` maps with seams",
        )
    difference = _difference_of_a_window(net, bands)
    if not difference <= _ROUNDING:
        raise ConfigError(
            f"a window's scores differ from the whole's by {difference:.1e} of the largest, though "
            f"the net looks no further than {measured} px: its stride is not {net.stride}, or it "
            "uses pixel positions or statistics of the image",
            "declare its true stride; `inexact` maps with seams",
        )
    return measured


def _margin(net: SegmentationModel) -> int:
    """Output pixels around the probed block: a multiple of the stride."""
    return -(-max(net.halo, _EXTRA_PX) // net.stride) * net.stride


def _noise(net: SegmentationModel, bands: int, seed: int = 0) -> Tensor:
    """Image (1, bands, side, side) that gives one stride period of scores and a margin around."""
    side = net.stride + 2 * (net.halo + _margin(net))
    image = torch.randn((1, bands, side, side), generator=torch.Generator().manual_seed(seed))
    return image.to(next((p.device for p in net.parameters()), "cpu"))


def _scores(net: SegmentationModel, image: Tensor) -> Tensor:
    """The net's forward, held against the size that its halo promises."""
    rows, cols = image.shape[-2:]
    expected = (rows - 2 * net.halo, cols - 2 * net.halo)
    try:
        scores: Tensor = net(image)
        actual = f"{scores.shape[-2]} x {scores.shape[-1]}"
        if scores.shape[-2:] == expected:
            return scores
    except RuntimeError as e:
        actual = f"no scores ({str(e).splitlines()[0]})"
    raise ConfigError(
        f"the net declares a halo of {net.halo} px and a stride of {net.stride}, so {rows} x "
        f"{cols} px make {expected[0]} x {expected[1]} scores, but its layers make {actual}",
        "declare the receptive-field radius and the stride that its layers have",
    )


def _difference_of_a_window(net: SegmentationModel, bands: int) -> float:
    """max |window - whole| over the largest score, for a window as small as can be.

    Its corner lies where a net of a larger stride than declared sees another phase.
    """
    image, stride, margin = _noise(net, bands), net.stride, _margin(net)
    top, right = margin - stride, margin
    with torch.inference_mode():
        full_scores = _scores(net, image)
        part = _scores(net, image[..., top:-margin, right:-margin])
    expected = full_scores[..., top:-margin, right:-margin]
    return float((part - expected).abs().max() / full_scores.abs().max().clamp(1e-6))


def _exceeds_halo(net: SegmentationModel, bands: int) -> str:
    """The innermost layer whose middle changes with far pixels though that of its input did not."""
    image, perturbed = _noise(net, bands), _noise(net, bands, seed=1)
    margin = _margin(net)
    perturbed[..., margin:-margin, margin:-margin] = image[..., margin:-margin, margin:-margin]
    for (path, *before), (_, *after) in zip(
        _layer_centers(net, image), _layer_centers(net, perturbed), strict=True
    ):
        (inputs, outputs), (perturbed_inputs, perturbed_outputs) = before, after
        if _all_close(inputs, perturbed_inputs) and not _all_close(outputs, perturbed_outputs):
            return path
    return f"net: {type(net).__name__}"


def _layer_centers(net: nn.Module, image: Tensor) -> list[tuple[str, list[Tensor], list[Tensor]]]:
    """(path: ClassName, middles of inputs, middles of outputs) of each layer, inner ones first."""
    records: list[tuple[str, list[Tensor], list[Tensor]]] = []

    def hook(path: str) -> Any:
        def record(module: nn.Module, inputs: Any, outputs: Any) -> None:
            name = f"{path or 'net'}: {type(module).__name__}"
            records.append((name, _center_values(inputs), _center_values(outputs)))

        return record

    handles = [m.register_forward_hook(hook(path)) for path, m in net.named_modules()]
    try:
        with torch.inference_mode():
            net(image)
    finally:
        for handle in handles:
            handle.remove()
    return records


def _center_values(value: Any) -> list[Tensor]:
    tensors = value if isinstance(value, tuple | list) else [value]
    return [
        t[..., t.shape[-2] // 2, t.shape[-1] // 2] if t.ndim >= 4 else t
        for t in tensors
        if isinstance(t, Tensor)
    ]


def _all_close(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, rtol=_ROUNDING, atol=1e-6) for x, y in zip(a, b, strict=True))
