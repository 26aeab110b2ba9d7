"""Tiles as services send them: PNG, JPEG, WebP, GIF or GeoTIFF, checked before they are kept."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from geopipe.errors import SceneError, ServiceError
from geopipe.imagery.plan import TileRequest
from geopipe.raster.opening import opened
from geopipe.raster.validity import valid_pixels
from geopipe.web import Client, PassingError, Response

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ABSENT = (204, 404, 410)
"""Answers of tile services where a pyramid has no tile."""
_AGAIN = "later the same command goes on"


@dataclass(frozen=True)
class PictureSource:
    """Gets tiles by HTTP."""

    client: Client
    sparse: bool = False
    """Whether a tile may be missing (HTTP 404); else that is an error."""

    def fetch(self, piece: TileRequest, target: Path) -> bool:
        """As of `Source`; raises ServiceError for what is no picture of the piece's size."""

        def check(answer: Response) -> None:
            if answer.content and answer.status not in _ABSENT:
                target.write_bytes(_picture(answer).content)
                try:
                    read_picture(target, piece.window.shape, answer.address)
                except _BrokenError as e:
                    raise PassingError(e.message, _AGAIN) from e

        absent = _ABSENT if self.sparse else ()
        answer = self.client.get(piece.address, absent=absent, check=check)
        return bool(answer.content) and answer.status not in _ABSENT

    def read(self, piece: TileRequest, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """As of `Source`."""
        return read_picture(path, piece.window.shape, str(path))


class _BrokenError(ServiceError):
    """A picture that is cut off or damaged."""


def _picture(answer: Response) -> Response:
    """`answer`, if its first bytes are a picture's; else what the service says instead."""
    head = answer.content[:16]
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", *_TIFF)) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    ):
        return answer
    words = f": {answer.words}" if answer.words else ""
    error: Callable[[str, str], ServiceError] = ServiceError
    if answer.kind == "HTML":  # proxies and overloaded servers answer pages, with status 200
        error = PassingError
    raise error(
        f"{answer.address} answers {answer.kind} instead of a picture{words}",
        "check the address, the layer and the format",
    )


def read_picture(path: Path, shape: tuple[int, int], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (bands, h, w) and validity (h, w) of a tile.

    PNG, JPEG, WebP and GIF give red, green and blue, uint8; their alpha says what is valid. A TIFF
    gives its bands as they are. Raises ServiceError when it is damaged or not of `shape`.
    """
    with path.open("rb") as f:
        head = f.read(4)
    try:
        data, valid = _tiff(path, shape, name) if head in _TIFF else _rgb(path, shape, name)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as e:
        raise _BrokenError(f"{name} is a picture that is cut off or damaged: {e}") from e
    return data, valid


def _rgb(path: Path, shape: tuple[int, int], name: str) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(path.read_bytes()), formats=_FORMATS)
    _require_shape((image.height, image.width), shape, name)
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise ServiceError(
            f"{name} is a picture of mode {image.mode}, not of 8 bits", "ask for another format"
        )
    pixels = np.asarray(image.convert("RGBA"))
    return np.ascontiguousarray(pixels[..., :3].transpose(2, 0, 1)), pixels[..., 3] > 0


def _tiff(path: Path, shape: tuple[int, int], name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with opened(path) as src:
            _require_shape(src.shape, shape, name)
            bands = [
                i for i, c in zip(src.indexes, src.colorinterp, strict=True) if c.name != "alpha"
            ]
            return src.read(bands), valid_pixels(src, bands)
    except SceneError as e:
        raise _BrokenError(f"{name} is a TIFF that cannot be read: {e.message}") from e


def _require_shape(actual: tuple[int, int], wanted: tuple[int, int], name: str) -> None:
    if actual != wanted:
        raise ServiceError(
            f"{name} has {actual[1]} x {actual[0]} px, {wanted[1]} x {wanted[0]} were expected",
            f"where tiles have {actual[1]} px a side, give `tile_px` {actual[1]}",
        )
