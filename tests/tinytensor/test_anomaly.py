"""detect_anomaly: it names the op, the line, the ranges; and lets what is legitimate pass."""

import inspect
import math

import numpy as np
import pytest

import tinytensor as tt
from tinytensor.anomaly import is_anomaly_enabled
from tinytensor.errors import NonFiniteError
from tinytensor.nn import functional as F

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, about the same


def here(offset):
    """`test_anomaly.py:N` of the caller's line, `offset` lines further down."""
    return f"test_anomaly.py:{inspect.currentframe().f_back.f_lineno + offset}"


def test_forward_names_op_line_shape_and_range():
    x = tt.tensor([[1.0, 0.0], [4.0, 2.0]], requires_grad=True)
    line = here(3)
    with pytest.raises(NonFiniteError) as caught, tt.detect_anomaly():
        y = x * 2
        (y.log() + 1).sum()
    text = str(caught.value)
    assert text.startswith("log (") and line in text.splitlines()[0]
    assert "1 inf among 4 numbers" in text
    assert "(2, 2) float32" in text and "min 0  max 8" in text


def test_forward_without_gradients_is_watched_too():
    with pytest.raises(NonFiniteError, match="div"), tt.detect_anomaly(), tt.no_grad():
        tt.tensor([1.0]) / tt.tensor([0.0])


def test_backward_names_forward_line_backward_line_argument_and_rule():
    x = tt.tensor([4.0, 0.0], requires_grad=True)
    with tt.detect_anomaly():
        forward = here(1)
        y = x.sqrt()
        loss = y.sum()
        backward = here(2)
        with pytest.raises(NonFiniteError) as caught:
            loss.backward()
    text = str(caught.value)
    assert "backward of sqrt made 1 inf among 2 numbers in the gradient of its argument 'x'" in text
    assert any(row.split()[0] == "forward" and forward in row for row in text.splitlines())
    assert any(row.split()[0] == "backward" and backward in row for row in text.splitlines())
    assert "g / (2 * out)" in text and "elementwise.py:" in text
    assert "min 0  max 2" in text  # out, as the tape kept it


@pytest.mark.parametrize("create_graph", [False, True])
def test_backward_names_the_argument_whose_rule_it_was(create_graph):
    x = tt.tensor([0.0], requires_grad=True)
    y = tt.tensor([0.5], requires_grad=True)
    with tt.detect_anomaly():
        out = x**y  # dy is 0 by its limit, dx = y x^(y-1) is infinite
        with pytest.raises(NonFiniteError, match="backward of pow made .* its argument 'x'"):
            out.backward(create_graph=create_graph)


def test_gradient_that_was_bad_from_the_start_blames_no_rule():
    x = tt.tensor([1.0], requires_grad=True)
    with tt.detect_anomaly(), pytest.raises(NonFiniteError, match="reached mul .* no rule made it"):
        (x * 2).backward(tt.tensor([math.nan]))


def test_gradients_that_overflow_where_they_meet():
    x = tt.tensor([1.0], requires_grad=True)
    big = tt.tensor([3e38])  # two of them are more than float32 holds
    with tt.detect_anomaly(), pytest.raises(NonFiniteError, match="reached clone .* added up"):
        y = x.clone()
        tt.autograd.backward([y * 1, y * -1], [big, -big])


def test_data_with_nan_is_told_from_an_op_that_makes_one():
    x = tt.tensor([1.0, math.nan])
    w = tt.tensor([1.0, 1.0], requires_grad=True)
    with tt.detect_anomaly(), pytest.raises(NonFiniteError, match="mul .* given NaN in its x"):
        x * w


def test_masks_of_minus_infinity_pass():
    scores = tt.randn(4, 4, requires_grad=True)
    mask = tt.ones(4, 4).tril() == 0
    with tt.detect_anomaly():
        P = scores.masked_fill(mask, -math.inf).softmax(-1)
        also = (scores + tt.full((4, 4), -math.inf).triu(1)).softmax(-1)
        F.scaled_dot_product_attention(scores, scores, scores, is_causal=True).sum().backward()
        (P * P + also).sum().backward()
    assert np.isfinite(scores.grad.numpy()).all()


def test_nan_out_of_infinities_does_not_pass():
    with tt.detect_anomaly(), pytest.raises(NonFiniteError, match="sub .* made 1 nan"):
        x = tt.tensor([math.inf])
        x - x


def test_asking_for_nan_passes():
    x = tt.tensor([1.0, math.nan])
    with tt.detect_anomaly():
        assert tt.isnan(x).tolist() == [False, True]
        assert tt.where(tt.isnan(x), 0.0, x).tolist() == [1.0, 0.0]


def test_results_are_the_same_and_outside_nothing_is_watched():
    def run():
        x = tt.tensor([1.0, 2.0], requires_grad=True)
        (x.exp() * x).sum().backward()
        return x.grad.numpy()

    plain = run()
    with tt.detect_anomaly():
        assert is_anomaly_enabled()
        watched = run()
    assert not is_anomaly_enabled()
    np.testing.assert_array_equal(plain, watched)
    with np.errstate(divide="ignore"):
        assert math.isinf(tt.tensor(0.0).log().item())


def test_it_ends_with_the_block_also_after_an_error():
    with pytest.raises(NonFiniteError), tt.detect_anomaly():
        tt.tensor(0.0).log()
    assert not is_anomaly_enabled()


def test_switch_and_nesting():
    tt.autograd.set_detect_anomaly(True)
    try:
        assert is_anomaly_enabled()
        with tt.autograd.set_detect_anomaly(False):
            assert not is_anomaly_enabled()
        assert is_anomaly_enabled()
    finally:
        tt.autograd.set_detect_anomaly(False)
    assert not is_anomaly_enabled()
    with tt.autograd.detect_anomaly(check_nan=False), np.errstate(divide="ignore"):
        tt.tensor(0.0).log()
