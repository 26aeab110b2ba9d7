"""The device that networks run on."""

import torch

from geopipe.errors import ConfigError


def choose_device(name: str) -> str:
    """``auto`` = the first GPU if there is one; raises ConfigError for a GPU that is not there."""
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and (name == kind or index.isdecimal()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ConfigError(f"no device {name}: {count} GPU(s) found", "choose the device cpu")
    elif name != "cpu":
        raise ConfigError(f"device '{name}' is not one of auto, cpu, cuda:N")
    return name
