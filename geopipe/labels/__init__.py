"""Labels for semantic segmentation: OSM vectors, ground-truth vectors and label rasters.

All are read as class ids on any pixel grid; vectors are rasterized per window.
"""

from geopipe.labels.area import Area, ClippedLabels
from geopipe.labels.cores import CORES, core_labels
from geopipe.labels.fetched import FETCH, fetch_labels, fetched_file, is_fetched, service_of
from geopipe.labels.ignore_buffer import IgnoreBufferLabels
from geopipe.labels.raster import RasterLabels
from geopipe.labels.source import LabelSource, open_labels, warn_of_unknown_classes
from geopipe.labels.vector import VectorLabels
from geopipe.labels.write import LabelCounts, write_label_raster

__all__ = [
    "CORES",
    "FETCH",
    "Area",
    "ClippedLabels",
    "IgnoreBufferLabels",
    "LabelCounts",
    "LabelSource",
    "RasterLabels",
    "VectorLabels",
    "core_labels",
    "fetch_labels",
    "fetched_file",
    "is_fetched",
    "open_labels",
    "service_of",
    "warn_of_unknown_classes",
    "write_label_raster",
]
