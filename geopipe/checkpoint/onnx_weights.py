"""Weights of a network exported to ONNX, by the names of its layers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geopipe.errors import CheckpointError
from geopipe.validation import open_regular


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The tensors of an ONNX file; nothing of its graph is run, no other file is opened.

    Names are those of the exported network's parameters. An export turns a linear layer's weight
    around and gives it a number for a name: then it is named after the layer that multiplies by it,
    and turned back. Other constants are called after the layer and the operation that use them.
    Raises CheckpointError without the package onnx, or for a file it cannot read.
    """
    onnx = _onnx()
    with open_regular(path, CheckpointError) as (file, _):
        data = file.read()
    try:
        graph = onnx.load_model_from_string(data).graph
    except Exception as e:  # protobuf's own errors, which differ by its version
        raise CheckpointError(f"cannot read weights from {path}: {e}", "copy it again") from e
    users = {name: node for node in graph.node for name in node.input}
    tensors: dict[str, Tensor] = {}
    for item in graph.initializer:
        if item.data_location == onnx.TensorProto.EXTERNAL:
            raise CheckpointError(
                f"{path} keeps its weights in other files", "give a file that holds them itself"
            )
        value = torch.from_numpy(onnx.numpy_helper.to_array(item).copy())
        name, user = item.name, users.get(item.name)
        if name.startswith("onnx::") and user is not None:
            layer, _, operation = user.name.strip("/").replace("/", ".").rpartition(".")
            is_weight = user.op_type == "MatMul" and value.ndim == 2
            name = f"{layer}.{'weight' if is_weight else operation}"
            value = value.T.contiguous() if is_weight else value
        tensors[name] = value
    return tensors


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ModuleNotFoundError:
        raise CheckpointError(
            "reading weights from an ONNX file needs the package onnx",
            "pip install 'geopipe[onnx]'",
        ) from None
    return onnx
