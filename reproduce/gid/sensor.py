"""Another sensor, made from the crops: other light, other bands, blurred, coarser, noisy."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from geopipe.raster.chips import ChipFolder


@dataclass(frozen=True)
class Sensor:
    """How it sees what the other one saw."""

    gamma: float = 0.6
    gains: tuple[float, ...] = (1.15, 1.0, 0.85)
    """Of the bands."""
    blur_px: float = 0.8
    """Deviation of a Gaussian."""
    coarser: int = 2
    """Pixels a side that are averaged, and brought back bilinearly."""
    noise: float = 4.0
    """Deviation, of 255 levels."""
    seed: int = 0

    def simulate(self, image: np.ndarray, name: str) -> np.ndarray:
        """`image` (bands, h, w) uint8, likewise; `name` and `seed` decide the noise."""
        light = (image / 255.0) ** self.gamma * np.array(self.gains)[:, None, None]
        soft = np.stack([gaussian_filter(band, self.blur_px) for band in light])
        resampled = np.stack(
            [_upsampled(_averaged(band, self.coarser), band.shape) for band in soft]
        )
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        noisy = 255 * resampled + rng.normal(0, self.noise, resampled.shape)
        return noisy.round().clip(0, 255).astype(np.uint8)


def _averaged(band: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks; the last ones of an uneven band reach beyond it, where it is repeated."""
    pad = [(0, -n % factor) for n in band.shape]
    padded = np.pad(band, pad, mode="edge")
    rows, cols = (n // factor for n in padded.shape)
    return np.asarray(padded.reshape(rows, factor, cols, factor).mean((1, 3)))


def _upsampled(band: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bilinear, the grids' corners at one place."""
    image = Image.fromarray(band.astype(np.float32))
    side = max(-(-n // m) for n, m in zip(shape, band.shape, strict=True))
    size = band.shape[1] * side, band.shape[0] * side
    large = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return large[: shape[0], : shape[1]]


def write_simulated(images: Path, out: Path, sensor: Sensor) -> None:
    """The chips below `images` as the sensor sees them: PNG files in folders of the same names."""
    folder = ChipFolder.open(images)
    for chip in folder.chips:
        name = Path(chip.path).relative_to(folder.root)
        target = (out / name).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        simulated = sensor.simulate(chip.read(), name.as_posix())
        Image.fromarray(np.ascontiguousarray(simulated.transpose(1, 2, 0))).save(target)
