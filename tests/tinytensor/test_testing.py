"""gradcheck fails where it should and says what is wrong; the strategies cover the edges."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor import testing
from tinytensor.errors import GradcheckError
from tinytensor.testing import gradcheck, gradgradcheck, in_layout


def normal(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return tt.tensor(values, dtype=tt.float64, requires_grad=True)


def student_op(rule):
    """y^2 x + x^3 with a rule for x that may be wrong; the rule for y is right."""

    @tt.op(promote="same")
    def student(xp, x, y):
        return y * y * x + x * x * x

    student.rule("x", rule)
    student.rule("y", lambda g, x, y: 2 * g * x * y)
    return student


right = student_op(lambda g, x, y: g * (y * y + 3 * x * x))


def message(check, f, inputs, **options):
    with pytest.raises(GradcheckError) as e:
        check(f, inputs, **options)
    assert check(f, inputs, raise_exception=False, **options) is False
    return str(e.value)


def test_right_rules_pass():
    assert gradcheck(right, (normal(2, 3), normal(3, seed=1)))
    assert gradgradcheck(right, (normal(2, 3), normal(3, seed=1)))
    assert gradcheck(lambda x: (x @ x.T).softmax(-1), normal(3, 2))
    assert gradcheck(lambda x, n: x * n, (normal(2), 3))
    assert gradcheck(lambda x: x.split(2)[0] * 2, normal(4))
    assert gradgradcheck(
        lambda x: x.sum(), normal(4), tt.ones((), dtype=tt.float64).requires_grad_()
    )


@pytest.mark.parametrize(
    "rule, hint",
    [
        (
            lambda g, x, y: -g * (y * y + 3 * x * x),
            "analytic is -1 times numeric everywhere: a sign",
        ),
        (lambda g, x, y: 2 * g * (y * y + 3 * x * x), "2 times numeric everywhere: a factor"),
        (lambda g, x, y: g * (y * y + 3 * x), "<- worst"),
        (lambda g, x, y: 0 * g, "analytic is 0 everywhere"),
        (
            lambda g, x, y: g * (y * y + 3 * x * x) * (1 + 1e-2),
            "times numeric everywhere: a factor",
        ),
    ],
)
def test_a_wrong_rule_is_named_with_its_argument_and_its_text(rule, hint):
    wrong = student_op(rule)
    text = message(gradcheck, wrong, (normal(2, 3), normal(2, 3, seed=1)))
    assert text.startswith("gradcheck: the rule of student for 'x' is wrong: 6 of 36 elements")
    assert hint in text and "test_testing.py" in text
    inside = message(gradcheck, lambda a, b: wrong(a.exp(), b).tanh().sum(), (normal(2), normal(2)))
    assert "the rule of student for 'x' is wrong" in inside and "called  " + __file__ in inside


def test_the_table_shows_each_element_worst_first():
    wrong = student_op(lambda g, x, y: g * (y * y + 3 * x * x) + g * x * (x > 1))
    x = tt.tensor([0.5, 2.0, 3.0], dtype=tt.float64, requires_grad=True)
    y = tt.tensor([1.0, 1.0, 1.0], dtype=tt.float64, requires_grad=True)
    lines = message(gradcheck, wrong, (x, y)).splitlines()
    assert lines[0].endswith("2 of 9 elements of d out / d x disagree")
    assert lines[1].split() == ["out[...]", "x[...]", "analytic", "numeric", "difference"]
    assert lines[2].split() == ["[2]", "[2]", "31", "28", "3", "<-", "worst"]
    assert lines[3].split() == ["[1]", "[1]", "15", "13", "2"]


def test_a_kink_is_named():
    text = message(gradcheck, lambda x: x.relu(), tt.zeros(2, dtype=tt.float64).requires_grad_())
    assert text.startswith("gradcheck: the rule of relu for 'x' meets a kink: 2 of 4 elements")
    assert "a kink at x[0]: the slope is 0 to its left and 1 to its right" in text


def test_wrong_shape_and_dtype_of_a_gradient():
    @tt.op
    def f(xp, x):
        return x * 2

    f.rule("x", lambda g: (g * 2).astype("float32"))
    assert "the gradient is (2,) float32, the input (2,) float64" in message(
        gradcheck, f, normal(2)
    )


def test_a_value_that_leaves_the_graph_is_not_blamed_on_a_rule():
    text = message(gradcheck, lambda x: x * x.detach(), normal(3))
    assert "each op in it passes a check of its own" in text and "0.5 times numeric" in text
    text = message(gradcheck, lambda x: x.detach() * 2, normal(3))
    assert "analytic is 0 everywhere" in text


def test_a_backward_that_is_not_repeatable():
    rng = np.random.default_rng(0)

    @tt.op
    def noisy(xp, x):
        return x * 2

    noisy.rule("x", lambda g: g * (2 + 1e-9 * rng.random()))
    assert "two backward passes gave different numbers" in message(gradcheck, noisy, normal(2))
    assert gradcheck(noisy, normal(2), nondet_tol=1e-8)


def test_second_derivatives_of_a_rule_that_leaves_the_graph():
    """The classic: a rule that is right, computed from something without a graph."""

    def rule(g, x, y):
        x = x.detach() if hasattr(x, "detach") else x
        return g * (y * y + 3 * x * x)

    wrong = student_op(rule)
    inputs = normal(2), normal(2, seed=1)
    assert gradcheck(wrong, inputs)
    text = message(gradgradcheck, wrong, inputs)
    assert "the rule of student for 'x' is wrong" in text and "d (dL/dx) / d x disagree" in text


def test_saved_intermediates_are_differentiated_again():
    @tt.op
    def cube(xp, x):
        square = x * x
        return x * square, tt.Saved(square=square)

    cube.rule("x", lambda g, square: g * 3 * square)
    assert gradgradcheck(cube, normal(3))


@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_inputs_keep_their_layout_and_value(layout):
    array = in_layout(normal(3, 4).detach().numpy(), layout)
    x, before = tt.from_numpy(array), array.copy()
    seen = set()

    def f(x):
        seen.add(x.stride())
        return x * x

    assert gradcheck(f, x.requires_grad_() if layout != "expanded" else x.clone().requires_grad_())
    np.testing.assert_array_equal(array, before)
    if layout != "expanded":
        assert seen == {x.stride()}


def test_inputs_that_cannot_be_checked():
    with pytest.raises(tt.errors.ArgumentError, match="no input requires grad"):
        gradcheck(lambda x: x, tt.ones(2, dtype=tt.float64))
    with pytest.warns(UserWarning, match="float32: finite differences need float64"):
        gradcheck(lambda x: x, tt.ones(2).requires_grad_(), raise_exception=False)


def test_same_verdicts_as_pytorch():
    torch = pytest.importorskip("torch")
    values = [0.3, -1.2, 2.0]
    for f in (
        lambda x: x.exp(),
        lambda x: x * x.detach(),
        lambda x: x.abs(),
        lambda x: (x * 0).abs(),
        lambda x: x[x > 0] * 2,
        lambda x: (x.round() if x.requires_grad else x) * 1,
    ):
        x = tt.tensor(values, dtype=tt.float64, requires_grad=True)
        y = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        mine = gradcheck(f, x, raise_exception=False)
        assert mine == torch.autograd.gradcheck(f, y, raise_exception=False)


def test_they_are_autograds():
    assert tt.autograd.gradcheck is gradcheck and tt.autograd.gradgradcheck is gradgradcheck


# ------------------------------------------------------------------------------ strategies


def test_hypothesis_is_imported_late_and_missed_politely(repo):
    program = """
