"""The faster form is found by a measurement that leaves no trace."""

import time

import torch

from geopipe.nets import Kernels
from geopipe.nets import kernels as module


def test_the_faster_form_is_chosen():
    quick, slow = (lambda: None), (lambda: time.sleep(0.002))
    assert module._faster(slow, quick) == "matmul"
    assert module._faster(quick, slow) == "convolution"


def test_a_measurement_leaves_torch_as_it_was(monkeypatch):
    monkeypatch.setattr(module, "_ROUNDS", 1)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    kernels = Kernels.benchmark()
    assert {kernels.base, kernels.refinement} <= {"convolution", "matmul"}
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(1), expected)
