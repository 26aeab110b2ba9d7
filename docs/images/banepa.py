"""Draw ``banepa.png``, the picture of README.md.

Run ``python -m reproduce.real.run --sites banepa --methods auto --seeds 0`` first, then
``python docs/images/banepa.py``.
"""

import sys
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageDraw
from rasterio.windows import Window

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/reproduce/real")
RUN = OUT / "banepa-auto-0"
PART = Window(460, 890, 452, 560)
"""Of the test part."""
GAP, HEAD = 10, 28
COLOUR = np.array([228, 60, 40])
PANELS = {
    "scene (drone, 0.26 m)": None,
    "learned from OSM with errors": RUN / "evaluation/classes-0.tif",
    "and from an accurate tile": RUN / "map/test/classes.tif",
    "ground truth (OpenStreetMap)": OUT / "places/banepa/test-truth.tif",
}
"""Caption, and the class map that lies over the scene."""

with rasterio.open(OUT / "places/banepa/test.tif") as src:
    scene = src.read([1, 2, 3], window=PART).transpose(1, 2, 0)
high, wide = scene.shape[:2]
sheet = Image.new("RGB", (len(PANELS) * (wide + GAP) - GAP, high + HEAD), "white")
draw = ImageDraw.Draw(sheet)
for i, (caption, class_map) in enumerate(PANELS.items()):
    panel = scene
    if class_map:
        with rasterio.open(class_map) as src:
            building = src.read(1, window=PART)[..., None] == 1
        panel = np.where(building, 0.45 * scene + 0.55 * COLOUR, scene).astype(np.uint8)
    draw.text((i * (wide + GAP) + 2, 4), caption, fill="black", font_size=18)
    sheet.paste(Image.fromarray(panel), (i * (wide + GAP), HEAD))
sheet.quantize(160).save(Path(__file__).with_suffix(".png"), optimize=True)
