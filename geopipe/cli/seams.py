"""``geopipe verify-seams``: do tiles and the whole image agree?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, BANDS, DEVICE, MODEL_PATH, NODATA, tile_size_option
from geopipe.errors import GridError

if TYPE_CHECKING:
    from geopipe.mapping.seams import SeamReport


def _pair(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        row, col = (int(part) for part in text.split(","))
    except ValueError as e:
        raise click.BadParameter("give a row and a column, e.g. 2000,3000") from e
    return row, col


@click.command("verify-seams", cls=Command)
@click.argument("scene")
@click.argument("model", type=MODEL_PATH)
@DEVICE
@tile_size_option(
    "Pixels a side of a tile; may be repeated  [default: 256, 512, 1024]", multiple=True
)
@click.option(
    "--crop",
    type=int,
    metavar="PX",
    help="Pixels a side of the part that is compared  [default: 1500]",
)
@click.option(
    "--at",
    callback=_pair,
    metavar="ROW,COL",
    help="The middle of that part  [default: the middle of the scene]",
)
@BANDS
@NODATA
@AS_JSON
def verify_seams(
    scene: str,
    model: Path,
    device: str,
    tile_sizes: tuple[int, ...],
    crop: int | None,
    at: tuple[int, int] | None,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Check that the map of a model has no seams between tiles.

    A part of SCENE is mapped with MODEL in tiles of several sizes and in one piece. A part is also
    mapped as if the file began 1 to 7 pixels elsewhere: the same ground has to get the same
    classes. The exit code is 1 where a pixel's class or score differs by more than rounding.

    Example: geopipe verify-seams scene.tif model.safetensors
    """
    from geopipe.mapping import choose_device
    from geopipe.mapping.seams import CORES
    from geopipe.mapping.seams import verify_seams as verify
    from geopipe.raster import Scene

    report = verify(
        Scene.open(scene, bands, nodata),
        model,
        cores=tile_sizes or CORES,
        crop_px=crop,
        at=at,
        device=choose_device(device),
    )
    click.echo(json.dumps(report.to_dict()) if as_json else "\n".join(_lines(report)))
    if not report.ok:
        explanation = "the fault is geopipe's, not the model's"
        raise GridError(
            f"tiles and the whole image do not match: {report.errors} pixels have another class, "
            f"scores differ by up to {_largest(report):.1e} (rounding "
            f"explains {report.tolerance:.1e})",
            "the map of this model has seams" if _explained(report) else explanation,
        )


def _largest(report: "SeamReport") -> float:
    return max(report.max_seam, report.max_difference, report.max_extent)


def _lines(report: "SeamReport") -> list[str]:
    crop, (factor_y, factor_x) = report.crop, report.factor
    lines = [
        f"crop    rows {crop.row}-{crop.bottom}, columns {crop.col}-{crop.right} of {report.scene}",
        f"        {report.pixels} valid px compared, {factor_y:.4g} x {factor_x:.4g} of them per "
        "net px",
        f"net     halo {report.declared_halo} px declared, {report.measured_halo} measured; "
        f"stride {report.stride}",
        *(f"        looks at all of a tile: {layer}" for layer in report.nonlocal_layers),
        "",
        "core   first tile at   tiles   max |difference|          changed px   beyond rounding",
        "                               to one window  to whole",
    ]
    for i, tiling in enumerate(report.tilings):
        name = (
            f"{tiling.core:<6d} {tiling.origin[0]:>5d}, {tiling.origin[1]:<5d}"
            if i
            else "one window"
        )
        lines.append(
            f"{name:20s} {tiling.tiles:7d}   {tiling.max_seam:13.1e}  {tiling.max_difference:8.1e} "
            f"{tiling.changed:14d} {tiling.errors:17d}"
        )
    lines += _extent_lines(report)
    lines += [
        "",
        f"{report.changed} changed pixels in {report.tiles} tiles; max |difference| "
        f"{report.max_seam:.1e} to one window, {report.max_difference:.1e} to the whole forward, "
        f"on scores of up to {report.max_score:.1f}",
    ]
    return lines


def _extent_lines(report: "SeamReport") -> list[str]:
    if not report.extents:
        return ["", "other extents: none compared (the scene is rotated, or too small)"]
    head = "files that begin elsewhere: max |difference| to this one's map, changed px"
    return ["", head] + [
        f"corner off by {e.offset[0]}, {e.offset[1]} px  {e.pixels:9d} px compared  "
        f"{e.max_difference:8.1e} {e.changed:14d}"
        for e in report.extents
    ]


def _explained(report: "SeamReport") -> bool:
    """Whether the net itself is the reason."""
    return report.measured_halo > report.declared_halo or bool(report.nonlocal_layers)
