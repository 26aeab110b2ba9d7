"""The fixtures of `scene_world` for this folder."""

from scene_world import chips, mosaic

__all__ = ["chips", "mosaic"]