import sys
import tinytensor
import tinytensor.testing as testing
assert "hypothesis" not in sys.modules and "torch" not in sys.modules
sys.modules["hypothesis"] = None
try:
    testing.tensors()
except ImportError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo)
    assert "pip install hypothesis" in done.stdout, done.stderr


@given(testing.tensors(dtype=tt.float64, layout=testing.layouts(), requires_grad=True))
def test_tensors_are_leaves_of_the_right_kind(x):
    assert x.dtype == tt.float64 and x.is_leaf and x.requires_grad and x.ndim <= 3
    assert np.isfinite(x.detach().numpy()).all()


def test_edges_are_found():
    for strategy, edge in (
        (testing.tensors(), lambda t: t.ndim == 0),
        (testing.tensors(), lambda t: t.numel() == 0 and t.ndim == 2),
        (testing.tensors(layout=testing.layouts()), lambda t: not t.is_contiguous()),
        (testing.tensors(dtype=tt.int8), lambda t: t.numel() and t.min() < 0),
        (testing.tensors(dtype=tt.bool), lambda t: t.numel() > 1),
        (testing.tensors(testing.shapes(min_dims=2)), lambda t: 1 in t.shape),
        (testing.layouts(), lambda name: name == "expanded"),
    ):
        find(strategy, edge)


@given(st.data())
def test_broadcastable_shapes_broadcast(data):
    shapes = data.draw(testing.broadcastable_shapes(3))
    tensors = [data.draw(testing.tensors(s, dtype=tt.float64)) for s in shapes]
    out = tensors[0] + tensors[1] * tensors[2]
    assert tuple(out.shape) == np.broadcast_shapes(*shapes)


@given(testing.tensors(dtype=tt.float64), testing.layouts())
def test_a_layout_keeps_the_values(x, layout):
    there = in_layout(x.numpy(), layout)
    if layout != "expanded":
        np.testing.assert_array_equal(there, x.numpy())
    assert there.shape == x.shape
    with pytest.raises(tt.errors.ArgumentError, match="expanded"):
        in_layout(x.numpy(), "diagonal")
