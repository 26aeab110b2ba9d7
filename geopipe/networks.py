"""The base networks by name: what commands, workflows and model files know without torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

NetworkWithoutSizes = Literal["cnn"]
"""Those that bands and classes alone decide."""
BaseNetworkName = Literal[NetworkWithoutSizes, "unet", "lite-unet"]
"""Those that are trained on a scene and its labels; `geopipe.nets.build` builds them."""
DEFAULT_NET: BaseNetworkName = "lite-unet"
"""Best of these on real scenes (docs/results/real)."""
InitialWeights = Literal["auto", "imagenet"]
"""What a training may start from beside a model: the starter model where it suits, or ImageNet."""
DISPLAY_NAMES: Mapping[BaseNetworkName, str] = MappingProxyType(
    {"cnn": "CNN", "unet": "U-Net", "lite-unet": "Lite U-Net"}
)
"""As reports name them."""
