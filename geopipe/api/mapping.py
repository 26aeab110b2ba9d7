"""Maps of whole scenes as files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import rioxarray
import xarray as xr

from geopipe.api.html import Facts, as_html, as_text
from geopipe.api.labels import classified
from geopipe.api.model import Model, as_model
from geopipe.api.scene import CHUNK, as_scene
from geopipe.errors import ConfigError
from geopipe.mapping import Engine, Workers
from geopipe.raster import scene as raster_scene
from geopipe.raster.cog import read_scheme
from geopipe.workflow.bundle import MapOptions, write_bundle

Layer = Literal["classes", "confidence", "scores"]


@dataclass(frozen=True, repr=False)
class MapResult:
    """The files of a map, and what it says in numbers."""

    folder: Path
    areas: dict[str, float]
    """Class name -> square metres on the ground."""
    seconds: float
    bad: tuple[str, ...] = ()
    """Tiles that could not be read and are nodata."""
    out_of_domain: float | None = None
    """Share of the scene that is unlike the training images; None: the model does not know them."""

    @property
    def classes(self) -> Path:
        """Class ids, a Cloud Optimized GeoTIFF with names and colours; 255 = nodata."""
        return self.folder / "classes.tif"

    @property
    def confidence(self) -> Path | None:
        """Probability of the best class x 250; None where it was not asked for."""
        return self._there("confidence.tif")

    @property
    def scores(self) -> Path | None:
        """Probability of each class x 250; None where they were not asked for."""
        return self._there("scores.tif")

    @property
    def polygons(self) -> Path | None:
        """A GeoPackage with a layer per class; None where it was not asked for."""
        return self._there("features.gpkg")

    @property
    def report(self) -> Path:
        """An HTML page that shows the map and how it was made."""
        return self.folder / "report.html"

    def to_xarray(self, layer: Layer = "classes", chunk: int = CHUNK) -> xr.DataArray:
        """A raster of the map as a lazy DataArray, (y, x) or, of scores, (band, y, x)."""
        files = {"classes": self.classes, "confidence": self.confidence, "scores": self.scores}
        path = files.get(layer)
        if path is None:
            raise ConfigError(f"the map in {self.folder} has no {layer}", f"map with {layer}=True")
        array = rioxarray.open_rasterio(path, chunks={"band": -1, "y": chunk, "x": chunk})
        assert isinstance(array, xr.DataArray)
        if layer == "scores":
            return array
        array = array.isel(band=0, drop=True)
        scheme = read_scheme(path) if layer == "classes" else None
        return classified(array, scheme) if scheme else array

    def _there(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.is_file() else None

    def _facts(self) -> Facts:
        total = sum(self.areas.values()) or 1.0
        also = {"confidence": self.confidence, "scores": self.scores, "polygons": self.polygons}
        return [
            ("classes", str(self.classes)),
            *((name, str(path)) for name, path in also.items() if path),
            ("report", str(self.report)),
            *(
                (f"area of {name}", f"{m2 / 1e4:.2f} ha ({100 * m2 / total:.1f} %)")
                for name, m2 in self.areas.items()
            ),
            ("time", f"{self.seconds:.1f} s"),
            *(
                [("out of domain", f"{100 * self.out_of_domain:.1f} %")]
                if self.out_of_domain is not None
                else []
            ),
            *([("unreadable", f"{len(self.bad)} tiles, nodata in the map")] if self.bad else []),
        ]

    def __repr__(self) -> str:
        return as_text("geopipe.MapResult", self._facts())

    def _repr_html_(self) -> str:
        return as_html("geopipe.MapResult", self._facts())


def map_scene(
    model: Model | str | Path,
    scene: raster_scene.Scene | str | Path,
    out: str | Path,
    *,
    client: Any = None,
    scores: bool = False,
    confidence: bool | None = None,
    polygons: bool = False,
    orthogonalize: bool | None = None,
    device: str = "auto",
    threads: int | None = None,
    flips: int = 1,
    skip_bad: bool = False,
    restart: bool = False,
    overwrite: bool = False,
) -> MapResult:
    """Map a scene of any size into the folder `out`, as ``geopipe map``.

    Memory does not grow with the scene. A call that was stopped is taken up again by the same
    call.

    Args:
        model: A model, or its file.
        scene: A scene, or its path.
        out: A new folder: class map, style, report, STAC item.
        client: A ``distributed.Client`` whose workers compute the tiles; they read scene and model
            from the same paths. Default: threads of this process.
        scores: Add the probability of each class.
        confidence: Add the probability of the best class; default for models of patches.
        polygons: Add footprints of buildings, and the other classes as polygons.
        orthogonalize: Footprints get right angles where the map has them; default yes.
        device: "auto", "cpu" or "cuda:N".
        threads: Tiles at once in this process; default its cores.
        flips: Flips of the image whose probabilities are averaged: 1, 2 or 4.
        skip_bad: Tiles that cannot be read become nodata instead of ending the map.
        restart: Drop an unfinished map of other inputs.
        overwrite: Replace a map that is in `out`.

    Raises:
        SceneError: The scene cannot be read.
        OutputError: `out` cannot be written.
        CheckpointError: The model does not fit the scene.
        JobError: A tile failed.
    """
    if orthogonalize is not None and not polygons:
        raise ConfigError("orthogonalize shapes polygons", "give polygons=True too")
    workers = Workers(threads=threads, client=client)
    engine = Engine(device, workers, skip_bad=skip_bad, restart=restart, flips=flips)
    options = MapOptions(
        engine, scores, confidence, polygons, orthogonalize is not False, overwrite
    )
    bundle = write_bundle(as_scene(scene), as_model(model).path, Path(out), options)
    return MapResult(Path(out), bundle.areas, bundle.seconds, bundle.bad, bundle.out_of_domain)
