"""shifted_conv2d against torch's own convolution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from geopipe.nets import MnihCNN
from geopipe.nets.shifted import shifted_conv2d

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 3),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 4),
    side=st.integers(1, 5),
    more=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_are_those_of_conv2d(n, channels, outputs, side, more, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    x = draw(n, channels, side + more[0], side + more[1])
    weight, bias = draw(outputs, channels, side, side), draw(outputs)
    wanted, got = F.conv2d(x, weight, bias), shifted_conv2d(x, weight, bias)
    torch.testing.assert_close(got, wanted)
    upstream = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(got, (x, weight, bias), upstream),
        torch.autograd.grad(wanted, (x, weight, bias), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_network_in_training_has_the_scores_it_maps_with():
    torch.manual_seed(0)
    net, image = MnihCNN(3, 3), torch.randn(2, 3, 100, 92)
    with torch.no_grad():
        mapped = net(image)
    torch.testing.assert_close(net(image).detach(), mapped, rtol=1e-4, atol=1e-5)
