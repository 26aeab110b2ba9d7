"""geopipe labels: rasterize labels on a scene, check how well they fit it, align them."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.commands import Group
from geopipe.cli.options import (
    ALL_ARE,
    AREA,
    AS_JSON,
    BANDS,
    FETCH,
    IGNORE_BUFFER,
    LAYER,
    MAX_SHIFT,
    MODEL_PATH,
    NODATA,
    OVERWRITE,
    PATH,
    classes_option,
    out_option,
)

if TYPE_CHECKING:
    from geopipe.register.label_qc import LabelQC

CLASSES = classes_option("buildings-roads")
MODEL = click.option(
    "--model",
    type=MODEL_PATH,
    help="A model that tells the classes in the image  [default: colours and texture]",
)


class _Labels(Group):
    """``geopipe labels SCENE LABELS`` rasterizes; it need not say ``rasterize``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``rasterize`` in front of what names no command."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["rasterize", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Labels, invoke_without_command=False)
def labels() -> None:
    """Rasterize labels on a scene; check, align or download them.

    Without the name of a command, `rasterize` is meant.

    Example: geopipe labels scene.tif osm.gpkg -o labels.tif
    """


@labels.command()
@click.argument("scene")
@click.argument("labels", type=PATH, required=False)
@out_option("The label raster to write.", "OUT.tif")
@FETCH
@CLASSES
@LAYER
@ALL_ARE
@AREA
@IGNORE_BUFFER
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def rasterize(
    scene: str,
    labels: Path | None,
    out: Path,
    fetch: bool,
    classes: str,
    layer: str | None,
    all_are: str | None,
    area: Path | None,
    ignore_buffer: float,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Rasterize vector labels on the pixels of a scene.

    LABELS are OpenStreetMap (.osm, .osm.bz2, .osm.pbf), a GeoPackage, GeoJSON, GeoParquet,
    Shapefile, or a raster of class ids; or one of the services fetch (OpenStreetMap) and overture
    (Overture Maps; overture:RELEASE for a certain release), which are asked for the extent of the
    scene. Pixels of which nothing is known are 255.

    Example: geopipe labels scene.tif --fetch -o labels.tif
    """
    if (labels is None) != fetch:
        raise click.UsageError("Give LABELS, or --fetch without LABELS.")
    from geopipe.classes import load_scheme
    from geopipe.labels.raster import why_missing
    from geopipe.labels.write import check_label_raster, write_label_raster
    from geopipe.raster.undeclared import warn_of_nodata
    from geopipe.workflow.schema import FETCH as BY_NAME
    from geopipe.workflow.schema import LabelledScene
    from geopipe.workflow.sources import label_source, open_scene

    check_label_raster(out, scene, overwrite=overwrite)
    choice = LabelledScene(
        scene=scene,
        bands=bands,
        nodata=nodata,
        labels=labels or Path(BY_NAME),
        layer=layer,
        all_are=all_are,
        area=area,
        ignore_buffer=ignore_buffer,
    )
    place = open_scene(choice)
    warn_of_nodata([place])
    source = label_source(choice, load_scheme(classes), place)
    counts = write_label_raster(place, source, out, overwrite=overwrite)
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
        why = why_missing(source, [name])
        click.echo(f"warning: no pixel of class {name}{why and ': '}{why}", err=True)
    click.echo(out)


@labels.command()
@click.argument("scene")
@click.argument("labels", type=PATH)
@out_option(
    "A GeoPackage of doubtful features and of the tiles, styled for QGIS.",
    "CHECK.gpkg",
    required=False,
)
@MODEL
@click.option(
    "--qc-tile",
    type=click.FloatRange(50, 5000),
    default=200.0,
    show_default=True,
    metavar="METRES",
    help="Side of a tile that the labels are checked in.",
)
@click.option(
    "--image-date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="When the image was taken  [default: as its tags say]",
)
@MAX_SHIFT
@CLASSES
@LAYER
@ALL_ARE
@AREA
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def check(
    scene: str,
    labels: Path,
    out: Path | None,
    model: Path | None,
    qc_tile: float,
    image_date: Any,
    max_shift: float,
    classes: str,
    layer: str | None,
    all_are: str | None,
    area: Path | None,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Check how well vector labels fit a scene, tile by tile.

    Of each class in each tile: the shift, the share of missing objects (omission), the objects that
    the image does not show (commission), and their age. A shift is told only where the image
    supports it; dx and dy are metres on the ground to add to the labels, right and up in the image.
    The layer `features` of CHECK.gpkg holds each doubtful, shifted or missing feature.
    LABELS are vectors, or a service, as of `geopipe labels`.

    Example: geopipe labels check scene.tif osm.gpkg -o check.gpkg
    """
    import numpy as np

    from geopipe.raster.geopackage import check_target
    from geopipe.register import label_qc as work
    from geopipe.register.findings import findings
    from geopipe.register.qc_file import feature_rows, rows, write_qc_file

    if out:
        check_target(out, overwrite=overwrite, sources=_files(scene, labels, model, area))
    qc = _label_qc(scene, labels, classes, layer, all_are, area, bands, nodata, model, max_shift)
    capture_date = image_date.date() if image_date else work.image_date(qc.scene)
    tables = work.tables_of(labels, qc.scheme, qc.scene, layer, all_are)
    result = qc.examine(qc_tile)
    tiles = work.with_dates(result.tiles, qc.grid, tables, qc_tile)
    label_findings = findings(qc.grid, result, qc.field, tables)
    if out:
        write_qc_file(qc.grid, tiles, out, findings=label_findings, overwrite=overwrite)
    table = rows(qc.grid, tiles)
    suggestion_lines = [
        *work.suggestions(tiles, qc.scene, capture_date),
        *work.omission_summary(result, qc.scheme, qc.grid),
        work.date_summary(tiles, capture_date),
    ]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "tiles": table,
                    "suggestions": suggestion_lines,
                    "out": out and str(out),
                    "features": feature_rows(qc.grid, label_findings),
                    "omission": {
                        name: None if np.isnan(o.expected) else round(o.expected, 1)
                        for name, o in zip(qc.scheme.names[1:], result.omissions, strict=True)
                    },
                    "left_out": qc.left_out(),
                }
            )
        )
        return
    _warn_of_left_out(qc)
    click.echo(_table(table))
    for line in suggestion_lines:
        click.echo(line)
    counts = Counter(f.kind for f in label_findings)
    listed = ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "no feature in doubt"
    click.echo(listed + ("" if out or not label_findings else " (give -o CHECK.gpkg to see which)"))
    if out:
        click.echo(out)


