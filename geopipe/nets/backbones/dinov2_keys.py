"""Weights of DINOv2 under the keys of Hugging Face and of exported files, to those of torch hub."""

import re

import torch
from torch import Tensor

_PREFIXES = ("module.", "model.", "backbone.", "dinov2.")
"""What wrappers put before every key."""
_TUNED_HEAD = "decoder."
"""Layers of another task: the last blocks were fine-tuned for it."""
_UNTUNED_BLOCKS = 9
"""Blocks 0 to 8 of such a file differ little from the published ones."""
_ENDS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_LAYERS = {
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
_MASK_TOKENS = ("mask_token", "embeddings.mask_token")


def to_hub_keys(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as torch hub names and shapes them; unknown keys stay as they are.

    Takes files of torch hub and timm (which agree), of Hugging Face's ``Dinov2Model``, and of a
    network exported to ONNX with one as its backbone. Of the last, all behind block 8 is left out.
    The mask token serves training alone and is left out too.
    """
    tuned = any(key.startswith(_TUNED_HEAD) for key in raw)
    raw = {_unwrapped(k): v for k, v in raw.items() if not k.startswith(_TUNED_HEAD)}
    raw = {k: v for k, v in raw.items() if k not in _MASK_TOKENS}
    state = _renamed(_joined_positions(raw))
    if not tuned:
        return state
    kept = re.compile(rf"blocks\.[0-{_UNTUNED_BLOCKS - 1}]\.|cls_|pos_|patch_")
    return {k: v for k, v in state.items() if kept.match(k)}


def _unwrapped(key: str) -> str:
    prefix = next((p for p in _PREFIXES if key.startswith(p)), None)
    return key if prefix is None else _unwrapped(key.removeprefix(prefix))


def _renamed(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    for key, value in raw.items():
        match = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", key)
        if not match:
            state[_ENDS.get(key, key)] = value
            continue
        block, layer = f"blocks.{match[1]}", match[2]
        part = re.fullmatch(r"attention\.attention\.(query|key|value)\.(weight|bias)", layer)
        if part:
            split.setdefault(f"{block}.attn.qkv.{part[2]}", {})[part[1]] = value
            continue
        old = next((old for old in _LAYERS if layer.startswith(old)), None)
        state[f"{block}.{layer.replace(old, _LAYERS[old]) if old else layer}"] = value
    for key, parts in split.items():
        if len(parts) == 3:  # an incomplete one is a missing key
            state[key] = torch.cat([parts[name] for name in ("query", "key", "value")])
    return state


def _joined_positions(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """The positions, which an export has as two constants: the class token's, the patches'."""
    constants = {k: v for k, v in raw.items() if re.match(r"embeddings\.[A-Z]", k) and v.ndim == 3}
    if len(constants) != 2:
        return raw
    first, others = sorted(constants.values(), key=lambda v: v.shape[1])
    kept = {k: v for k, v in raw.items() if k not in constants}
    return kept | {"pos_embed": torch.cat([first, others], 1)}
