"""ClassScheme: the ordered classes of a map, their colours, and the OSM tags of each."""

from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from geopipe.config import Section, load, parse
from geopipe.errors import ConfigError
from geopipe.validation import Name

IGNORE = 255
"""Class id of pixels without a label and, in finished maps, without a value (nodata)."""

Metres = Annotated[float, Field(gt=0, le=200)]


_BACKGROUND = {"background", "other", "others", "clutter", "unknown", "none", "no data"}


class TagRule(Section):
    """OSM features that become a class: `tags` all match, nothing in `exclude` does."""

    geometry: Literal["polygon", "line"]
    tags: dict[str, tuple[str, ...]]
    """Key -> accepted values; ``"*"`` accepts any value."""
    exclude: dict[str, tuple[str, ...]] = Field(default={})
    """Key -> values that take a feature out again (tunnels, ruins...)."""
    width: Metres = 7.0
    """Full width of a line in metres on the ground; 7 m as in Maggiori et al. 2017, section IV."""
    widths: dict[str, dict[str, Metres]] = Field(default={})
    """Key -> value -> width in metres, e.g. ``{highway = {motorway = 12}}``; wins over `width`."""
    use_width_tag: bool = False
    """Take the feature's own ``width`` tag (metres) where it has one; wins over everything."""
    lane_width: Metres | None = None
    """Metres per lane: width = ``lanes`` tag x this; wins over `widths`, loses to ``width``."""


class MapClass(Section):
    """One class of a map."""

    name: Name
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    priority: int = Field(default=0, ge=-(10**6), le=10**6)
    """Burned later, so on top, when higher."""
    rules: tuple[TagRule, ...] = ()

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as three bytes."""
        r, g, b = bytes.fromhex(self.color[1:])
        return r, g, b


class ClassScheme(Section):
    """Ordered classes; a class's id is its place in `classes` (0, 1, 2...)."""

    name: Name
    classes: tuple[MapClass, ...] = Field(min_length=2, max_length=IGNORE)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"class names repeat: {', '.join(self.names)}")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(c.name for c in self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def background(self) -> int | None:
        """The id of the class of all that is nothing else, which maps show transparent."""
        first, *others = self.classes
        is_rest = not first.rules and any(c.rules for c in others)
        return 0 if is_rest or first.name.casefold() in _BACKGROUND else None

    def id_of(self, name: str) -> int:
        """The id of class `name`; raises ConfigError naming the classes there are."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ConfigError(
                f"no class '{name}' in scheme '{self.name}'", "classes: " + ", ".join(self.names)
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON (Checkpoint headers, STAC items)."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def from_dict(cls, tables: dict[str, Any], source: str = "class scheme") -> "ClassScheme":
        """Inverse of `to_dict`; `source` opens the error message."""
        return parse(tables, cls, source)


def load_scheme(name_or_path: str | Path) -> ClassScheme:
    """A scheme that ships with geopipe (``buildings-roads``, ``buildings``) or a TOML file."""
    shipped = files("geopipe") / "schemes" / f"{name_or_path}.toml"
    if shipped.is_file():
        return load(Path(str(shipped)), ClassScheme)
    path = Path(name_or_path)
    if path.suffix != ".toml":
        names = ", ".join(shipped_schemes())
        raise ConfigError(
            f"no class scheme '{name_or_path}'", f"give a .toml file or one of {names}"
        )
    return load(path, ClassScheme)


def shipped_schemes() -> list[str]:
    """Names of the schemes that ship with geopipe."""
    return sorted(p.name[:-5] for p in (files("geopipe") / "schemes").iterdir())
