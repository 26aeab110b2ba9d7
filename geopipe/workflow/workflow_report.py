"""The report of a whole workflow."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from geopipe import __version__
from geopipe.checkpoint import Checkpoint, file_hash
from geopipe.errors import LabelError
from geopipe.evaluation.iterations import IterationMetrics
from geopipe.evaluation.raster_objects import ObjectCounts, count_objects
from geopipe.learn.loop import TrainingHistory
from geopipe.report.closeups import close_up, select_windows
from geopipe.report.map_report import CloseUp, Report, write_report
from geopipe.report.map_summary import counted, overview, overview_gsd
from geopipe.report.provenance import training_facts
from geopipe.report.sections import ReportSection, iterations_section, reliability_section
from geopipe.report.summary import curves, lead_table, methods, summary_text
from geopipe.workflow.model_items import describe_model
from geopipe.workflow.schema import LabelledScene
from geopipe.workflow.sources import (
    label_source,
    open_scene,
    shared_ground,
)
from geopipe.workflow.training_steps import history_path
from geopipe.workflow.workflow_steps import WorkflowRun


def write_workflow_report(run: WorkflowRun, evaluation: IterationMetrics | None) -> Path:
    """Write the report of the whole workflow and return its page."""
    first_map = run.workflow.map_scenes()[0]
    if evaluation:
        refined = run.model == run.refined
        base, last = run.base if refined else None, evaluation.steps[-1]
        describe_model(run.model, run.workflow, base=base, refined=refined, metrics=last)
    paths = {"base network": run.base}
    if run.workflow.enhance:
        paths["refinement"] = run.refined
    steps = evaluation.steps if evaluation else ()
    names, objects = run.workflow.names, _objects(run, evaluation)
    tile = run.workflow.enhance
    scene = run._mapped()
    picture = overview(scene, run.map_folder(first_map) / "classes.tif")
    report = Report(
        title=run.workflow.name,
        scheme=run.scheme,
        summary=summary_text(steps, names, objects),
        lead=lead_table(steps, names, objects),
        metrics=methods(steps, names) if steps else (),
        sections=tuple(_sections(evaluation)) if evaluation else (),
        curves=curves(
            {name: TrainingHistory.load(history_path(p)) for name, p in paths.items()},
            tile_apart=not tile
            or not any(shared_ground(tile, part) for part in run.workflow.train.parts),
        ),
        closeups=tuple(_closeups(run, run.workflow.test, evaluation)),
        overview=picture,
        overview_gsd=overview_gsd(scene, picture[0]),
        timings=tuple(run.timings.items()),
        facts=_facts(run),
    )
    return write_report(run.out / "report", report)[0]


def _sections(evaluation: IterationMetrics) -> Iterator[ReportSection]:
    if len(evaluation.steps) > 1:
        yield iterations_section(evaluation.steps)
    if evaluation.reliability:
        yield reliability_section(evaluation.reliability)


def _objects(run: WorkflowRun, evaluation: IterationMetrics | None) -> dict[str, ObjectCounts]:
    """Objects of the classes whose areas are counted, in the truth and in the last map."""
    if evaluation is None:
        return {}
    counts_by_class = {
        c.name: count_objects(evaluation.maps[-1], run.labels("test"), k)
        for k, c in enumerate(run.scheme.classes)
        if k and counted(c)
    }
    return {name: counts for name, counts in counts_by_class.items() if counts}


def _closeups(
    run: WorkflowRun, test: LabelledScene | None, evaluation: IterationMetrics | None
) -> Iterator[CloseUp]:
    if test is None or evaluation is None:
        return
    scene, truth, size = open_scene(test), run.labels("test"), run.workflow.report
    try:  # what the training labels say here, where they reach this far
        as_they_are = run.workflow.train.model_copy(update={"align": False, "ignore_buffer": 0})
        labels = label_source(as_they_are, run.scheme, scene)
    except LabelError:
        noisy = None
    else:
        noisy = ("training labels", labels)
    for window in select_windows(truth, size.closeups, size.closeup_px):
        yield close_up(scene, window, noisy, truth, evaluation, run.workflow.names)


def _facts(run: WorkflowRun) -> tuple[tuple[str, str], ...]:
    model = Checkpoint.load(run.model)
    return (
        ("software", f"geopipe {__version__}, torch {torch.__version__}"),
        ("device", run.device),
        ("machine", f"{os.cpu_count()} processors, {platform.machine()}"),
        ("seed", str(run.workflow.seed)),
        ("model", f"{run.model.name}, sha256 {file_hash(run.model)}"),
        ("training labels", "; ".join(map(_label_text, run.workflow.train.parts))),
        *training_facts(model.provenance),
    )


def _label_text(settings: LabelledScene) -> str:
    """Which labels, and what is done to them before anything learns from them."""
    done = ["aligned to the image" if settings.align else "as they are"]
    if settings.ignore_buffer:
        done.append(f"{settings.ignore_buffer:g} m along outlines ignored")
    return f"{settings.labels.name}, {', '.join(done)}"
