"""The fixtures of `patch_world` for this folder."""

from patch_world import chips, design, model, mosaic, scheme, trained

__all__ = ["chips", "design", "model", "mosaic", "scheme", "trained"]
