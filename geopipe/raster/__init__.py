"""Read and write georeferenced rasters: the only layer that opens them."""

from geopipe.raster.scene import Raster, Scene

__all__ = ["Raster", "Scene"]
