"""``geopipe assess``: points to look at, and what they say of the map."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geopipe.cli.commands import Group
from geopipe.cli.options import AREA, AS_JSON, OVERWRITE, PATH, SEED, classes_option, out_option

if TYPE_CHECKING:
    from geopipe.evaluation.assess.design import SampleDesign
    from geopipe.evaluation.assess.sampling import Allocation


@click.group(cls=Group)
def assess() -> None:
    """Judge a map by sample points that an analyst interprets.

    `plan` draws the points, `report` estimates accuracies and areas with 95 % intervals.

    Example: geopipe assess plan map/classes.tif -o points.gpkg
    """


def _parse_accuracies(
    _: click.Context, __: click.Parameter, texts: tuple[str, ...]
) -> dict[str, float]:
    accuracies = {}
    for text in texts:
        name, _sign, number = text.rpartition("=")
        try:
            accuracies[name.strip()] = float(number)
        except ValueError as e:
            raise click.BadParameter("give CLASS=SHARE, e.g. building=0.8") from e
    return accuracies


@assess.command()
@click.argument("class_map", metavar="MAP", type=PATH)
@out_option("The GeoPackage of points to fill in.", "POINTS.gpkg")
@click.option("--per-class", type=int, metavar="N", help="Points in each mapped class.")
@click.option(
    "--target-ci",
    type=float,
    metavar="SHARE",
    help="Or as many points as it takes for this half width of the 95 % interval of the overall "
    "accuracy  [default: 0.02]",
)
@click.option(
    "--minimum",
    type=int,
    default=50,
    show_default=True,
    help="With --target-ci: the least number of points in a class.",
)
@click.option(
    "--expect",
    "expected",
    multiple=True,
    callback=_parse_accuracies,
    metavar="CLASS=SHARE",
    help="Expected user's accuracy of a class; may be repeated  [default: 0.9 for the largest "
    "class, else 0.7]",
)
@SEED
@AREA
@classes_option(otherwise="the names in MAP")
@OVERWRITE
@AS_JSON
def plan(
    class_map: Path,
    out: Path,
    per_class: int | None,
    target_ci: float | None,
    minimum: int,
    expected: dict[str, float],
    seed: int,
    area: Path | None,
    classes: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw random sample points in each class of a map.

    Fill in their field `truth` in QGIS, then run `geopipe assess report`.

    Example: geopipe assess plan map/classes.tif -o points.gpkg --per-class 50
    """
    if per_class is not None and target_ci is not None:
        raise click.UsageError("Give --per-class or --target-ci, not both.")
    from geopipe.classes import load_scheme
    from geopipe.evaluation.assess.points import plan_points
    from geopipe.evaluation.assess.sampling import SampleSize, fewer

    width = 0.02 if target_ci is None else target_ci
    size = SampleSize(per_class, width, minimum, expected)
    scheme = load_scheme(classes) if classes else None
    design = plan_points(
        class_map, out, size, seed=seed, area=area, scheme=scheme, overwrite=overwrite
    )
    requested = per_class or minimum
    options = fewer(design.names, design.pixels, size)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "out": str(out),
                    "points": sum(design.points),
                    "seed": seed,
                    "area": design.area,
                    "map_sha256": design.sha256,
                    "expected_half_width": design.half_width,
                    "fewer": [
                        {"points": sum(o.points), "expected_half_width": o.half_width}
                        for o in options
                    ],
                    "classes": {
                        name: {
                            "pixels": design.pixels[i],
                            "area_ha": design.area_m2[i] / 1e4,
                            "points": design.points[i],
                            "expected_accuracy": design.expected[i],
                        }
                        for i, name in enumerate(design.names)
                    },
                }
            )
        )
    else:
        click.echo("\n".join(_lines(design)))
        for line in _offers(options):
            click.echo(line)
        click.echo(out)
    for name, pixels, points in zip(design.names, design.pixels, design.points, strict=True):
        if not pixels:
            click.echo(f"note: no pixel of class {name}, so no point", err=True)
        elif points == pixels and points < requested:
            click.echo(f"note: class {name} has {pixels} pixels only: all taken", err=True)


def _lines(design: "SampleDesign") -> list[str]:
    from geopipe.evaluation.assess.sampling import interpretation_time

    total, count = sum(design.area_m2), sum(design.points)
    rows = [f"{'class':16s} {'pixels':>12s} {'ha':>12s} {'share':>8s} {'points':>7s}  expected"]
    for i, name in enumerate(design.names):
        m2 = design.area_m2[i]
        rows.append(
            f"{name:16s} {design.pixels[i]:12d} {m2 / 1e4:12.2f} {100 * m2 / total:6.2f} %"
            f" {design.points[i]:7d}  {100 * design.expected[i]:g} %"
        )
    return [
        *rows,
        f"{count} points, about {interpretation_time(count)} of interpretation: overall "
        f"accuracy to +- {100 * design.half_width:.1f} % (95 % interval) if the user's accuracies "
        "are as expected",
    ]


def _offers(options: "Sequence[Allocation]") -> list[str]:
    """What fewer points would give."""
    from geopipe.evaluation.assess.sampling import interpretation_time

    return [
        f"or {sum(o.points)} points, about {interpretation_time(sum(o.points))}: "
        f"+- {100 * o.half_width:.1f} %, with --target-ci {_share_up(o.half_width)}"
        for o in options
    ]


def _share_up(half_width: float) -> str:
    """A share that as many points reach, in few digits."""
    return f"{math.ceil(half_width * 1000) / 1000:g}"


@assess.command()
@click.argument("class_map", metavar="MAP", type=PATH)
@click.argument("points", metavar="POINTS.gpkg", type=PATH)
@out_option("Write the report to this Markdown file.", "REPORT.md", required=False)
@click.option(
    "--keep-moved",
    is_flag=True,
    help="Use points that were moved to another pixel, in the class they were planned for.",
)
@OVERWRITE
@AS_JSON
def report(
    class_map: Path,
    points: Path,
    out: Path | None,
    keep_moved: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Estimate accuracies and class areas from sample points.

    POINTS.gpkg is the file that `geopipe assess plan` wrote, with its field `truth` filled in.

    Example: geopipe assess report map/classes.tif points.gpkg -o accuracy.md
    """
    from geopipe.evaluation.assess.assessment import check_report, write_report
    from geopipe.evaluation.assess.interpretation import assess_map as judge

    if out is not None:
        check_report(out, overwrite, [class_map, points])
    assessment = judge(class_map, points, keep_moved=keep_moved)
    if out is not None:
        write_report(out, assessment)
    if as_json:
        click.echo(json.dumps(assessment.to_dict()))
    elif out is None:
        click.echo(assessment.to_markdown().rstrip())
    for reason, ids in assessment.left_out.items():
        click.echo(f"left out: {len(ids)} x {reason}", err=True)
    if out is not None and not as_json:
        click.echo(out)
