"""A table's parameters as parameters of QGIS, and their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterNumber,
    QgsProcessingParameterPoint,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
)

from .commands import LAYER_KINDS, OUTPUT_KINDS, Parameter, Source
from .layers import LayerError, layer_source
from .places import box_around

LONLAT = "EPSG:4326"


def definition(parameter: Parameter) -> QgsProcessingParameterDefinition:
    """What QGIS builds its dialog from."""
    made = _definition(parameter)
    if parameter.advanced:
        made.setFlags(made.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
    return made


def _definition(p: Parameter) -> QgsProcessingParameterDefinition:
    optional = not p.required and p.default is None
    if p.kind in ("integer", "number"):
        made = QgsProcessingParameterNumber(
            p.name,
            p.label,
            QgsProcessingParameterNumber.Type.Integer
            if p.kind == "integer"
            else QgsProcessingParameterNumber.Type.Double,
            p.default,
            optional,
        )
        if p.minimum is not None:
            made.setMinimum(p.minimum)
        if p.maximum is not None:
            made.setMaximum(p.maximum)
        return made
    if p.kind == "choice":
        made = QgsProcessingParameterEnum(p.name, p.label, list(p.choices), False, p.default)
        made.setUsesStaticStrings(True)
        return made
    if p.kind in ("file", "folder"):
        behavior = QgsProcessingParameterFile.Behavior
        made = QgsProcessingParameterFile(
            p.name,
            p.label,
            behavior.Folder if p.kind == "folder" else behavior.File,
            optional=optional,
        )
        if p.pattern:
            made.setFileFilter(f"{p.pattern};;All files (*)")
        return made
    if p.kind == "output file":
        # A second output is only made where it is asked for.
        return QgsProcessingParameterFileDestination(
            p.name, p.label, p.pattern, optional=optional, createByDefault=p.name == "OUTPUT"
        )
    simple = {
        "flag": QgsProcessingParameterBoolean,
        "text": QgsProcessingParameterString,
        "texts": QgsProcessingParameterString,
        "raster": QgsProcessingParameterRasterLayer,
        "vector": QgsProcessingParameterVectorLayer,
        "layer": QgsProcessingParameterMapLayer,
        "extent": QgsProcessingParameterExtent,
        "bounds": QgsProcessingParameterExtent,
        "point": QgsProcessingParameterPoint,
        "output folder": QgsProcessingParameterFolderDestination,
    }
    return simple[p.kind](p.name, p.label, defaultValue=p.default, optional=optional)


class Values:
    """Reads the values of one run, in the forms that the command line needs."""

    def __init__(
        self,
        algorithm: QgsProcessingAlgorithm,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
    ) -> None:
        self._algorithm, self._parameters, self._context = algorithm, parameters, context

    def read(self, p: Parameter) -> Any:
        """The value of `p`; None where it is not given.

        Raises:
            LayerError: A layer cannot be read as it is.
        """
        a, arguments = self._algorithm, (self._parameters, p.name, self._context)
        if p.kind == "flag":
            return a.parameterAsBoolean(*arguments)
        if p.kind in OUTPUT_KINDS:
            return a.parameterAsString(*arguments)
        if self._parameters.get(p.name, p.default) in (None, ""):
            return None
        if p.kind in LAYER_KINDS:
            return self.source(p)
        if p.kind == "integer":
            return a.parameterAsInt(*arguments)
        if p.kind == "number":
            return a.parameterAsDouble(*arguments)
        if p.kind == "choice":
            return a.parameterAsEnumString(*arguments)
        lonlat = QgsCoordinateReferenceSystem(LONLAT)
        if p.kind == "point":
            side = a.parameterAsDouble(self._parameters, p.side_of, self._context)
            point = a.parameterAsPoint(*arguments, lonlat)
            return box_around(point.x(), point.y(), side)
        if p.kind in ("extent", "bounds"):
            box = a.parameterAsExtent(*arguments, lonlat)
            return box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()
        return a.parameterAsString(*arguments)

    def source(self, p: Parameter) -> Source | None:
        """The file of a layer; None where none is given."""
        value = self._parameters.get(p.name)
        if value in (None, ""):
            return None
        layer = self._algorithm.parameterAsLayer(self._parameters, p.name, self._context)
        if layer is not None:
            return layer_source(layer)
        if isinstance(value, str) and Path(value).exists():
            return Source(value)  # QGIS cannot open it, geopipe perhaps can
        raise LayerError(f"{p.label}: there is no layer or file {value}.")
