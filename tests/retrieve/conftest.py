"""The fixtures of `retrieve_world` for this folder."""

from retrieve_world import built, chips, model, scene

__all__ = ["built", "chips", "model", "scene"]
