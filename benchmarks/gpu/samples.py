"""Chips and crops of plain colours with noise: what parts d and e run on where they run tiny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CHIP_PX, CROP_PX = 40, 112
COLOURS = ((150, 150, 150), (190, 170, 90), (40, 90, 50), (120, 190, 80), (40, 70, 130))
CROPS = {
    "source": ("built-up", "farmland", "forest", "meadow", "water"),
    "target": ("traffic_land", "paddy_field", "shrub_land", "natural_grassland", "lake"),
}
"""Folders of the Gaofen crops: for each colour its class, and one of its fine classes."""


def tiny_chips(folder: Path) -> Path:
    """A folder with a folder of 8 chips for each of three classes."""
    root = folder / "chips"
    for kind in range(3):
        for number in range(8):
            _save(root / f"class-{kind}" / f"{number}.png", _ground(kind, CHIP_PX, number))
    return root


def tiny_crops(folder: Path) -> Path:
    """Crops with masks, arranged as those of the Gaofen Image Dataset."""
    root = folder / "crops"
    for domain, (part, each) in enumerate((("source", 3), ("target", 1))):
        for kind, name in enumerate(CROPS[part]):
            for number in range(each):
                image = _ground(kind, CROP_PX, 10 * domain + number)
                mask = np.full(image.shape[:2], kind, np.uint8)
                for subfolder, pixels in (("image", image), ("label", mask)):
                    _save(root / part / subfolder / name / f"{number}.png", pixels)
    (root / "overlap.csv").write_text("class,crop,share_in_source\n")  # none share pixels
    return root


def _ground(kind: int, px: int, number: int) -> np.ndarray:
    """(px, px, 3) uint8."""
    noise = np.random.default_rng([kind, number]).normal(0, 8, (px, px, 1))
    return np.asarray(np.clip(COLOURS[kind] + noise, 0, 255), np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
