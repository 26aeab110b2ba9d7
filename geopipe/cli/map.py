"""geopipe map."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from geopipe.cli.commands import Command
from geopipe.cli.options import (
    AS_JSON,
    BANDS,
    DEVICE,
    NODATA,
    OVERWRITE,
    RAM,
    SCHEDULER,
    THREADS,
    VRAM,
    WORKERS,
    out_option,
    tile_size_option,
)
from geopipe.errors import JobError
from geopipe.progress import duration

if TYPE_CHECKING:
    from geopipe.workflow.bundle import Bundle

SKIPPED = 3
"""Exit code of maps with tiles or scenes that could not be read."""


@click.command("map", cls=Command)
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE... [MODEL]")
@out_option("The folder of the map; of several scenes, a folder each in it.", "FOLDER")
@DEVICE
@WORKERS
@THREADS
@SCHEDULER
@RAM
@VRAM
@tile_size_option("Pixels a side of a tile  [default: 1024, less where memory is short]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Precision of the networks; tf32 (GPUs) and bfloat16 are refused where less than 99.9 % "
    "of a sample agree.",
)
@click.option(
    "--flips",
    type=click.Choice(["1", "2", "4"]),
    default="1",
    show_default=True,
    help="Average the probabilities of the image and of its flips: 2 or 4 times the time.",
)
@click.option("--scores", is_flag=True, help="Add scores.tif, the probability of each class.")
@click.option(
    "--confidence/--no-confidence",
    default=None,
    help="Add confidence.tif, the probability of the best class  "
    "[default: with a model of patches, with --vectors]",
)
@click.option(
    "--vectors",
    is_flag=True,
    help="Add features.gpkg and features.parquet (building footprints, road lines, other classes "
    "as polygons) and features.html, a map of them that works offline.",
)
@click.option(
    "--orthogonalize/--no-orthogonalize",
    default=None,
    help="With --vectors: give footprints right angles where the map has them  [default: yes]",
)
@click.option(
    "--mosaic", is_flag=True, help="Map the scenes as one; where they overlap the first is on top."
)
@click.option(
    "--min-area",
    default="auto",
    metavar="M2",
    help="Smaller areas take a neighbour's class: 10, or building=10,road=40; 0 keeps all  "
    "[default: the 1 % quantile of the training labels, where the model knows it]",
)
@click.option(
    "--skip-bad",
    is_flag=True,
    help="Leave out scenes that cannot be read; tiles that cannot become nodata. Exit code 3.",
)
@click.option("--restart", is_flag=True, help="Drop an unfinished map of other inputs.")
@click.option("--inexact", is_flag=True, help="Allow layers that leave seams between tiles.")
@click.option("--dry-run", is_flag=True, help="Only print the plan: tiles, memory, disk, time.")
@OVERWRITE
@BANDS
@NODATA
@AS_JSON
def map_(
    scenes: tuple[str, ...],
    out: Path,
    device: str,
    workers: int,
    threads: int | None,
    scheduler: str | None,
    ram_mb: int | None,
    vram_mb: int | None,
    tile_size: int | None,
    precision: str,
    flips: str,
    scores: bool,
    confidence: bool | None,
    vectors: bool,
    orthogonalize: bool | None,
    mosaic: bool,
    min_area: str,
    skip_bad: bool,
    restart: bool,
    inexact: bool,
    dry_run: bool,
    overwrite: bool,
    bands: tuple[int, ...] | None,
    nodata: float | None,
    as_json: bool,
) -> None:
    """Map scenes with a trained model.

    MODEL is a .safetensors file. Without it the starter model maps: it comes with geopipe and knows
    buildings in images of 0.1 to 0.5 m.

    SCENE is a raster, a VRT, an address (https://, s3://), a list of scenes in a text file (.txt)
    or a STAC file (.json). FOLDER gets classes.tif with its style for QGIS, a report, and what the
    options add. The same command goes on with a run that stopped.

    Example: geopipe map scene.tif model.safetensors -o map
    """
    from geopipe.mapping import Budget, Engine, Workers
    from geopipe.mapping.min_area import parse_min_area
    from geopipe.raster import Scene
    from geopipe.raster.inputs import LeftOut, scene_names, scene_paths
    from geopipe.workflow.bundle import MapOptions, mosaic_scene, plan_bundle, write_bundle
    from geopipe.workflow.many import MappedScenes, write_bundles

    scenes, model = _scenes_and_model(scenes)
    if orthogonalize is not None and not vectors:
        raise click.UsageError("--orthogonalize shapes the footprints of --vectors: give both")
    engine = Engine(
        device,
        Workers(workers, scheduler, threads),
        Budget(tile_size, ram_mb, vram_mb),
        precision,  # type: ignore[arg-type]  # click has checked it
        skip_bad,
        restart,
        inexact,
        int(flips),
    )
    options = MapOptions(
        engine,
        scores,
        confidence,
        vectors,
        orthogonalize is not False,
        overwrite,
        parse_min_area(min_area),
    )
    left_out: LeftOut = {}
    paths = scene_paths(scenes, left_out if skip_bad else None)
    if mosaic:
        work = None
        if dry_run:
            work = Path(click.get_current_context().with_resource(TemporaryDirectory()))
        one = mosaic_scene(paths, out, options, bands=bands, nodata=nodata, work=work)
        paths, scenes = [one.path], (one.path,)
    is_single = len(paths) == 1 and paths[0] == scenes[0] and not left_out
    if dry_run:
        for path, name in scene_names(paths).items():
            target = out if is_single else out / name
            plan = plan_bundle(Scene.open(path, bands, nodata), model, target, options)
            click.echo(json.dumps(plan) if as_json else "\n".join(_plan_lines(plan)))
        return
    done = MappedScenes(failed=left_out)
    if is_single:
        done.bundles.append(write_bundle(Scene.open(paths[0], bands, nodata), model, out, options))
    else:
        done = write_bundles(paths, model, out, options, bands=bands, nodata=nodata)
        done.failed = left_out | done.failed
    _tell(done.bundles, as_json=as_json)
    if not is_single:
        for line in done.summary():
            click.echo(line, err=True)
    bad = [line for bundle in done.bundles for line in bundle.bad]
    for line in bad:
        click.echo(f"bad: {line}", err=True)
    if done.failed and not skip_bad:
        raise JobError(
            f"{len(done.failed)} of {len(paths)} scenes failed: {', '.join(done.failed)}",
            "the others are done; the same command tries these again",
        )
    if bad or done.failed:
        click.get_current_context().exit(SKIPPED)


def _scenes_and_model(arguments: tuple[str, ...]) -> tuple[tuple[str, ...], Path]:
    """What is to be mapped, and with what: the last argument if it is a model."""
    from geopipe.checkpoint.starter import NAME, STARTER, model_path
    from geopipe.tensors import is_tensor_file

    *scenes, last = arguments
    if wrong := [name for name in scenes if is_tensor_file(Path(name))]:
        raise click.UsageError(
            f"{wrong[0]} is a model, which comes after the scenes: "
            f"geopipe map SCENE {wrong[0]} -o FOLDER"
        )
    if scenes and (last == NAME or last.endswith(".safetensors") or is_tensor_file(Path(last))):
        return tuple(scenes), model_path(last)
    return arguments, STARTER


def _plan_lines(plan: Mapping[str, str | int]) -> list[str]:
    """The plan in words, with units."""
    words = {
        "tiles_at_once": ("tiles at once", "{}"),
        "core_px": ("tile size", "{} px"),
        "halo_px": ("halo", "{} px"),
        "memory_mb": ("memory", "{} MB"),
        "vram_mb": ("memory of the GPU", "{} MB"),
        "disk_mb": ("disk", "{} MB"),
    }
    lines = []
    for key, value in plan.items():
        name, form = words.get(key, (key, "{}"))
        if key == "seconds":
            name, form, value = "time", "about {}", duration(float(value))
        lines.append(f"{name:20s} {form.format(value)}")
    return lines


def _tell(bundles: "Sequence[Bundle]", *, as_json: bool) -> None:
    """Print what was made."""
    for bundle in bundles:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "map": str(bundle.classes),
                        "report": str(bundle.report),
                        "areas_m2": bundle.areas,
                        "seconds": bundle.seconds,
                        "mapping_seconds": bundle.mapping_seconds,
                        "bad_tiles": bundle.bad,
                        "out_of_domain": bundle.out_of_domain,
                    }
                )
            )
            continue
        for name, m2 in bundle.areas.items():
            click.echo(f"{name:16s} {m2 / 1e4:12.2f} ha")
        if bundle.out_of_domain is not None:
            click.echo(f"{'out of domain':16s} {100 * bundle.out_of_domain:12.1f} %")
        click.echo(f"map:    {bundle.classes}")
        click.echo(f"report: {bundle.report}")
