"""Convolutions and images, beyond PyTorch's samples: identities, and images of 8-bit numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt

F = tt.nn.functional
torch = pytest.importorskip("torch")

sizes = st.integers(1, 3)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, sizes, st.integers(0, 2), st.integers(1, 2), st.booleans())
def test_convolution_is_the_direct_sum(kh, kw, stride, dilation, padding, groups, batch):
    """Against the definition, written as loops over the places of the output."""
    rng = np.random.default_rng(kh + 10 * kw)
    x = rng.standard_normal((2, 2 * groups, 8, 7))
    weight, bias = rng.standard_normal((3 * groups, 2, kh, kw)), rng.standard_normal(3 * groups)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    high = (padded.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    wide = (padded.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    out = np.empty((2, 3 * groups, high, wide))
    for o in range(3 * groups):
        channels = slice(o // 3 * 2, o // 3 * 2 + 2)
        for i in range(high):
            for j in range(wide):
                rows = slice(i * stride, i * stride + dilation * (kh - 1) + 1, dilation)
                columns = slice(j * stride, j * stride + dilation * (kw - 1) + 1, dilation)
                window = padded[:, channels, rows, columns]
                out[:, o, i, j] = (window * weight[o]).sum((1, 2, 3)) + bias[o]
    got = F.conv2d(*map(tt.tensor, (x, weight, bias)), stride, padding, dilation, groups)
    np.testing.assert_allclose(got.numpy(), out, 1e-9, 1e-9)
    if batch:
        lone = F.conv2d(*map(tt.tensor, (x[0], weight, bias)), stride, padding, dilation, groups)
        np.testing.assert_allclose(lone.numpy(), out[0], 1e-9, 1e-9)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(0, 1), sizes)
def test_transposed_convolution_is_the_transpose(kernel, stride, padding, dilation):
    """sum of conv(x) * y = sum of x * conv_transpose(y), for every x and y"""
    padding = min(padding, dilation * (kernel - 1))
    x, weight = tt.randn(2, 4, 9, dtype=tt.float64), tt.randn(6, 2, kernel, dtype=tt.float64)
    there = F.conv1d(x, weight, None, stride, padding, dilation, 2)
    y = tt.randn(there.shape, dtype=tt.float64)
    left = 9 - ((there.shape[2] - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
    if left >= max(stride, dilation):
        return  # no output_padding reaches that far
    back = F.conv_transpose1d(y, weight, None, stride, padding, left, 2, dilation)
    assert back.shape == x.shape
    assert float((there * y).sum()) == pytest.approx(float((x * back).sum()), rel=1e-9, abs=1e-9)


def test_a_convolution_keeps_its_input_and_no_columns():
    x, weight = tt.randn(1, 3, 16, 16, requires_grad=True), tt.randn(4, 3, 5, 5, requires_grad=True)
    node = F.conv2d(x, weight).grad_fn
    kept = sum(v.nbytes for v in node.values if hasattr(v, "nbytes"))
    assert kept == x.nbytes + weight.nbytes


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_adaptive_pooling_keeps_constants_and_bounds(old, new):
    x = tt.randn(2, 3, old, dtype=tt.float64)
    assert F.adaptive_avg_pool1d(x * 0 + 3, new).tolist() == [[[3.0] * new] * 3] * 2 or (
        np.abs(F.adaptive_avg_pool1d(x * 0 + 3, new).numpy() - 3).max() < 1e-12
    )
    pooled, top = F.adaptive_avg_pool1d(x, new), F.adaptive_max_pool1d(x, new)
    assert (pooled <= top + 1e-12).all()
    if new == old:
        np.testing.assert_allclose(top.numpy(), x.numpy())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 5), (9, 9), (4, 16)])
def test_images_of_bytes_are_within_one_of_pytorchs(mode, size):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 8), dtype=np.uint8)
    want = torch.nn.functional.interpolate(torch.tensor(image), size, mode=mode).numpy()
    got = F.interpolate(tt.tensor(image), size, mode=mode)
    assert got.dtype == tt.uint8
    assert np.abs(got.numpy().astype(int) - want).max() <= 1


def test_fold_counts_how_often_unfold_read():
    x = tt.ones(1, 2, 4, 5)
    counted = F.fold(F.unfold(x, 2), (4, 5), 2)
    assert counted[0, 0].tolist() == [[1, 2, 2, 2, 1], [2, 4, 4, 4, 2], [2, 4, 4, 4, 2],
                                      [1, 2, 2, 2, 1]]  # fmt: skip


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: F.conv2d(tt.ones(1, 3, 5, 5), tt.ones(2, 4, 3, 3)), "has 3 channels, weight"),
        (lambda: F.conv2d(tt.ones(1, 3, 2, 2), tt.ones(2, 3, 3, 3)), "smaller than a kernel"),
        (lambda: F.conv2d(tt.ones(3, 5), tt.ones(2, 3, 3, 3)), r"must have 3 or 4 dims"),
        (lambda: F.conv2d(tt.ones(1, 3, 5, 5), tt.ones(2, 3, 3, 3), tt.ones(3)), r"bias \(3,\)"),
        (lambda: F.conv1d(tt.ones(1, 3, 5), tt.ones(2, 3, 3), stride=0), "stride 0 must be"),
        (lambda: F.max_pool2d(tt.ones(1, 3, 5, 5), 2, padding=2), "at most half of the kernel"),
        (lambda: F.interpolate(tt.ones(1, 3, 5, 5), 7, mode="linear"), "mode 'linear' for 2 dims"),
        (lambda: F.pad(tt.ones(1, 3, 5), (5, 0), "reflect"), "reflect of 5 at a size of 5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((RuntimeError, ValueError, NotImplementedError), match=message):
        call()
