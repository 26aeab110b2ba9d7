"""Draw ``starter.png``: scenes and maps of the starter model where it was not trained.

Run ``make starter-model`` first, then ``python docs/images/starter.py``.
"""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.windows import Window

OUT = Path("outputs/reproduce/starter")
SIDE = 500
PLACES = (("kampala", 3504, 272), ("catanduanes", 832, 512))
"""Site, and column and row of its window."""
COLOUR = np.array([200, 55, 30])


def pair(site: str, col: int, row: int) -> np.ndarray:
    """The scene, and the scene under its buildings: (SIDE, 2 SIDE + 8, 3) uint8."""
    folder, window = OUT / f"without-{site}", Window(col, row, SIDE, SIDE)
    with rasterio.open(folder / f"places/{site}/test.tif") as scene:
        image = scene.read([1, 2, 3], window=window).transpose(1, 2, 0)
    with rasterio.open(folder / f"map/{site}/classes.tif") as classes:
        building = classes.read(1, window=window) == 1
    mapped = np.where(building[..., None], 0.45 * image + 0.55 * COLOUR, image).astype(np.uint8)
    return np.hstack([image, np.full((SIDE, 8, 3), 255, np.uint8), mapped])


gap = np.full((SIDE, 24, 3), 255, np.uint8)
first, second = (pair(*place) for place in PLACES)
picture = Image.fromarray(np.hstack([first, gap, second])).resize((1400, 344))
picture.quantize(200).save(Path(__file__).with_suffix(".png"), optimize=True)
