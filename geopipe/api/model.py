"""Models: a trained network with its classes, in a file."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from geopipe.api.html import Facts, as_html, as_text, listed
from geopipe.checkpoint import Checkpoint, ModelFile
from geopipe.checkpoint.starter import model_path
from geopipe.files import copy_file
from geopipe.oserrors import writing


@dataclass(frozen=True, repr=False, eq=False)
class Model:
    """A trained network and what is needed to map with it: classes, bands, normalisation, GSD."""

    file: ModelFile
    folder: TemporaryDirectory[str] | None = field(default=None, repr=False)
    """Holds the file of a model that was not saved yet; removed with the last reference to it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return load_model, (self.path,)

    @property
    def path(self) -> Path:
        """Its file; workers read it from there."""
        return self.file.path

    @property
    def checkpoint(self) -> Checkpoint:
        """What is in the file."""
        return self.file.checkpoint

    @property
    def sha256(self) -> str:
        """sha256 of the file, hexadecimal: maps name their model by it."""
        return self.file.sha256

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids."""
        return self.checkpoint.scheme.names

    @property
    def bands(self) -> int:
        """Number of bands it takes."""
        return self.checkpoint.bands

    @property
    def dtype(self) -> str:
        """dtype of the scenes it takes."""
        return self.checkpoint.dtype

    @property
    def gsd(self) -> float:
        """Metres on the ground per pixel of the network."""
        return self.checkpoint.gsd

    @property
    def provenance(self) -> dict[str, Any]:
        """How it was trained (JSON values)."""
        return self.checkpoint.provenance

    def save(self, path: str | Path) -> "Model":
        """Copy the model's file to `path`; OutputError where that cannot be written."""
        target = Path(path)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(self.path, target)
        return load_model(target)

    def _facts(self) -> Facts:
        net = self.checkpoint.net
        parts = [str(net.base.architecture.get("net", type(net.base).__name__))]
        if net.iterations:
            parts.append(f"refinement of {net.iterations} iterations")
        weights = sum(p.numel() for p in net.parameters())
        credit = self.provenance.get("credit")
        return [
            ("classes", listed(f"{i} {name}" for i, name in enumerate(self.classes))),
            ("input", f"{self.bands} bands ({self.dtype}) at {self.gsd:g} m"),
            ("network", f"{' + '.join(parts)}, {weights:,} weights"),
            ("context", f"{net.halo * self.gsd:g} m around a pixel"),
            ("file", "not saved yet" if self.folder else str(self.path)),
            *([("credit", str(credit))] if credit else []),
        ]

    def __repr__(self) -> str:
        return as_text("geopipe.Model", self._facts())

    def _repr_html_(self) -> str:
        return as_html("geopipe.Model", self._facts())


def load_model(path: str | Path) -> Model:
    """Load a model that `geopipe.train`, ``geopipe run`` or ``geopipe patches train`` made.

    ``"starter"`` is the model that comes with geopipe. Nothing in the file is executed.

    Raises:
        CheckpointError: There is no such file, it is damaged, no model of geopipe's, or of the
            format of another version.
    """
    return Model(ModelFile.open(model_path(path).absolute()))


def as_model(model: Model | str | Path) -> Model:
    """`model`, loaded where it is a path."""
    return model if isinstance(model, Model) else load_model(model)
