"""``geopipe assess``: points to look at, and what they say of the map."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geopipe.cli.options import AS_JSON, CLASSES, OVERWRITE, PATH

if TYPE_CHECKING:
    from geopipe.evaluation.assess.design import SampleDesign


@click.group()
def assess() -> None:
    """Judge a map by points that an analyst looks at: accuracy and areas with 95 % intervals."""


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
@click.option("-o", "--out", "target", type=PATH, required=True, help="The GeoPackage to fill in.")
@click.option("--per-class", type=int, metavar="N", help="Points in each mapped class.")
@click.option(
    "--target-ci",
    type=float,
    metavar="SHARE",
    help="Or as many as it takes: half of the 95 % interval of the overall accuracy"
    "  [default: 0.02]",
)
@click.option(
    "--minimum",
    type=int,
    default=50,
    show_default=True,
    help="With --target-ci: points in a rare class.",
)
@click.option(
    "--expect",
    "expected",
    multiple=True,
    callback=_parse_accuracies,
    metavar="CLASS=SHARE",
    help="User's accuracy conjectured  [default: 0.9 for the largest class, else 0.7]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed draws the same points.",
)
@click.option("--area", type=PATH, help="Polygons to which the assessment is limited.")
@click.option("--classes", help=CLASSES + "  [default: the names in MAP]")
@OVERWRITE
@AS_JSON
def plan(
    class_map: Path,
    target: Path,
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
    """Draw points in each class of MAP; fill in their field `truth` in QGIS."""
    if per_class is not None and target_ci is not None:
        raise click.UsageError("give --per-class or --target-ci, not both")
    from geopipe.classes import load_scheme
    from geopipe.evaluation.assess.points import plan_points
    from geopipe.evaluation.assess.sampling import SampleSize

    width = 0.02 if target_ci is None else target_ci
    size = SampleSize(per_class, width, minimum, expected)
    scheme = load_scheme(classes) if classes else None
    design = plan_points(
        class_map, target, size, seed=seed, area=area, scheme=scheme, overwrite=overwrite
    )
    requested = per_class or minimum
    if as_json:
        click.echo(
            json.dumps(
                {
                    "out": str(target),
                    "points": sum(design.points),
                    "seed": seed,
                    "area": design.area,
                    "map_sha256": design.sha256,
                    "expected_half_width": design.half_width,
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
        click.echo(target)
    for name, pixels, points in zip(design.names, design.pixels, design.points, strict=True):
        if not pixels:
            click.echo(f"note: no pixel of class {name}, so no point", err=True)
        elif points == pixels and points < requested:
            click.echo(f"note: class {name} has {pixels} pixels only: all taken", err=True)


def _lines(design: "SampleDesign") -> list[str]:
    total = sum(design.area_m2)
    rows = [f"{'class':16s} {'pixels':>12s} {'ha':>12s} {'share':>8s} {'points':>7s}  expected"]
    for i, name in enumerate(design.names):
        m2 = design.area_m2[i]
        rows.append(
            f"{name:16s} {design.pixels[i]:12d} {m2 / 1e4:12.2f} {100 * m2 / total:6.2f} %"
            f" {design.points[i]:7d}  {100 * design.expected[i]:g} %"
        )
    return [
        *rows,
        f"{sum(design.points)} points; overall accuracy to +- {100 * design.half_width:.2f} %"
        " if the user's accuracies are as expected",
    ]


@assess.command()
@click.argument("class_map", metavar="MAP", type=PATH)
@click.argument("points", type=PATH)
@click.option("-o", "--out", type=PATH, help="Write the report as Markdown to this file.")
@click.option(
    "--keep-moved",
    is_flag=True,
    help="Use points moved to another pixel, as of the class they were planned in.",
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
    """Estimate accuracies and areas of MAP from POINTS whose `truth` is filled in."""
    from geopipe.evaluation.assess.assessment import check_report, write_report
    from geopipe.evaluation.assess.interpretation import assess_map as judge

    if out is not None:
        check_report(out, overwrite)
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
