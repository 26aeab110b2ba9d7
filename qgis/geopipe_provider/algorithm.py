"""An algorithm of QGIS that runs one command of geopipe."""

from __future__ import annotations

import os
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingOutputString,
)
from qgis.PyQt.QtGui import QIcon

from . import settings
from .commands import LAYER_KINDS, OUTPUT_KINDS, Command, Source
from .layers import LayerError, other_tables
from .parameters import Values, definition
from .results import layer_sources, scene_name, summary
from .runner import Outcome, RunnerError, check_version, clean_environment, run

ICON = str(Path(__file__).with_name("icon.svg"))


class GeopipeAlgorithm(QgsProcessingAlgorithm):
    """Runs `command` as a process of its own and loads what it made."""

    def __init__(self, command: Command) -> None:
        super().__init__()
        self._command = command
        self._values: dict[str, Any] = {}

    def createInstance(self) -> GeopipeAlgorithm:
        """A new one for each run."""
        return GeopipeAlgorithm(self._command)

    def name(self) -> str:
        """Its id in the provider."""
        return self._command.name

    def displayName(self) -> str:
        """Its name in the toolbox."""
        return self._command.title

    def group(self) -> str:
        """Where the toolbox lists it."""
        return self._command.group

    def groupId(self) -> str:
        """The id of its group."""
        return self._command.group.lower()

    def shortHelpString(self) -> str:
        """What the dialog says beside the parameters."""
        return self._command.description

    def icon(self) -> QIcon:
        """That of the provider."""
        return QIcon(ICON)

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Declare the parameters and outputs."""
        for parameter in self._command.parameters:
            self.addParameter(definition(parameter))
        self.addOutput(QgsProcessingOutputString("JSON", "What geopipe printed"))
        if self._command.loads:
            self.addOutput(QgsProcessingOutputMultipleLayers("LAYERS", "Layers"))
        if self._command.page:
            self.addOutput(QgsProcessingOutputHtml("PAGE", "Report"))

    def canExecute(self) -> tuple[bool, str]:
        """Whether geopipe is there, and what to do if not."""
        try:
            settings.executable()
        except RunnerError as e:
            return False, str(e)
        return True, ""

    def checkParameterValues(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str]:
        """Also whether geopipe will see of each layer what QGIS shows."""
        is_good, reason = super().checkParameterValues(parameters, context)
        if not is_good:
            return is_good, reason
        values = Values(self, parameters, context)
        try:
            for parameter in self._command.parameters:
                if parameter.kind in LAYER_KINDS:
                    values.source(parameter)
        except LayerError as e:
            return False, str(e)
        return True, ""

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Read the values, while layers may still be looked at."""
        values = Values(self, parameters, context)
        try:
            self._values = {p.name: values.read(p) for p in self._command.parameters}
        except LayerError as e:
            raise QgsProcessingException(str(e)) from e
        for parameter in self._command.parameters:
            source = self._values[parameter.name]
            others = other_tables(source) if isinstance(source, Source) else []
            if others and not parameter.layer_flag:
                feedback.pushWarning(f"{source.path}: {', '.join(others)} will be read too")
        return True

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run geopipe; QgsProcessingException with its own words when it fails."""
        environment = clean_environment(os.environ)
        try:
            executable = settings.executable()
            note = _version_note(executable, executable.stat().st_mtime_ns)
            if note:
                feedback.pushWarning(note)
            command = [str(executable), *self._command.arguments(self._values)]
            feedback.pushCommandInfo(shlex.join(command))

            def on_progress(progress: Any) -> None:
                feedback.setProgressText(progress.text)
                feedback.setProgress(progress.percent)

            outcome = run(
                command,
                environment,
                on_progress=on_progress,
                on_message=feedback.pushInfo,
                is_canceled=feedback.isCanceled,
            )
        except RunnerError as e:
            raise QgsProcessingException(str(e)) from e
        if outcome.canceled:
            feedback.pushInfo("Stopped. The same run, with the same output, goes on.")
            return {}
        if outcome.error:
            raise QgsProcessingException(outcome.error)
        for line in summary(outcome.result):
            feedback.pushConsoleInfo(line)
        return self._results(outcome, context)

    def _results(self, outcome: Outcome, context: QgsProcessingContext) -> dict[str, Any]:
        """The values of the outputs; the layers among them are loaded into the project."""
        output = str(self._values.get("OUTPUT") or "")
        results: dict[str, Any] = {"JSON": outcome.stdout.strip()}
        for parameter in self._command.parameters:
            if parameter.kind in OUTPUT_KINDS and (made := self._values.get(parameter.name)):
                results[parameter.name] = str(made)
        if output and self._command.keeps_json:
            Path(output).write_text(outcome.stdout, encoding="utf-8")
        if self._command.page:
            results["PAGE"] = str(Path(output, self._command.page))
        paths = [Path(output, name) for name in self._command.loads]
        # A raster and a table may have the same name, such as classes.
        layers = [layer for path in paths if path.exists() for layer in layer_sources(path)]
        if self._command.loads:
            results["LAYERS"] = [source for _, source in layers]
        if context.project():
            scene = scene_name(Path(output))
            for layer, source in layers:
                name = f"{scene} {layer}" if scene else layer
                details = QgsProcessingContext.LayerDetails(name, context.project(), "LAYERS")
                context.addLayerToLoadOnCompletion(source, details)
        return results


@lru_cache(maxsize=4)
def _version_note(executable: Path, changed: int) -> str:
    """What is to be said of its version, asked once until the file changes."""
    return check_version(executable, clean_environment(os.environ))
