"""Attention maps: where in a chip a scene classifier sees the class (Grad-CAM)."""

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from PIL import Image
from pydantic import ConfigDict, Field
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe import __version__
from geopipe.checkpoint import Checkpoint
from geopipe.errors import SceneError
from geopipe.files import atomic_folder
from geopipe.learn.chips import chip_net
from geopipe.learn.chips.decoded import stretched
from geopipe.learn.chips.model import load_chip_model
from geopipe.learn.chips.predict import mean_cam
from geopipe.nets.chips import attention_map
from geopipe.oserrors import writing
from geopipe.raster.chip_location import place_of
from geopipe.raster.chips import Chip, ChipFolder, require_bytes
from geopipe.raster.opening import GDAL_ERRORS
from geopipe.validation import Schema, Text, read_bytes, validated

log = logging.getLogger(__name__)

TABLE = "attention.csv"
"""Lists what was made; a folder with other files is not overwritten."""
_OPACITY = 0.55
"""Of the colours over the chip, where the map is highest."""


@dataclass(frozen=True)
class AttentionMap:
    """What was made of a chip."""

    chip: str
    class_name: str
    """Whose map it is."""
    probability: float
    overlay: Path
    raster: Path | None
    """The map in its place, where the chip has one."""


class _Row(Schema):
    """A row of `TABLE`."""

    model_config = ConfigDict(populate_by_name=True)
    chip: Text
    class_name: str = Field(alias="class")
    probability: float = Field(ge=0, le=1)
    picture: str = Field(pattern=r"^[^/\\]+\.png$")
    raster: str = Field(pattern=r"^([^/\\]+\.tif)?$")


def attention_maps(
    model_path: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    class_name: str | None = None,
    device: str = "cpu",
    skip_bad: bool = False,
    overwrite: bool = False,
) -> list[AttentionMap]:
    """Write the Grad-CAM of each chip into `out`: a picture over the chip, and a raster.

    ``attention.csv`` lists them: chip, class, probability, picture, raster.
    `paths`: chips or folders of them; `class_name`: whose map, by default of the predicted class
    of each chip. The raster (float32, 0 to 1) has the chip's own pixels and
    place; there is none of a chip without. Raises SceneError for chips that cannot be read, or
    leaves them out (`skip_bad`).
    """
    model = load_chip_model(model_path)
    class_id = None if class_name is None else model.scheme.id_of(class_name)
    chips = [
        c for p in paths for c in (ChipFolder.open(p).chips if p.is_dir() else (Chip(str(p)),))
    ]
    names = _names(chips)
    results = []
    with atomic_folder(out, _written_files(out), overwrite=overwrite) as part:
        for chip, name in zip(chips, names, strict=True):
            try:
                pixels = chip.read()
                require_bytes(chip.path, str(pixels.dtype))
            except SceneError as e:
                if not skip_bad:
                    raise
                log.warning("left out: %s", e.message)
                continue
            attention, best, probability = _chip_attention(model, pixels, class_id, device)
            overlay, raster = f"{name}.png", f"{name}.tif"
            Image.fromarray(_overlaid(pixels, attention)).save(part / overlay)
            georeferenced = _write_raster(part / raster, chip, attention, model.scheme.names[best])
            results.append(
                AttentionMap(
                    chip.path,
                    model.scheme.names[best],
                    probability,
                    out / overlay,
                    out / raster if georeferenced else None,
                )
            )
        if not results:
            raise SceneError(f"none of the {len(chips)} chips can be read", "are these images?")
        _write_table(part / TABLE, results)
    return results


def _written_files(out: Path) -> set[str]:
    """Names of the files that an earlier run left in `out`; empty where its table is missing."""
    try:
        text = read_bytes(out / TABLE, SceneError).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        listed = validated(rows, list[_Row], str(out / TABLE), SceneError, "")
    except (SceneError, UnicodeDecodeError, csv.Error):
        return set()
    return {TABLE, *(name for row in listed for name in (row.picture, row.raster) if name)}


def _write_table(path: Path, attention_maps: Sequence[AttentionMap]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("chip", "class", "probability", "picture", "raster"))
        for m in attention_maps:
            table.writerow(
                (
                    m.chip,
                    m.class_name,
                    f"{m.probability:.4f}",
                    m.overlay.name,
                    m.raster.name if m.raster else "",
                )
            )


def _chip_attention(
    model: Checkpoint, pixels: np.ndarray, class_id: int | None, device: str
) -> tuple[np.ndarray, int, float]:
    """Heat (h, w) float32 at the chip's size, the class it is of, and that class's probability."""
    net = chip_net(model).to(device).eval()
    image = torch.from_numpy(np.array(pixels))
    with torch.inference_mode():
        x = mean_cam(model, stretched(image, net.side)[None], device)
        probabilities = net.backbone(x).float().softmax(1)[0]
        best = int(probabilities.argmax()) if class_id is None else class_id
        cam = net.backbone.cam(x, torch.tensor([best], device=device))
        attention = F.interpolate(attention_map(cam, net.side), pixels.shape[1:], mode="bilinear")
    return attention[0, 0].cpu().numpy(), best, float(probabilities[best])


def _names(chips: Sequence[Chip]) -> list[str]:
    """A name for each chip's files: its own, with its folder's before it where several share it."""
    stems = [Path(c.path).stem for c in chips]
    names: list[str] = []
    for chip, stem in zip(chips, stems, strict=True):
        unique_stem = stem if stems.count(stem) == 1 else f"{Path(chip.path).parent.name}-{stem}"
        number, name = 2, unique_stem
        while name in names:
            name, number = f"{unique_stem}-{number}", number + 1
        names.append(name)
    return names


def _overlaid(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: the chip, grey where the net does not look, and coloured where it does."""
    import matplotlib as mpl

    colours = mpl.colormaps["inferno"](attention)[..., :3] * 255
    image = pixels.transpose(1, 2, 0).astype(np.float32)
    share = _OPACITY * np.sqrt(attention)[..., None]
    return np.asarray(((1 - share) * image + share * colours).round().clip(0, 255).astype(np.uint8))


def _write_raster(path: Path, chip: Chip, attention: np.ndarray, class_name: str) -> bool:
    geobox = place_of(chip)
    if geobox is None:
        return False
    with writing(path, *GDAL_ERRORS), rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff",
            width=attention.shape[1],
            height=attention.shape[0],
            count=1,
            dtype="float32",
            crs=str(geobox.crs),
            transform=geobox.affine,
            compress="deflate",
        ) as out:
            out.write(attention.astype(np.float32), 1)
            out.set_band_description(1, f"attention: {class_name}")
            out.update_tags(software=f"geopipe {__version__}", chip=Path(chip.path).name)
        path.write_bytes(file.getbuffer())
    return True
