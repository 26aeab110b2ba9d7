"""geopipe labels: burn vectors on a scene, check how well they fit it, align them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.options import AS_JSON, BANDS, CLASSES, NODATA, OVERWRITE, PATH

if TYPE_CHECKING:
    from geopipe.register.label_qc import LabelQC

LAYER = click.option("--layer", help="One layer of a GeoPackage  [default: all]")
AREA = click.option("--area", type=PATH, help="Polygons outside which nothing is known (255).")
SCHEME = click.option("--classes", default="buildings-roads", show_default=True, help=CLASSES)
MODEL = click.option(
    "--model", type=PATH, help="See the image through a model  [default: colours and texture]"
)
MAX_SHIFT = click.option(
    "--max-shift",
    "most",
    type=click.FloatRange(1, 30),
    default=8.0,
    show_default=True,
    help="Metres on the ground beyond which no shift is looked for or made.",
)


class _Labels(click.Group):
    """``geopipe labels SCENE OSM OUT`` burns; it need not say ``burn``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``burn`` in front of what names no command."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["burn", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Labels, invoke_without_command=False)
def labels() -> None:
    """Labels for a scene: burn them (geopipe labels SCENE OSM OUT.tif), check them, align them."""


@labels.command()
@click.argument("scene")
@click.argument("labels", type=PATH, required=False)
@click.argument("out", type=PATH, required=False)
@click.option("--fetch", is_flag=True, help="Ask OpenStreetMap (Overpass); then give no LABELS.")
@SCHEME
@LAYER
@AREA
@click.option(
    "--ignore-buffer",
    type=click.FloatRange(0, 50),
    default=0.0,
    metavar="METRES",
    help="Nothing is known (255) this near to the border of two classes.",
)
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def burn(
    scene: str,
    labels: Path | None,
    out: Path | None,
    fetch: bool,
    classes: str,
    layer: str | None,
    area: Path | None,
    ignore_buffer: float,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Burn vectors on the pixels of SCENE: geopipe labels SCENE OSM OUT.tif

    LABELS: OSM (.osm, .osm.bz2, .osm.pbf), GeoPackage, GeoJSON, GeoParquet, Shapefile, or a raster
    of class ids. With --fetch: geopipe labels --fetch SCENE OUT.tif
    """
    if fetch and out is None:
        labels, out = None, labels
    if out is None or (labels is None) != fetch:
        raise click.UsageError("give SCENE LABELS OUT, or --fetch SCENE OUT")
    from geopipe.classes import load_scheme
    from geopipe.labels import write_label_raster
    from geopipe.workflow.schema import FETCH, LabelledScene
    from geopipe.workflow.sources import label_source, open_scene

    settings = LabelledScene(
        scene=scene,
        bands=bands,
        nodata=nodata,
        labels=labels or Path(FETCH),
        layer=layer,
        area=area,
        ignore_buffer=ignore_buffer,
    )
    opened_scene = open_scene(settings)
    source = label_source(settings, load_scheme(classes), opened_scene)
    counts = write_label_raster(opened_scene, source, out, overwrite=overwrite)
    pixels = dict(zip(source.scheme.names, counts.pixels, strict=True))
    skipped = dict(getattr(source, "skipped", ()))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "out": str(out),
                    "pixels": pixels,
                    "ignored": counts.ignored,
                    "skipped": skipped,
                    "credit": source.credit,
                }
            )
        )
        return
    total = sum(pixels.values()) + counts.ignored
    for name, n in (*pixels.items(), ("not labelled", counts.ignored)):
        click.echo(f"{name:16s} {n:12d} px  {100 * n / total:6.2f} %")
    for reason, n in skipped.items():
        click.echo(f"left out: {n} x {reason}", err=True)
    for name in counts.missing:
        click.echo(f"warning: no pixel of class {name}", err=True)
    click.echo(out)


@labels.command()
@click.argument("scene")
@click.argument("osm", type=PATH)
@click.option("-o", "--out", type=PATH, help="A GeoPackage of the blocks, styled for QGIS.")
@MODEL
@click.option(
    "--block",
    type=click.FloatRange(50, 5000),
    default=200.0,
    show_default=True,
    help="Metres a side of a block.",
)
@click.option(
    "--image-date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="When the image was taken  [default: as its tags say]",
)
@MAX_SHIFT
@SCHEME
@LAYER
@AREA
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def check(
    scene: str,
    osm: Path,
    out: Path | None,
    model: Path | None,
    block: float,
    image_date: Any,
    most: float,
    classes: str,
    layer: str | None,
    area: Path | None,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """How well vectors fit SCENE, block by block: shift, what is missing, what is not there, age.

    OSM: vectors as for `geopipe labels`, or "fetch". A shift is said only where the image supports
    it; dx and dy are metres on the ground to add to the labels, right and up in the image.
    """
    from geopipe.raster.geopackage import check_target
    from geopipe.register import label_qc as work
    from geopipe.register.qc_file import rows, write_qc_file
    from geopipe.workflow.schema import FETCH

    if out:
        check_target(out, overwrite=overwrite, sources=_files(scene, osm, model, area))
    qc = _label_qc(scene, osm, classes, layer, area, bands, nodata, model, most)
    capture_date = image_date.date() if image_date else work.image_date(qc.scene)
    tables = work.tables_of(None if str(osm) == FETCH else osm, qc.scheme, qc.scene, layer)
    blocks = work.with_dates(qc.tiles(block), qc.grid, tables, block)
    if out:
        write_qc_file(qc.grid, blocks, out, overwrite=overwrite)
    table = rows(qc.grid, blocks)
    suggestion_lines = [
        *work.suggestions(blocks, qc.scene, capture_date),
        work.date_summary(blocks, capture_date),
    ]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "blocks": table,
                    "says": suggestion_lines,
                    "out": out and str(out),
                    "ignore_band_m": work.ignore_buffer_width(blocks, qc.scene),
                    "left_out": qc.left_out(),
                }
            )
        )
        return
    _warn_of_left_out(qc)
    click.echo(_table(table))
    for line in suggestion_lines:
        click.echo(line)
    if out:
        click.echo(out)


@labels.command()
@click.argument("scene")
@click.argument("osm", type=PATH)
@click.argument("out", type=PATH)
@MODEL
@MAX_SHIFT
@SCHEME
@LAYER
@AREA
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def align(
    scene: str,
    osm: Path,
    out: Path,
    model: Path | None,
    most: float,
    classes: str,
    layer: str | None,
    area: Path | None,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Move vectors by the smooth field of their shifts: geopipe labels align SCENE OSM OUT.gpkg

    Every vertex moves by the field at its place, so what touched still touches. Columns stay;
    source_id, shift_east and shift_north tell what was done to each feature. What the image gives
    no evidence for stays where it is. Features farther than 100 m from SCENE are left out.
    """
    import numpy as np

    from geopipe.raster.geopackage import check_target
    from geopipe.register import label_qc as work
    from geopipe.register.align import write_aligned
    from geopipe.workflow.schema import FETCH

    check_target(out, overwrite=overwrite, sources=_files(scene, osm, model, area))
    qc = _label_qc(scene, osm, classes, layer, area, bands, nodata, model, most)
    tables = work.tables_of(None if str(osm) == FETCH else osm, qc.scheme, qc.scene, layer)
    summary = write_aligned(tables, qc.field, out, overwrite=overwrite)
    median = float(np.median(summary.metres)) if summary.moved else 0.0
    longest = float(summary.metres.max()) if summary.moved else 0.0
    if as_json:
        click.echo(
            json.dumps(
                {
                    "out": str(out),
                    "features": summary.features,
                    "moved": summary.moved,
                    "median_m": median,
                    "longest_m": longest,
                    "estimates": qc.estimates(),
                    "left_out": qc.left_out(),
                }
            )
        )
        return
    _warn_of_left_out(qc)
    for name, reason_counts in qc.estimates().items():
        refused = {k: n for k, n in reason_counts.items() if k != work.CONFIDENT}
        rejection_text = "".join(f"; {n} x {reason}" for reason, n in refused.items())
        click.echo(
            f"{name}: {reason_counts.get(work.CONFIDENT, 0)} of {sum(reason_counts.values())} "
            "estimates of the "
            f"shift believed{rejection_text}"
        )
    click.echo(
        f"{summary.moved} of {summary.features} features moved, by {median:.2f} m in the median, "
        f"{longest:.2f} m at most"
    )
    click.echo(out)


def _files(scene: str, *others: Path | None) -> list[Path]:
    """What a command reads, which it must not write over."""
    return [Path(scene), *(p for p in others if p)]


def _warn_of_left_out(qc: "LabelQC") -> None:
    for reason, n in qc.left_out().items():
        click.echo(
            f"left out: {n} x {reason}" if "repaired" not in reason else f"{n} x {reason}", err=True
        )


def _label_qc(
    scene: str,
    osm: Path,
    classes: str,
    layer: str | None,
    area: Path | None,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    model: Path | None,
    max_shift: float,
) -> "LabelQC":
    from geopipe.classes import load_scheme
    from geopipe.register.label_qc import LabelQC
    from geopipe.workflow.schema import LabelledScene
    from geopipe.workflow.sources import label_source, open_scene

    settings = LabelledScene(
        scene=scene, bands=bands, nodata=nodata, labels=osm, layer=layer, area=area
    )
    opened_scene = open_scene(settings)
    qc = LabelQC(
        opened_scene, label_source(settings, load_scheme(classes), opened_scene), model, max_shift
    )
    _ = qc.grid  # a raster of labels is refused before it is read as a table
    return qc


def _table(rows: list[dict[str, Any]]) -> str:
    """Blocks with features as text."""
    lines = [
        f"{'at (m)':>13s} {'class':10s} {'features':>8s} {'dx':>6s} {'dy':>6s} {'+-':>5s} "
        f"{'score':>5s} {'missing':>7s} {'doubtful':>8s} {'edited':10s} verdict"
    ]
    for r in rows:
        if not r["features"] and r["verdict"] == "no labels":
            continue
        shift = (
            f"{'-':>6s} {'-':>6s} {'-':>5s} {'-':>5s}"
            if r["dx_m"] is None
            else f"{r['dx_m']:6.2f} {r['dy_m']:6.2f} {r['error_m']:5.2f} {r['score']:5.1f}"
        )
        omission = "-" if r["missing_share"] is None else f"{100 * r['missing_share']:.0f} %"
        rejection_text = f" ({r['refused']})" if r["refused"] and r["features"] else ""
        lines.append(
            f"{r['row']:6d},{r['column']:6d} {r['class']:10s} {r['features']:8d} {shift} "
            f"{omission:>7s} {r['doubtful']:8d} {r['median_date'] or '-':10s} "
            f"{r['verdict']}{rejection_text}"
        )
    return "\n".join(lines)
