"""Files of arrays: safetensors and npy, whose sizes are checked before anything is allocated.

A header of a few bytes may name arrays of terabytes. Both formats say type and shape of each array
first; here they are compared with the length of the file, and by the callers with what is needed.
"""

import ast
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Discriminator, Field, Tag
from safetensors import SafetensorError
from safetensors.numpy import load

from geopipe.errors import GeopipeError
from geopipe.validation import Count, Schema, open_regular, parse_json

_MOST_HEADER = 16 << 20
_METADATA = "__metadata__"
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}
_NPY = {"|u1": "uint8", "<f4": "float32", "<f2": "float16", "<i8": "int64", "<f8": "float64"}
_DAMAGED = "the file is damaged; copy it again"


class TensorInfo(Schema):
    """What a safetensors header says of a tensor."""

    dtype: str
    shape: Annotated[tuple[Count, ...], Field(max_length=8)]
    data_offsets: tuple[Count, Count]

    @property
    def bytes(self) -> int:
        """Bytes that its values take."""
        return self.data_offsets[1] - self.data_offsets[0]


_Entry = Annotated[
    Annotated[TensorInfo, Tag("tensor")] | Annotated[dict[str, str], Tag(_METADATA)],
    Discriminator(lambda v: "tensor" if isinstance(v, dict) and "data_offsets" in v else _METADATA),
]


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A safetensors file whose header was checked; nothing else of it is read yet."""

    path: Path
    error: type[GeopipeError]
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    size: int
    """Bytes of the file."""

    @classmethod
    def open(cls, path: Path, error: type[GeopipeError]) -> Self:
        """Read the header of `path`; `error` where it is no safetensors file that is whole."""
        content, size = _head(path, error, 8)
        (length,) = struct.unpack("<Q", content) if len(content) == 8 else (0,)
        if not 2 <= length <= min(size - 8, _MOST_HEADER):
            raise error(f"{path} is not a safetensors file", _DAMAGED)
        header, size = _head(path, error, 8 + length)
        source, position = f"the header of {path}", 0
        values = parse_json(header[8:], dict[str, _Entry], source, error, _DAMAGED)
        metadata = values.pop(_METADATA, {})
        tensors = {name: info for name, info in values.items() if isinstance(info, TensorInfo)}
        if not isinstance(metadata, dict) or len(tensors) < len(values):
            raise error(f"{source} is damaged: {_METADATA} and tensors are mixed up", _DAMAGED)
        for name, info in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
            first, last = info.data_offsets
            bits = _BITS.get(info.dtype)
            if (
                bits is None
                or first != position
                or (last - first) * 8 != math.prod(info.shape) * bits
            ):
                raise error(
                    f"{source} is damaged: {name}: {info.dtype} of shape {list(info.shape)} in "
                    f"bytes {first} to {last}",
                    _DAMAGED,
                )
            position = last
        if position != size - 8 - length:
            raise error(
                f"{path} has {size} bytes, its header names {position + 8 + length}", _DAMAGED
            )
        return cls(path, error, metadata, tensors, size)

    def read(self) -> bytes:
        """All of the file, as it was when it was opened."""
        content, size = _head(self.path, self.error, self.size)
        if len(content) != self.size or size != self.size:
            raise self.error(f"{self.path} changed while it was read", "run the command again")
        return content

    def arrays(
        self, wanted: Mapping[str, tuple[str, tuple[int | None, ...]]]
    ) -> dict[str, np.ndarray]:
        """The arrays by name, each of the dtype and shape (None: any length) that is `wanted`."""
        for name, (dtype, shape) in wanted.items():
            info = self.tensors.get(name)
            if info is None:
                raise self.error(f"{self.path} is damaged: '{name}' is missing", _DAMAGED)
            fits = len(shape) == len(info.shape) and all(
                n in (None, m) for n, m in zip(shape, info.shape, strict=True)
            )
            if info.dtype != dtype or not fits:
                raise self.error(
                    f"{self.path} is damaged: {name}: {info.dtype} of shape {list(info.shape)}",
                    _DAMAGED,
                )
        try:
            return {name: array for name, array in load(self.read()).items() if name in wanted}
        except (SafetensorError, ValueError, TypeError, KeyError) as e:
            raise self.error(f"{self.path} is damaged: {e}", _DAMAGED) from e


def read_npy(
    path: Path, dtype: str, shape: tuple[int | None, ...], error: type[GeopipeError]
) -> np.ndarray:
    """An array in a .npy file, mapped from the disk, read-only.

    Args:
        path: The file.
        dtype: What its values must be.
        shape: What its shape must be; None: any length.
        error: What to raise.

    Raises:
        GeopipeError: The file is missing, of another type, shape or length.
    """
    content, size = _head(path, error, 10 + 2**16)
    start = 10 + int.from_bytes(content[8:10], "little")
    try:
        if content[:7] != b"\x93NUMPY\x01" or size < start:
            raise ValueError("it has no header of numpy's")
        header = content[10:start].decode("latin-1").strip()
        if len(header) > 512 or header.count("(") > 2:
            raise ValueError("its header is too long")
        values = ast.literal_eval(header)
        descr, order, lengths = values["descr"], values["fortran_order"], values["shape"]
        if _NPY.get(descr) != dtype or order is not False:
            raise ValueError(f"it holds {descr!r}, not {dtype}")
        if len(lengths) != len(shape) or not all(
            type(n) is int and n >= 0 and m in (None, n)
            for n, m in zip(lengths, shape, strict=True)
        ):
            raise ValueError(f"its shape is {lengths}")
        if math.prod(lengths) * np.dtype(dtype).itemsize != size - start:
            raise ValueError(f"it has {size} bytes, not those of {lengths} values")
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as e:
        raise error(f"{path} is damaged: {e}", _DAMAGED) from e
    if not math.prod(lengths):
        return np.zeros(lengths, dtype)
    return np.memmap(path, dtype, "r", start, lengths)


def is_tensor_file(path: Path) -> bool:
    """Whether `path` begins as a safetensors file does: eight bytes of a length, and JSON."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        content = file.read(9)
    return content[8:] == b"{" and struct.unpack("<Q", content[:8])[0] <= path.stat().st_size


def _head(path: Path, error: type[GeopipeError], count: int) -> tuple[bytes, int]:
    """The first `count` bytes of a regular file, and its size."""
    with open_regular(path, error) as (file, size):
        return file.read(min(count, size)), size
