"""Build the approximate search of an index, on request or when the index is large."""

from contextlib import suppress
from dataclasses import replace

from geopipe.errors import ChipIndexError
from geopipe.progress import progress
from geopipe.retrieve.header import SearchFile
from geopipe.retrieve.search import choose_kind, load, make, save
from geopipe.retrieve.store import ChipIndex, Writer


def make_searchable(writer: Writer, requested: str) -> tuple[str, float | None]:
    """Make the approximate search that is wanted, if it is not there; its kind and recall."""
    header, folder = writer.header, writer.folder
    kind = choose_kind(requested, header.count)
    current = header.search
    if requested == "auto" and current and current.count >= header.count / 2:
        kind = current.kind  # what was chosen before serves on; what came since is few
    if kind == "exact":
        if current:
            writer.write(header.patch(search=None))
            (folder / current.file).unlink(missing_ok=True)
        return kind, None
    vectors = ChipIndex(folder, header).vectors
    if current and current.kind == kind and current.count >= header.count / 2:
        with suppress(ChipIndexError):  # damaged or lost: it is made anew
            load(folder, current, vectors)
            return kind, current.recall
    name = f"search-{kind}-{header.count}.faiss"
    with progress(f"making the {kind} search", header.count) as advance:
        size = save(make(kind, vectors, advance), folder / name)
    made = SearchFile(kind, name, size, header.count)
    recall = load(folder, made, vectors).recall()
    writer.write(header.patch(search=replace(made, recall=recall)))
    if current and current.file != name:
        (folder / current.file).unlink(missing_ok=True)
    return kind, recall
