"""Make banepa.png, the picture of README.md, from the maps in docs/results/maggiori/banepa."""

from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
WIDTH, HEIGHT = 452, 560
TOP = 130
"""Rows of a panel that are left out above the part shown."""
GAP, HEAD = 10, 28
PANELS = (
    ("scene (drone, 0.26 m)", (7, 64)),
    ("base network", (937, 64)),
    ("after refinement", (937, 2107)),
    ("ground truth (OpenStreetMap)", (472, 64)),
)
"""Caption, and the upper left corner (x, y) of the panel in maps.png."""


def main() -> None:
    """Four panels side by side, the same part of the test area in each."""
    maps = Image.open(HERE.parent / "results" / "maggiori" / "banepa" / "maps.png").convert("RGB")
    width = len(PANELS) * (WIDTH + GAP) - GAP
    sheet = Image.new("RGB", (width, HEIGHT + HEAD), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (caption, (x, y)) in enumerate(PANELS):
        left = i * (WIDTH + GAP)
        draw.text((left + 2, 4), caption, fill="black", font_size=18)
        part = maps.crop((x, y + TOP, x + WIDTH, y + TOP + HEIGHT))
        sheet.paste(part, (left, HEAD))
    sheet.quantize(128).save(HERE / "banepa.png", optimize=True)


if __name__ == "__main__":
    main()
