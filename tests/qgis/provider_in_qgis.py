"""The plugin in a QGIS without windows, as Processing runs it (by /usr/bin/python3)."""

import sys
from pathlib import Path

from qgis.core import QgsProcessingContext, QgsProcessingFeedback, QgsProject

ROOT = Path(__file__).parents[2]


def start(executable):
    """Processing and the plugin, with the path of geopipe as its setting; returns `processing`."""
    sys.path[:0] = ["/usr/share/qgis/python/plugins", str(ROOT / "qgis")]
    import processing
    from geopipe_provider import classFactory
    from geopipe_provider.settings import EXECUTABLE
    from processing.core.Processing import Processing
    from processing.core.ProcessingConfig import ProcessingConfig

    Processing.initialize()
    start.plugin = classFactory(None)  # it owns what QGIS only points to
    start.plugin.initProcessing()
    ProcessingConfig.setSettingValue(EXECUTABLE, str(executable))
    return processing


def run(processing, name, parameters, feedback=None):
    """What the algorithm returned, what it said, and the layers that would be loaded."""
    feedback = feedback or QgsProcessingFeedback(False)
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    found = {"results": {}, "error": ""}
    try:
        found["results"] = processing.run(
            f"geopipe:{name}", parameters, context=context, feedback=feedback
        )
    except Exception as e:  # what QGIS shows in red
        found["error"] = str(e)
    found["loads"] = list(context.layersToLoadOnCompletion())
    return found | {"log": feedback.textLog().splitlines()}
