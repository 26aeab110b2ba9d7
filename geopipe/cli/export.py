"""``geopipe export``: a model for other programs."""

import json
from pathlib import Path

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import AS_JSON, MODEL_PATH, OVERWRITE, out_option, tile_size_option


@click.command("export", cls=Command)
@click.argument("model", type=MODEL_PATH)
@out_option("The ONNX file.", "FILE.onnx")
@tile_size_option("Pixels a side of a tile  [default: the size nearest to 640 that is exact]")
@click.option(
    "--opset", type=int, default=17, show_default=True, help="Operator set of ONNX to write."
)
@OVERWRITE
@AS_JSON
def export(
    model: Path, out: Path, tile_size: int | None, opset: int, overwrite: bool, as_json: bool
) -> None:
    """Write a model as ONNX, for the QGIS plugin Deepness.

    The file names its classes, ground sample distance, normalization, tile size and overlap in the
    metadata that Deepness reads. Its probabilities are compared with those of the model before it
    is written. It needs the packages of geopipe[onnx].

    Example: geopipe export model.safetensors -o model.onnx
    """
    from geopipe.checkpoint.onnx_export import export_onnx
    from geopipe.files import check_new_file

    check_new_file(out, overwrite=overwrite, sources=[model])
    made = export_onnx(model, out, tile_px=tile_size, opset=opset)
    if as_json:
        tables = {
            "onnx": str(made.path),
            "tile_px": made.tile_px,
            "overlap_px": made.overlap_px,
            "overlap_percent": made.overlap_percent,
            "max_difference": made.max_difference,
            "metadata": {k: json.loads(v) for k, v in made.metadata.items()},
        }
        click.echo(json.dumps(tables))
        return
    click.echo(f"onnx:       {made.path}")
    click.echo(
        f"tiles:      {made.tile_px} px, overlapping by {made.overlap_px} px "
        f"({made.overlap_percent} %)"
    )
    click.echo(f"difference: {made.max_difference:.1e} at most, of probabilities")
