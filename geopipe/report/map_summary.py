"""What a report says of a map: areas and numbers by class, and its pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geopipe.classes import ClassScheme, MapClass
from geopipe.grid import ground_gsd
from geopipe.mapping import MapFiles
from geopipe.mapping.area_counts import area_counts
from geopipe.mapping.preview import Preview
from geopipe.raster import Scene
from geopipe.raster.remote import display_name
from geopipe.raster.scene import opened
from geopipe.report.map_report import Report, downscale, to_bytes

if TYPE_CHECKING:  # brings pandas
    from geopipe.vectors.features import FeatureFiles

OVERVIEW_PX = 1600
"""Longer side of the pictures of a whole map."""


def summarize_map(
    scene: Scene,
    scheme: ClassScheme,
    files: MapFiles,
    class_map: Path,
    features: "FeatureFiles | None",
) -> Report:
    """What the report says of a map: areas, numbers of objects, pictures."""
    counts = object_counts(files.area_counts or area_counts(class_map, len(scheme)), scheme)
    facts: tuple[tuple[str, str], ...] = ()
    if files.domain:
        facts += (("out of domain", files.domain.sentence()),)
    if features:
        from geopipe.vectors.features import layer_names  # brings pandas

        facts += features.facts()
        for class_id, layer in layer_names(scheme).items():
            if (name := scheme.names[class_id]) in counts:
                counts[name] = features.counts[layer]
    picture = overview(scene, class_map, files.preview)
    return Report(
        title=f"Map of {Path(display_name(scene.path)).name}",
        scheme=scheme,
        lead=area_table(dict(zip(scheme.names, files.areas, strict=True)), counts),
        features=features.amounts() if features else (),
        overview=picture,
        overview_gsd=overview_gsd(scene, picture[0]),
        facts=facts,
    )


def area_table(areas: dict[str, float], counts: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
    """Each class with its area and, where `counts` has them, the number of its objects."""
    total = sum(areas.values()) or 1.0
    head = ("class", "area", "share", *(["number"] if counts else []))
    rows = [
        (
            name,
            f"{m2 / 1e4:,.2f} ha",
            f"{100 * m2 / total:.1f} %",
            *([f"{counts[name]:,}" if name in counts else ""] if counts else []),
        )
        for name, m2 in areas.items()
    ]
    return (head, *rows)


def object_counts(areas: Sequence[int], scheme: ClassScheme) -> dict[str, int]:
    """How many areas those classes have whose objects are areas, not the background or lines."""
    return {c.name: areas[k] for k, c in enumerate(scheme.classes) if k and counted(c)}


def counted(map_class: MapClass) -> bool:
    """Whether the areas of a class are objects that are counted: those that are drawn as areas."""
    if not map_class.rules:  # of a scheme without rules
        return map_class.name.casefold() == "building"
    return all(r.geometry == "polygon" for r in map_class.rules)


def overview_gsd(scene: Scene, image: np.ndarray) -> float:
    """Metres on the ground per pixel of the overview (3, h, w) of `scene`."""
    return float(sum(ground_gsd(scene.geobox)) / 2 * scene.shape[1] / image.shape[2])


def overview(
    scene: Scene, class_map: Path, preview: Preview | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Image (3, h, w) and class ids (h, w) of a whole scene, for the eye; `preview` if there is."""
    if preview:
        bands = [min(k, len(preview.data) - 1) for k in range(3)]  # one band is shown as grey
        image = to_bytes(preview.data[bands], preview.valid)
    else:
        image = downscale(scene, OVERVIEW_PX)
    with opened(class_map) as src:  # from the MODE overviews
        return image, src.read(1, out_shape=image.shape[1:])
