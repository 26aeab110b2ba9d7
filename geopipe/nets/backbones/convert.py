"""Weights under other projects' keys, converted to a BackboneNet's."""

import torch
from torch import Tensor

from geopipe.errors import CheckpointError
from geopipe.nets.backbones.build import empty_backbone
from geopipe.nets.backbones.dinov2_keys import to_hub_keys
from geopipe.nets.backbones.net import BackboneNet

_LPIPS = {"alexnet": "AlexNet_0/", "vgg16": "VGG16_0/"}
_LPIPS_HEADS = "NetLinLayer_"
_DAMAGED = "copy the file again"


def filled_backbone(name: str, raw: dict[str, Tensor], where: str) -> BackboneNet:
    """The net with the tensors of `raw`, in training mode, float32.

    Keys are the published ones of the net (torchvision's, Caffe's, of the package, torch hub's),
    the net's own, LPIPS's in Flax, or Hugging Face's of DINOv2. Every key is accounted for. Whole
    layers at the end may lack: then the net ends before them. Raises CheckpointError, naming keys,
    for all else; `where` is told in it.
    """
    net, published = empty_backbone(name)
    net_state = net.state_dict()
    if name in _LPIPS and any(key.startswith(_LPIPS[name]) for key in raw):
        raw = _from_lpips(raw, _LPIPS[name], published)
    if name == "mobilenet_v2" and "features.2.conv.0.weight" in raw:
        raw = {_from_flat_mobilenet(key): value for key, value in raw.items()}
    if name == "dinov2_vits14" and not raw.keys() <= net_state.keys():
        raw = to_hub_keys(raw)
    first = next(iter(net_state))
    state: dict[str, Tensor] = {}
    unexpected = [key for key in raw if key not in net_state and key not in published]
    if unexpected:
        raise CheckpointError(
            f"{where} is not a {name} that is known here: "
            f"{len(unexpected)} unexpected keys, such as {_short_list(unexpected)}",
            f"keys are expected such as {_short_list(list(published))}",
        )
    for key, tensor in raw.items():
        target = key if key in net_state else published[key]
        value = _shaped(tensor, net_state[target], f"{where}: {key}")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{where}: {key} holds values that are no numbers", _DAMAGED)
        turned = net.spec.bgr and target == first and key in published
        state[target] = value.flip(1) if turned else value
    missing = [key for key in net_state if key not in state and not is_counter(key)]
    state = {
        k: torch.zeros(v.shape, dtype=v.dtype) for k, v in net_state.items() if is_counter(k)
    } | state
    _drop_missing(net, missing, where)
    net.load_state_dict({key: state[key] for key in net.state_dict()}, assign=True)
    return net.arranged()


def _drop_missing(net: BackboneNet, missing: list[str], where: str) -> None:
    """Cut the net before weights that a file leaves out; only whole blocks at its end may lack."""
    missing_blocks = {key.split(".")[1] for key in missing}
    complete = [f for f in net.features if not missing_blocks & _blocks(net, f)]
    before = [key for key in net.state_dict() if not is_counter(key)]
    if "pooled" in complete:
        net.truncated(complete[-1])
        kept_keys = set(net.state_dict())
        if {key for key in before if key not in kept_keys} == set(missing):
            return
    raise CheckpointError(
        f"{where} lacks {len(missing)} of {len(before)} weights of {net.spec.name}, "
        f"such as {_short_list(missing)}",
        f"only whole layers at the end may lack; {_DAMAGED}",
    )


def _blocks(net: BackboneNet, feature: str) -> set[str]:
    parts = net.parts(feature)
    return {name for name, block in net.blocks.items() if any(block is part for part in parts)}


def _from_lpips(
    raw: dict[str, Tensor], prefix: str, published: dict[str, str]
) -> dict[str, Tensor]:
    """Flax's Conv_0, Conv_1, ... with kernels (h, w, in, out), to torchvision's keys.

    The linear heads of the LPIPS distance are no part of the net and left out.
    """
    convs = [
        key.removesuffix(".weight")
        for key in published
        if key.startswith("features.") and key.endswith(".weight")
    ]
    flax = {f"{prefix}Conv_{i}/kernel": f"{conv}.weight" for i, conv in enumerate(convs)}
    flax |= {f"{prefix}Conv_{i}/bias": f"{conv}.bias" for i, conv in enumerate(convs)}
    return {
        flax.get(key, key): value.permute(3, 2, 0, 1) if value.ndim == 4 else value
        for key, value in raw.items()
        if not key.startswith(_LPIPS_HEADS)
    }


def _from_flat_mobilenet(key: str) -> str:
    """Keys of torchvision before 0.4, where convolution, norm and ReLU lay side by side in a block.

    Layers 0, 1 | 3, 4 | 6, 7 of a block became 0.0, 0.1 | 1.0, 1.1 | 2, 3; block 1 lacks the first.
    """
    match key.split("."):
        case ["features", block, "conv", layer, *rest]:
            group, member = divmod(int(layer), 3)
            groups = 1 if block == "1" else 2
            new = f"{group}.{member}" if group < groups else str(groups + member)
            return ".".join(["features", block, "conv", new, *rest])
    return key


def _shaped(tensor: Tensor, like: Tensor, name: str) -> Tensor:
    """`tensor` in shape and type of `like`; Caffe writes vectors and matrices with ones around."""
    if [n for n in tensor.shape if n != 1] != [n for n in like.shape if n != 1]:
        raise CheckpointError(
            f"{name} has shape {tuple(tensor.shape)}, the net wants {tuple(like.shape)}",
            "is it the file of another net?",
        )
    return tensor.reshape(like.shape).to(like.dtype).contiguous()


def is_counter(key: str) -> bool:
    """Whether `key` is batch norm's count of batches, which is no weight."""
    return key.endswith(".num_batches_tracked")


def _short_list(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
