"""The cells of source and target that a transfer looks at."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from geopipe.checkpoint import Checkpoint
from geopipe.classes import IGNORE
from geopipe.errors import LabelError
from geopipe.learn.patches import PatchGrid, patch_net
from geopipe.learn.patches.model import PatchSource, source_digest
from geopipe.learn.transfer.draw import at_random

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TransferCells:
    """Cells at random, of each class its share by turns."""

    source: PatchGrid
    """Labelled."""
    test: np.ndarray
    """(source cells,) bool: held out from the model's training."""
    target: PatchGrid
    """Their labels are not read."""


def transfer_cells(
    model: Checkpoint, source: PatchSource, target: PatchSource, max_samples: int, seed: int
) -> TransferCells:
    """At most `max_samples` cells of each side; the source is read as in the model's training.

    Raises LabelError when the source lacks a class of the model.
    """
    net = patch_net(model)
    source = _as_trained(source, model)
    source_patches = PatchGrid.of(
        source.rasters(model.scheme, model.gsd, labelled=True), net.stride
    )
    source_patches = source_patches.subset(source_patches.ids != IGNORE)
    if missing := source_patches.absent_classes(model.scheme):
        raise LabelError(
            f"no source cell is of class {', '.join(missing)}", "give source images that have it"
        )
    train, test = _split(model, source_patches, max(net.sizes))
    source_patches, test = source_patches.subset(train | test), test[train | test]
    sampled = at_random(source_patches.ids, max_samples, seed)
    target_patches = PatchGrid.of(
        target.rasters(model.scheme, model.gsd, labelled=False), net.stride
    )
    return TransferCells(
        source_patches.subset(sampled),
        test[sampled],
        target_patches.subset(at_random(target_patches.ids, max_samples, seed)),
    )


def _as_trained(source: PatchSource, model: Checkpoint) -> PatchSource:
    """The source, its bands and holes as the model's training read them."""
    provenance = model.provenance
    bands = source.bands or tuple(provenance.get("bands") or ()) or None
    return replace(
        source,
        bands=bands,
        nodata=provenance.get("nodata") if source.nodata is None else source.nodata,
    )


def _split(model: Checkpoint, patches: PatchGrid, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool each: the cells that the model's training learnt from, and those that it held out.

    Of another source a share as large is held out.
    """
    provenance = model.provenance
    if provenance.get("source") != source_digest(patches):
        log.warning("the model was not trained on this source; a fifth of it is held out")
    share, seed = provenance.get("hold_out", 0.2), provenance.get("hold_out_seed", 0)
    return patches.split(share, seed, largest)
