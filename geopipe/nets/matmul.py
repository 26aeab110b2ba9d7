"""Inference by matrix multiplication, for processors whose convolutions lag behind it.

Two convolutions are slow on many of them: the refinement's grouped 5 x 5 of one channel, and the
9 x 9 of 128 channels to a few classes that ends the base network. Here both are matrix products.
Scores equal those of the nets but for rounding, and seams between tiles stay exact. No gradients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's usual name)

from geopipe.nets.mnih import STRIDE, MnihCNN
from geopipe.nets.refinement import HIDDEN, KERNEL, Folded, RefinementRNN, Update

MARGIN = KERNEL // 2
_LANES = 16
"""Widths are multiples of this: the tail of a row could be summed in another order, and tiles
would differ in the last bit."""
_HIDDEN_BYTES = 2**21
"""Of a band's hidden layer of all classes. Small bands stay in the cache and pay for more calls:
1, 2 and 4 MB are alike."""


def mnih_scores(net: MnihCNN, image: Tensor) -> Tensor:
    """`MnihCNN.forward`: image (N, bands, H + 60, W + 60), scores (N, classes, H, W), float32.

    Its last convolution is a product per class, and the sum of its 81 planes, each shifted.
    """
    x = image
    for conv in (net.conv1, net.conv2, net.conv3):
        x = conv(x).relu_()
    size, (rows, cols) = net.conv4.kernel_size[0], x.shape[-2:]
    h, w = rows - size + 1, cols - size + 1
    assert net.conv4.bias is not None
    scores = net.conv4.bias.view(1, -1, 1, 1).repeat(len(x), 1, h, w)
    filters = net.conv4.weight.permute(0, 2, 3, 1).flatten(1, 2)  # (classes, 81, 128)
    for k, each in enumerate(filters):
        products = torch.matmul(each, x.flatten(2)).view(len(x), size, size, rows, cols)
        for i in range(size):
            for j in range(size):
                scores[:, k] += products[:, i, j, i : i + h, j : j + w]
    large: Tensor = net.up(scores)
    return large[..., STRIDE:-STRIDE, STRIDE:-STRIDE]


def refine_steps(net: RefinementRNN, scores: Tensor, image: Tensor) -> list[Tensor]:
    """`RefinementRNN.steps`, float32: u_0 ... u_T, each smaller than the one before by 4 pixels."""
    filters = [_Filters(u.folded()) for u in net.updates if isinstance(u, Update)]
    filters *= net.iterations // len(filters)
    each = [_steps(filters, net.recurrent, *pair) for pair in zip(scores, image, strict=True)]
    if len(each) == 1:  # no copies
        return [u[None] for u in each[0]]
    return [torch.stack(step) for step in zip(*each, strict=True)]


def _steps(
    filters: Sequence["_Filters"], recurrent: bool, scores: Tensor, image: Tensor
) -> list[Tensor]:
    """The steps over one image, in bands of rows.

    Step t of a band lies 2 t rows above its first step, whose results it needs: nothing is
    computed twice, and a band stays in the cache.
    """
    (classes, height, width), last = scores.shape, len(filters)
    columns = -(-(width - 2 * MARGIN) // _LANES) * _LANES
    delay = MARGIN * (last - 1)
    total = height - 2 * MARGIN + delay
    count = -(-total // max(_HIDDEN_BYTES // (4 * classes * HIDDEN * columns), delay, 1))
    rows = max(-(-total // count), delay)
    # What is added around the image never reaches the part that is returned.
    bottom = count * rows + 2 * MARGIN - height
    padding = (0, columns + 2 * MARGIN - width, delay, bottom)
    image, first = F.pad(image, padding), F.pad(scores, padding)
    u = [first, *(torch.zeros_like(first) for _ in filters)]
    strip = _Strip(first, len(image), delay, rows, columns)
    steps = [_Step(strip, f, MARGIN * t) for t, f in enumerate(filters)]
    for top in range(delay + MARGIN, delay + MARGIN + count * rows, rows):
        strip.keep_terms()
        for t, step in enumerate(steps):
            start = top - MARGIN * t
            padded_rows = slice(start - MARGIN, start + rows + MARGIN)
            if t == 0 or not recurrent:
                step.image_term(image[:, padded_rows])
            step(u[t][:, padded_rows], u[t + 1][:, start : start + rows, MARGIN : MARGIN + columns])
    return [
        product[:, delay + m : delay + height - m, m : width - m]
        for product, m in zip(u, range(0, MARGIN * (last + 1), MARGIN), strict=True)
    ]


class _Filters:
    """A step's filters as matrices, their columns ordered by row, plane and column."""

    def __init__(self, folded: Folded) -> None:
        classes = len(folded.out)
        self.scores = folded.scores.view(classes, HIDDEN, KERNEL * KERNEL)
        self.image = folded.image.transpose(1, 2).reshape(classes * HIDDEN, -1)
        self.bias = folded.bias[:, None]
        self.out = folded.out.view(classes, 1, HIDDEN)
        self.out_bias = folded.out_bias.view(classes, 1, 1)


