"""Make forez.png from what `make forez-map` left: python docs/images/forez.py [OUTPUTS]"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageDraw

from geopipe.classes import load_scheme

HERE = Path(__file__).parent
ROWS, COLS = (860, 1360), (640, 1340)
GAP, HEAD = 12, 26


def main(outputs: Path) -> None:
    """Four panels in two rows, 700 x 500 pixels of the test tile each."""
    window = (ROWS, COLS)
    with rasterio.open(HERE.parent.parent / "sample_tiles" / "test.tif") as src:
        image = src.read(window=window).transpose(1, 2, 0)
    palette = np.full((256, 3), 255, np.uint8)
    for i, c in enumerate(load_scheme("buildings-roads").classes):
        palette[i] = c.rgb
    panels = [("the scene, 0.5 m (simulated)", image)]
    for name, path in (
        ("base network, trained on OpenStreetMap", "evaluation/classes-0.tif"),
        ("after 5 iterations of the refinement", "evaluation/classes-5.tif"),
        ("ground truth", "labels/test.tif"),
    ):
        with rasterio.open(outputs / path) as src:
            panels.append((name, palette[src.read(1, window=window)]))
    h, w = image.shape[:2]
    sheet = Image.new("RGB", (2 * w + GAP, 2 * (h + HEAD)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, pixels) in enumerate(panels):
        x, y = i % 2 * (w + GAP), i // 2 * (h + HEAD)
        draw.text((x + 2, y + 4), name, fill="black", font_size=15)
        sheet.paste(Image.fromarray(pixels), (x, y + HEAD))
    sheet.quantize(192).save(HERE / "forez.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("outputs/forez"))