@labels.command()
@click.argument("scene")
@click.argument("labels", type=PATH)
@out_option("The GeoPackage of aligned vectors to write.", "OUT.gpkg")
@MODEL
@MAX_SHIFT
@CLASSES
@LAYER
@ALL_ARE
@AREA
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def align(
    scene: str,
    labels: Path,
    out: Path,
    model: Path | None,
    max_shift: float,
    classes: str,
    layer: str | None,
    all_are: str | None,
    area: Path | None,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Move vector labels to where the image shows them.

    Every vertex moves by a smooth displacement field, so shapes that touch still touch. Columns
    stay; source_id, shift_east and shift_north tell what was done to each feature. What the image
    gives no evidence for stays where it is. Features farther than 100 m from the scene are left
    out. LABELS are vectors, or a service, as of `geopipe labels`.

    Example: geopipe labels align scene.tif osm.gpkg -o aligned.gpkg
    """
    import numpy as np

    from geopipe.raster.geopackage import check_target
    from geopipe.register import label_qc as work
    from geopipe.register.align import write_aligned

    check_target(out, overwrite=overwrite, sources=_files(scene, labels, model, area))
    qc = _label_qc(scene, labels, classes, layer, all_are, area, bands, nodata, model, max_shift)
    tables = work.tables_of(labels, qc.scheme, qc.scene, layer, all_are)
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
            f"shift accepted{rejection_text}"
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
    all_are: str | None,
    area: Path | None,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    model: Path | None,
    max_shift: float,
) -> "LabelQC":
    from geopipe.classes import load_scheme
    from geopipe.raster.undeclared import warn_of_nodata
    from geopipe.register.label_qc import LabelQC
    from geopipe.workflow.schema import LabelledScene
    from geopipe.workflow.sources import label_source, open_scene

    settings = LabelledScene(
        scene=scene, bands=bands, nodata=nodata, labels=osm, layer=layer, all_are=all_are, area=area
    )
    opened_scene = open_scene(settings)
    warn_of_nodata([opened_scene])
    qc = LabelQC(
        opened_scene, label_source(settings, load_scheme(classes), opened_scene), model, max_shift
    )
    _ = qc.grid  # a raster of labels is refused before it is read as a table
    return qc


def _table(rows: list[dict[str, Any]]) -> str:
    """Blocks with features as text."""
    lines = [
        f"{'at (m)':>13s} {'class':10s} {'features':>8s} {'dx':>6s} {'dy':>6s} {'+-':>5s} "
        f"{'score':>5s} {'omission':>8s} {'commission':>10s} {'edited':10s} status"
    ]
    for r in rows:
        if not r["features"] and r["status"] == "no labels":
            continue
        shift = (
            f"{'-':>6s} {'-':>6s} {'-':>5s} {'-':>5s}"
            if r["dx_m"] is None
            else f"{r['dx_m']:6.2f} {r['dy_m']:6.2f} {r['error_m']:5.2f} {r['score']:5.1f}"
        )
        omission = "-" if r["omission_share"] is None else f"{100 * r['omission_share']:.0f} %"
        rejection_text = f" ({r['rejected']})" if r["rejected"] and r["features"] else ""
        lines.append(
            f"{r['row']:6d},{r['column']:6d} {r['class']:10s} {r['features']:8d} {shift} "
            f"{omission:>8s} {r['commission']:10d} {r['median_date'] or '-':10s} "
            f"{r['status']}{rejection_text}"
        )
    return "\n".join(lines)
