"""Layers that look at all of a tile at once: no halo makes tiles of such a network agree."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd

from geopipe.errors import ConfigError

_GLOBAL_LAYERS = (
    nn.GroupNorm,  # mean and deviation over space
    _AdaptiveAvgPoolNd,  # global pooling, and with it squeeze-excite; other sizes cut by the tile's
    _AdaptiveMaxPoolNd,
    nn.FractionalMaxPool2d,  # pools drawn at random, or cut by the tile's size
    nn.FractionalMaxPool3d,
    nn.MultiheadAttention,  # every position sees every other
    nn.RNNBase,
)


def nonlocal_layers(net: nn.Module) -> list[str]:
    """The layers of `net` that break exact tiling, each as "path: ClassName".

    Named: statistics taken from the image at hand (group norm; instance and batch norm unless they
    run on stored statistics; layer norm over more than channels), adaptive and fractional pooling,
    attention, recurrence over positions, upsampling whose factor follows from the tile's size, and
    dropout that is switched on.

    Not named, for they are local: the backbone of a patchwise net, which is shown one patch at a
    time; norm over channels (LocalResponseNorm, LayerNorm of one
    dimension), softmax over channels, pooling, upsampling by a factor, and padding of any mode. A
    padded convolution is wrong only within its reach of the tile's border, which is trimmed when
    the halo counts that reach; ``geopipe verify-seams`` measures whether it does, and finds what no
    type of layer shows, such as ``x.mean((2, 3))`` in a forward.
    """
    patchwise = [path for path, m in net.named_modules() if getattr(m, "patchwise", False)]
    return [
        f"{path or 'net'}: {type(module).__name__}"
        for path, module in net.named_modules()
        if _is_nonlocal(module) and not any(path.startswith(f"{p}.backbone") for p in patchwise)
    ]


def _is_nonlocal(module: nn.Module) -> bool:
    if isinstance(module, _NormBase):  # batch and instance norm
        return module.training or module.running_mean is None
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return len(module.normalized_shape) > 1
    if isinstance(module, nn.Upsample):
        return module.size is not None or bool(module.align_corners)
    if isinstance(module, _DropoutNd):
        return module.training and module.p > 0
    return isinstance(module, _GLOBAL_LAYERS)


def require_local(net: nn.Module, inexact: bool = False) -> list[str]:
    """Refuse a net that cannot be tiled exactly; with `inexact`, the reasons as warnings.

    Raises ConfigError that names the layers.
    """
    layers = nonlocal_layers(net)
    if not layers:
        return []
    text = f"the net has {len(layers)} layer(s) that look at all of a tile: {', '.join(layers)}"
    if not inexact:
        raise ConfigError(text, "`inexact` maps with seams")
    return [f"{text}; the map has seams"]
