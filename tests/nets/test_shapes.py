"""Networks without memory: built fast, and of the same shapes."""

import subprocess
import sys

import pytest
import torch

from geopipe.nets import build_base_network
from geopipe.nets.shapes import allocate, shapes_only

LOAD = """
import sys
from geopipe.checkpoint import Checkpoint
from geopipe.checkpoint.starter import STARTER, model_path
Checkpoint.load(model_path(STARTER))
print([m for m in ("torch._dynamo", "sympy") if m in sys.modules])
"""


def test_a_model_is_loaded_without_torchs_compiler():
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("net", ["cnn", "unet", "lite-unet"])
def test_shapes_and_types_are_those_of_the_network(net):
    with shapes_only():
        empty = build_base_network(4, 3, net)
    full = build_base_network(4, 3, net).state_dict()
    assert {t.device.type for t in empty.state_dict().values()} == {"meta"}
    assert {k: (t.shape, t.dtype) for k, t in empty.state_dict().items()} == {
        k: (t.shape, t.dtype) for k, t in full.items()
    }
    allocate(empty)
    assert {t.device.type for t in empty.state_dict().values()} == {"cpu"}
    empty.load_state_dict(full)
    assert all(torch.equal(t, full[k]) for k, t in empty.state_dict().items())


def test_drawing_works_again_afterwards():
    with shapes_only():
        build_base_network(3, 2, "cnn")
    assert torch.zeros(100).normal_().std() > 0.5
    assert torch.empty_like(torch.zeros(2, 3)).shape == (2, 3)