class _Strip:
    """Memory for `rows` x `columns` pixels at work, used again by every step of every band.

    A plane is laid out with its 5 shifts by column in every row. Then 5 neighbouring rows are one
    matrix of all 25 shifts, and the matrices of all rows are overlapping views.
    """

    def __init__(self, scores: Tensor, bands: int, delay: int, rows: int, columns: int) -> None:
        classes, padded_height = len(scores), rows + 2 * MARGIN
        self.delay, self.rows = delay, rows
        self.image = scores.new_empty(padded_height, bands, KERNEL, columns)
        self.term = scores.new_zeros(delay + rows, classes * HIDDEN, columns)
        self.scores = scores.new_empty(classes, padded_height, 1, KERNEL, columns)
        self.hidden = scores.new_empty(rows, HIDDEN, columns)
        self.change = scores.new_empty(classes, rows, 1, columns)

    def keep_terms(self) -> None:
        """Keep the image's term of the last rows, which later steps of the next band need."""
        self.term[: self.delay].copy_(self.term[self.rows :])


class _Step:
    """A step of a band, `above` rows higher than its first: operands, made ready once."""

    def __init__(self, strip: _Strip, filters: _Filters, above: int) -> None:
        self.strip = strip
        self.term = strip.term[strip.delay - above :][: strip.rows]
        self.image = (filters.bias, self._each_row(filters.image), _matrices(strip.image))
        self.classes = [
            (
                (term, self._each_row(weights), _matrices(scores)),
                (self._each_row(out_bias), self._each_row(out), strip.hidden),
                change,
            )
            for term, weights, scores, out_bias, out, change in zip(
                self.term.split(HIDDEN, 1),
                filters.scores,
                strip.scores,
                filters.out_bias,
                filters.out,
                strip.change,
                strict=True,
            )
        ]

    def _each_row(self, x: Tensor) -> Tensor:
        return x.expand(self.strip.rows, -1, -1)

    def image_term(self, image: Tensor) -> None:
        """`Folded.image_term` of an image (bands, rows + 4, columns + 4)."""
        self.strip.image.copy_(_shifts(image).transpose(0, 1))
        torch.baddbmm(*self.image, out=self.term)

    def __call__(self, scores: Tensor, out: Tensor) -> None:
        """u_{t+1} (classes, rows, columns) into `out` from u_t (classes, rows + 4, columns + 4)."""
        strip = self.strip
        strip.scores[:, :, 0].copy_(_shifts(scores))
        for first_layer, second_layer, change in self.classes:
            torch.baddbmm(*first_layer, out=strip.hidden)
            strip.hidden.relu_()
            torch.baddbmm(*second_layer, out=change)
        inner = scores[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        torch.add(inner, strip.change[:, :, 0], out=out)


def _shifts(products: Tensor) -> Tensor:
    """(c, h, w + 4) -> (c, h, 5, w): each row at its 5 shifts, as a view."""
    return products.unfold(2, products.shape[2] - 2 * MARGIN, 1)


def _matrices(shifts: Tensor) -> Tensor:
    """(h + 4, c, 5, w) -> (h, 25 c, w): 5 rows of shifts from each row on, as a view."""
    h, c, _, w = shifts.shape
    size, stride = (h - 2 * MARGIN, KERNEL * c * KERNEL, w), (c * KERNEL * w, w, 1)
    return shifts.as_strided(size, stride, shifts.storage_offset())
