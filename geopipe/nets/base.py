"""BaseNetwork: the interface of every network that turns an image into class scores."""

from typing import Any, ClassVar

from torch import Tensor, nn

MIN_PROBABILITY = 1e-6
"""Probability whose logarithm stands for none."""


class BaseNetwork(nn.Module):
    """A fully convolutional network that turns an image into score maps.

    Image (N, bands, h, w) float32, normalised, to scores (N, classes, h - 2 r, w - 2 r) with
    r = `receptive_radius`; h and w are multiples of `stride`. Output pixel (0, 0) lies on input
    pixel (r, r). Never pads, and takes nothing from the image but what lies within r.
    """

    bands: int
    classes: int
    stride: int
    """Pixels between the positions at which the net sees the same phase."""
    receptive_radius: int
    """Pixels of context used up on each side."""
    pretrained_on: str | None = None
    """The images that the weights come from with which its training begins; None: random ones."""
    patchwise: bool = False
    """Whether it looks at whole patches around cells of `stride` px, each the same size: then an
    image is continued by its mirror image, where others see its mean, and layers that pool a whole
    patch are local."""
    floats_per_pixel: int
    """float32 values per input pixel that a forward without gradients holds at most, about."""
    class_axes: ClassVar[dict[str, int]] = {}
    """Weights that belong to a class each, and how many of their first dimensions count classes
    (one or two). None in a network that cannot take other classes."""
    feature_layers: tuple[str, ...] = ()
    """Layers whose outputs tell how unlike an image is to those that were learned from; they run
    once in a forward."""
    cores: bool = False
    """Whether it also scores the cores of buildings, see `with_cores`."""
    floats_per_batch: int = 0
    """As many more, whatever the image's size: of the patches that are looked at together."""

    @property
    def training_radius(self) -> int:
        """Pixels of context around a training patch, at most `receptive_radius`."""
        return self.receptive_radius

    def training_scores(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores of a training patch, and its cores where the network has `cores`.

        Of an image with `training_radius` pixels of context. Where that is less than
        `receptive_radius`, pixels near the patch's border see padding, so it is not for mapping.
        """
        return self.with_cores(image) if self.cores else (self(image), None)

    def with_cores(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of a network with `cores`, and the cores' (N, 1, h - 2 r, w - 2 r).

        The second are log-odds that a pixel lies in the core of a building: inside it, and not
        near its outline. They are no class: the class scores are those of `forward`.
        """
        raise NotImplementedError

    @property
    def architecture(self) -> dict[str, Any]:
        """What `build_base_network` needs beside bands and classes (JSON values)."""
        raise NotImplementedError
