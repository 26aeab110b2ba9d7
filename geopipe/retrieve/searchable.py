"""Build the approximate search of an index, on request or when the index is large."""

from contextlib import suppress

from geopipe.errors import ChipIndexError
from geopipe.progress import progress
from geopipe.retrieve.search import choose_kind, load, make, save
from geopipe.retrieve.store import ChipIndex, Writer


def make_searchable(writer: Writer, wanted: str) -> tuple[str, float | None]:
    """Make the approximate search that is wanted, if it is not there; its kind and recall."""
    header, folder = writer.header, writer.folder
    kind = choose_kind(wanted, header.count)
    known = header.search
    if wanted == "auto" and known and known["count"] >= header.count / 2:
        kind = known["kind"]  # what was chosen before serves on; what came since is few
    if kind == "exact":
        if known:
            writer.write(header.patch(search=None))
            (folder / str(known["file"])).unlink(missing_ok=True)
        return kind, None
    vectors = ChipIndex(folder, header).vectors
    if known and known["kind"] == kind and known["count"] >= header.count / 2:
        with suppress(ChipIndexError):  # damaged or lost: it is made anew
            load(folder, known, vectors)
            return kind, float(known["recall"])
    name = f"search-{kind}-{header.count}.faiss"
    with progress(f"making the {kind} search", header.count) as advance:
        size = save(make(kind, vectors, advance), folder / name)
    told = {"kind": kind, "file": name, "size": size, "count": header.count}
    recall = load(folder, told, vectors).recall()
    writer.write(header.patch(search={**told, "recall": recall}))
    if known and known["file"] != name:
        (folder / str(known["file"])).unlink(missing_ok=True)
    return kind, recall
