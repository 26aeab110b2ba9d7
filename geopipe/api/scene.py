"""Scenes: georeferenced bands that are read when their pixels are wanted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geopipe.api.georef import located
from geopipe.api.html import Facts, as_html, as_text, listed
from geopipe.errors import GridError, SceneError
from geopipe.grid import ground_gsd
from geopipe.raster import scene as raster_scene
from geopipe.raster.remote import display_name
from geopipe.raster.scene import opened

CHUNK = 1024
"""Pixels a side of a block of `Scene.to_xarray`: a tile of a map."""


class Scene(raster_scene.Scene):
    """Georeferenced bands of a raster: path, grid, bands and dtype. Nothing is read until asked.

    Made by `open_scene`; cheap, picklable, holds no open file.
    """

    __slots__ = ()

    def to_xarray(self, chunk: int = CHUNK) -> xr.DataArray:
        """The scene's pixels as a lazy DataArray (band, y, x) on dask.

        It carries the CRS, the transform and, where the file declares one, the nodata value as
        rioxarray writes them, and the names of the bands as ``long_name``. The coordinate
        ``valid`` (y, x) tells which pixels are valid by mask, alpha, nodata value or the `nodata`
        that the scene was opened with; pixels that are not hold the nodata value, or 0.

        Args:
            chunk: Pixels a side of a block.

        Returns:
            A DataArray of the scene's dtype. Computing it raises SceneError, with the rows and
            columns, where the file cannot be read.

        Raises:
            GridError: The scene's grid is rotated, or `chunk` is not positive.
        """
        from geopipe.api.lazy import ScenePixels, from_windows

        if chunk < 1:
            raise GridError(f"chunk={chunk} is no side of a block", "e.g. 1024")
        names, declared = self._described()
        fill = self.nodata if declared is None else declared
        attrs: dict[str, Any] = {"long_name": names[0] if len(names) == 1 else names}
        shape = (len(self.bands) + 1, *self.shape)
        both = from_windows(ScenePixels(self), shape, self.dtype, chunk)
        pixels, valid = both[:-1], both[-1] > 0
        array = located(pixels, self.geobox, bands=self.bands, **attrs)
        array = array.assign_coords(valid=(("y", "x"), valid))
        if fill is None:
            return array
        array = array.where(array.valid, array.dtype.type(fill))
        return array.assign_attrs(attrs).rio.write_nodata(fill)  # type: ignore[no-any-return]

    def _described(self) -> tuple[tuple[str, ...], float | None]:
        """Names of the bands, and the nodata value that the file declares."""
        with opened(self.path) as src:
            names = tuple(
                src.descriptions[b - 1] or src.colorinterp[b - 1].name for b in self.bands
            )
            declared = src.nodatavals[self.bands[0] - 1]
        if declared is not None and np.dtype(self.dtype).kind in "iu":
            info = np.iinfo(self.dtype)
            if not info.min <= declared <= info.max:  # no pixel can have it
                declared = None
        return names, declared

    def _facts(self) -> Facts:
        (height, width), (down, along) = self.shape, ground_gsd(self.geobox)
        crs = self.geobox.crs
        name = crs.proj.name if crs else ""
        code = f"EPSG:{crs.epsg}, " if crs and crs.epsg else ""
        box = ", ".join(f"{n:.10g}" for n in self.geobox.boundingbox)
        nodata = [] if self.nodata is None else [("nodata", f"{self.nodata:g}")]
        return [
            ("path", display_name(self.path)),
            ("size", f"{width} x {height} px of {along:.3g} x {down:.3g} m on the ground"),
            ("bounds", box),
            ("CRS", f"{code}{name}"),
            ("bands", f"{listed(self.bands)} ({self.dtype})"),
            *nodata,
        ]

    def __repr__(self) -> str:
        return as_text("geopipe.Scene", self._facts())

    def _repr_html_(self) -> str:
        return as_html("geopipe.Scene", self._facts())


def open_scene(
    path: str | Path, *, bands: Sequence[int] | None = None, nodata: float | None = None
) -> Scene:
    """Describe the raster at `path`; its pixels are read when they are wanted.

    Args:
        path: A file, a VRT, an address (``https://``, ``s3://``), anything that GDAL opens.
        bands: 1-based numbers. Default: red, green and blue where the file names them, else the
            first three bands that are not alpha.
        nodata: A value that means "no image" although the file does not say so.

    Raises:
        SceneError: There is no such raster, or it has no CRS or no such band.
        GridError: It has no geotransform.
    """
    return Scene.open(path, bands, nodata)  # type: ignore[return-value]  # cls(...) in open


def as_scene(scene: Any) -> raster_scene.Scene:
    """`scene`, opened where it is a path; SceneError for what is neither (an array)."""
    if isinstance(scene, raster_scene.Scene):
        return scene
    if isinstance(scene, str | Path):
        return open_scene(scene)
    raise SceneError(
        f"a {type(scene).__name__} is no scene in a file",
        "give a path or geopipe.open_scene(path); geopipe.predict takes arrays too",
    )
