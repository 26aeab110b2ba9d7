"""Registration of a reference to the objects of a map, before the two are compared."""

from dataclasses import dataclass, field, replace

import numpy as np
from odc.geo.geobox import GeoBox

from geopipe.changes.objects import GSD, ObjectSet, Plane, Side
from geopipe.classes import ClassScheme
from geopipe.grid import NetworkGrid, Window, ground_gsd
from geopipe.labels import VectorLabels
from geopipe.labels.buffered_lines import buffered_lines
from geopipe.raster import Scene
from geopipe.raster.scene import window_geobox
from geopipe.register import DisplacementField, RegistrationGrid, estimate_field
from geopipe.register.align import shift_shapes
from geopipe.vectors.footprints import BUILDING

ROAD_WIDTH_M = 7.0
"""Of lines when they are drawn; the same for both sides, so that edges meet edges."""
_MARGIN_M = 30.0
"""Around the area: objects that a shift moves in or out have their place on the grid."""


@dataclass(frozen=True)
class MapGrid(RegistrationGrid):
    """A registration grid whose image is the drawing of the objects of a map."""

    mapped: VectorLabels | None = None

    def image(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """One band per class, (classes - 1, h, w) float32 of 0 and 1, valid on the grid."""
        return _MapLikelihood(self).read(window)[1:], self._inside(window)

    def _inside(self, window: Window) -> np.ndarray:
        valid = np.zeros(window.shape, bool)
        inner = window.clip(self.shape)
        if inner.height and inner.width:
            valid[inner.within(window)] = True
        return valid


@dataclass(frozen=True)
class _MapLikelihood:
    """What a map says is certain."""

    grid: MapGrid

    def read(self, window: Window, needed: np.ndarray | None = None) -> np.ndarray:
        """(classes, h, w) float32 of 0 and 1; 0 outside the grid."""
        assert self.grid.mapped is not None
        ids = self.grid.mapped.read(window_geobox(self.grid.geobox, window))
        classes = np.arange(len(self.grid.mapped.scheme))[:, None, None]
        return np.asarray((ids == classes) & self.grid._inside(window), np.float32)


@dataclass(frozen=True, eq=False)
class Alignment:
    """A reference in the place where the map has its objects."""

    side: Side
    shifts: dict[str, np.ndarray] = field(default_factory=dict)
    """Class -> (n, 2) metres east and north that were added to each object."""
    estimates: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Class -> estimates of the shift that are accepted, and all."""


def align_reference(
    mapped: Side, reference: Side, plane: Plane, scheme: ClassScheme, max_shift: float
) -> Alignment:
    """Move the objects of `reference` by the smooth displacement field that fits those of `mapped`.

    The estimator of ``geopipe labels align``, with the drawn map in place of the image and of the
    class likelihood. A class that one side lacks, or for which no estimate is accepted, stays where
    it is. `max_shift`: metres; 0 leaves all as it is.
    """
    box = plane.geobox.pad(round(_MARGIN_M / GSD))
    classes = {
        name: (mapped.of(name), reference.of(name))
        for name in scheme.names[1:]
        if mapped.of(name) and reference.of(name)
    }
    if not max_shift or not classes:
        return Alignment(reference)
    both = []
    for side in (0, 1):
        shapes, ids = [np.empty(0, object)], [np.empty(0, np.uint8)]
        for name in sorted(classes, key=lambda n: scheme.classes[scheme.id_of(n)].priority):
            objects = classes[name][side]
            assert objects is not None
            drawn = _drawn(objects, plane)
            shapes.append(drawn)
            ids.append(np.full(len(drawn), scheme.id_of(name), np.uint8))
        both.append(VectorLabels(scheme, box, np.concatenate(shapes), np.concatenate(ids)))
    displacement = _estimate(box, both[1], both[0], max_shift)
    return _moved(reference, displacement, plane, scheme, list(classes))


def _estimate(
    box: GeoBox, reference: VectorLabels, mapped: VectorLabels, max_shift: float
) -> DisplacementField:
    scene = Scene("the map", box, (1,), "float32")
    gsd = max(ground_gsd(box))
    grid = MapGrid(scene, reference, NetworkGrid(scene.shape, (1.0, 1.0)), gsd, mapped)
    return estimate_field(grid, _MapLikelihood(grid), max_shift)


def _drawn(objects: ObjectSet, plane: Plane) -> np.ndarray:
    """(n,) polygons."""
    if not len(objects) or objects.shapes[0].geom_type == "Polygon":
        return objects.shapes
    widths = np.full(len(objects), ROAD_WIDTH_M)
    return buffered_lines(objects.shapes, widths, plane.crs, plane.crs)


def _moved(
    reference: Side,
    displacement: DisplacementField,
    plane: Plane,
    scheme: ClassScheme,
    names: list[str],
) -> Alignment:
    shifts: dict[str, np.ndarray] = {}
    estimates: dict[str, tuple[int, int]] = {}
    side = reference
    for name in names:
        objects, class_id = reference.of(name), scheme.id_of(name)
        assert objects is not None
        shapes, shifts[name] = shift_shapes(objects.shapes, class_id, displacement, plane.crs)
        estimates[name] = (len(displacement.of_class(class_id)), displacement.count(class_id))
        moved = replace(objects, shapes=shapes)
        side = replace(side, buildings=moved) if name == BUILDING else replace(side, roads=moved)
    return Alignment(side, shifts, estimates)
