"""Window: an integer rectangle of pixels."""

from dataclasses import dataclass

from geopipe.errors import GridError


@dataclass(frozen=True, slots=True)
class Window:
    """`height` x `width` pixels from (`row`, `col`) on; row and column may be negative (a halo)."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise GridError(f"window of {self.height} x {self.width} px: sizes cannot be negative")

    @classmethod
    def of_shape(cls, shape: tuple[int, int]) -> "Window":
        """The whole plane of `shape` (height, width)."""
        return cls(0, 0, *shape)

    @property
    def bottom(self) -> int:
        """One past the last row."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """One past the last column."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of an array whose first pixel is (0, 0) of the plane."""
        return slice(self.row, self.bottom), slice(self.col, self.right)

    def expand(self, px: int) -> "Window":
        """`px` more pixels on every side."""
        return Window(self.row - px, self.col - px, self.height + 2 * px, self.width + 2 * px)

    def clip(self, shape: tuple[int, int]) -> "Window":
        """The part inside a plane of `shape`; empty (0 pixels) where they do not meet."""
        row, col = max(self.row, 0), max(self.col, 0)
        bottom, right = min(self.bottom, shape[0]), min(self.right, shape[1])
        return Window(row, col, max(bottom - row, 0), max(right - col, 0))

    def snap(self, step: int) -> "Window":
        """The smallest window that holds this one and whose four sides are multiples of `step`."""
        row, col = self.row // step * step, self.col // step * step
        bottom, right = -(-self.bottom // step) * step, -(-self.right // step) * step
        return Window(row, col, bottom - row, right - col)

    def within(self, outer: "Window") -> tuple[slice, slice]:
        """Index of this window in an array that holds `outer`."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)
