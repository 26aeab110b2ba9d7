"""``DataArray.geopipe``: predictions as a method of an array."""

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

if TYPE_CHECKING:
    from geopipe.api.model import Model
    from geopipe.api.prediction import Output


@xr.register_dataarray_accessor("geopipe")
class GeopipeAccessor:
    """What geopipe does with a georeferenced array; registered by ``import geopipe.api``."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def predict(
        self,
        model: "Model | str | Path",
        *,
        bounds: tuple[float, float, float, float] | None = None,
        output: "Output" = "classes",
        device: str = "auto",
    ) -> xr.DataArray:
        """As `geopipe.predict` with this array as the scene."""
        from geopipe.api.prediction import predict

        return predict(model, self._array, bounds=bounds, output=output, device=device)
