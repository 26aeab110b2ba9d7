"""Pixels in and out: the only floor that opens rasters."""

from geopipe.raster.scene import Raster, Scene

__all__ = ["Raster", "Scene"]
