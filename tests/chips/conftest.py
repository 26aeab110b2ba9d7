"""The fixtures of `scene_world` for this folder."""

from scene_world import chips, model, mosaic

__all__ = ["chips", "model", "mosaic"]
