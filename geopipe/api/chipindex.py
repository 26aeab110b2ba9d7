"""An index of image chips that is asked for what looks alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import geopandas as gpd

from geopipe.api.html import Facts, as_html, as_text, listed
from geopipe.mapping import choose_device
from geopipe.retrieve import store
from geopipe.retrieve.hits import hits_frame
from geopipe.retrieve.query import Query, Retriever, SearchOptions


@dataclass(frozen=True, eq=False, repr=False)
class ChipIndex(store.ChipIndex):
    """The chips that ``geopipe index build`` collected, searchable by an image."""

    weights: str | None = None
    device: str = "auto"

    @classmethod
    def open(
        cls, folder: str | Path, weights: str | None = None, device: str = "auto"
    ) -> "ChipIndex":
        """Open the index in `folder`.

        Args:
            folder: What ``geopipe index build`` wrote.
            weights: The file of the network's weights, if it is not where it was.
            device: Where images are described: "auto", "cpu" or "cuda:N".

        Raises:
            ChipIndexError: There is no index, or it is damaged or empty.
        """
        return replace(super().open(Path(folder)), weights=weights, device=device)

    @cached_property
    def _retriever(self) -> Retriever:
        return Retriever.open(self.folder, self.weights, choose_device(self.device))

    def query(
        self,
        image: str | Path | int | None = None,
        k: int = 20,
        *,
        like: Sequence[str | Path | int] = (),
        unlike: Sequence[str | Path | int] = (),
        overlap: float = 0.3,
    ) -> gpd.GeoDataFrame:
        """The `k` chips that are most like an image.

        Args:
            image: An image file, or the number of a chip of the index.
            k: Hits.
            like: More examples of what is looked for.
            unlike: Examples of what is not.
            overlap: Hits that share more of their area with a better one are left out; 1: none.

        Returns:
            A row per hit, nearest first: rank, distance, similarity (-1 to 1), chip, class, source
            file and window; its footprint as geometry, None for a chip without a place on Earth.
        """
        query_spec = Query(
            None if image is None else str(image),
            like=tuple(map(str, like)),
            unlike=tuple(map(str, unlike)),
        )
        return hits_frame(self._retriever.query(query_spec, SearchOptions(k, overlap)).hits)

    def _facts(self) -> Facts:
        header = self.header
        names = sorted({str(n) for n in self.column("class_name") if n})
        shown = listed(names[:8]) + (", ..." if len(names) > 8 else "")
        return [
            ("folder", str(self.folder)),
            ("chips", f"{len(self):,} of {header.width} values ({header.dtype})"),
            ("scenes", str(len(header.scenes))),
            *([("classes", shown)] if names else []),
            ("search", header.search.kind if header.search else "exact"),
        ]

    def __repr__(self) -> str:
        return as_text("geopipe.ChipIndex", self._facts())

    def _repr_html_(self) -> str:
        return as_html("geopipe.ChipIndex", self._facts())
