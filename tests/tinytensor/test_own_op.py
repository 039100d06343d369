"""A student's own op: the ten lines of docs/own_op.md, and the mistakes one can make in them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor.errors import (
    ArgumentError,
    GradcheckError,
    NotDifferentiable,
    ShapeError,
)

gradcheck, gradgradcheck = tt.autograd.gradcheck, tt.autograd.gradgradcheck
DOCS = Path(__file__).parents[2] / "docs" / "own_op.md"


@tt.op
def swish(xp, x, *, beta=1.0):
    """out = x * s,  s = 1 / (1 + e^(-beta x))"""
    s = 1 / (1 + xp.exp(-beta * x))
    return x * s, tt.Saved(s=s)


swish.rule("x", lambda g, x, s, beta: g * (s + x * beta * s * (1 - s)))


def some(*shape, seed=0):
    tt.manual_seed(seed)
    return tt.randn(*shape, dtype=tt.float64, requires_grad=True)


def test_the_page_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    scope = {"__name__": "student"}
    for block in blocks:
        exec(block, scope)
    assert "swish" in scope and len(blocks) == 3


def test_it_is_an_op_like_any_other():
    x = some(5)
    for beta in (1.0, 2.0):
        assert gradcheck(lambda x: swish(x, beta=beta), x)  # noqa: B023
        assert gradgradcheck(lambda x: swish(x, beta=beta), x)  # noqa: B023
    np.testing.assert_allclose(
        swish(x).detach().numpy(),
        torch.nn.functional.silu(torch.tensor(x.detach().numpy())).numpy(),
    )
    assert swish.__doc__.startswith("out = x * s")
    assert {"x", "s"} <= {r.argument for r in tt.tape_memory(swish(x).sum())}
    assert "swish" not in tt.REGISTRY
    tt.explain(swish(x))
    with tt.no_grad():
        assert swish(x).is_leaf


def test_two_arguments_broadcast_and_promote():
    @tt.op(promote="same")
    def hyp(xp, x, y):
        """out = sqrt(x^2 + y^2)"""
        return xp.sqrt(x * x + y * y)

    hyp.rule("x", lambda g, x, out: g * x / out)
    hyp.rule("y", lambda g, y, out: g * y / out)
    x, y = some(3, 1), some(4, seed=1)
    assert gradcheck(hyp, (x, y)) and gradgradcheck(hyp, (x, y))
    assert hyp(tt.ones(2), 2).dtype == tt.float32
    with pytest.raises(ShapeError, match=r"hyp: x \(3,\) and y \(4,\) do not broadcast"):
        hyp(tt.ones(3), tt.ones(4))


def test_joint_rules_several_outputs_and_needs():
    @tt.op
    def polar(xp, x, y):
        r = xp.sqrt(x * x + y * y)
        return r, xp.arctan2(y, x), tt.Saved(r=r)

    seen = []

    @polar.rule("x", "y")
    def _(g, x, y, r, needs):
        seen.append(needs)
        gr, ga = g
        return gr * x / r - ga * y / (r * r), gr * y / r + ga * x / (r * r)

    x, y = some(3), some(3, seed=1)
    assert gradcheck(polar, (x, y))
    assert gradgradcheck(polar, (x, y))
    polar(x, tt.ones(3, dtype=tt.float64))[1].sum().backward()
    assert seen[-1] == (True, False)


def test_numpys_names_in_rules_that_are_differentiated():
    @tt.op
    def spread(xp, x, *, axis=-1):
        return xp.square(x - xp.mean(x, axis=axis, keepdims=True)).sum(axis=axis)

    @spread.rule("x")
    def _(xp, g, x, axis):
        centred = x - xp.mean(x, axis=axis, keepdims=True)
        return 2 * xp.expand_dims(g, axis) * centred * xp.ones(1)

    assert gradcheck(spread, some(3, 4)) and gradgradcheck(spread, some(3, 4))

    @tt.op
    def root(xp, x):
        return xp.cbrt(x)

    root.rule("x", lambda xp, g, x: g / (3 * xp.cbrt(x) ** 2))
    assert gradcheck(root, some(3))
    with pytest.raises(AttributeError, match="xp.cbrt cannot be differentiated"):
        gradgradcheck(root, some(3))


# ------------------------------------------------------------------------------ wrong rules


def product():
    @tt.op(promote="same")
    def product(xp, x, y):
        return x * y

    product.rule("x", lambda g, y: g * y)
    product.rule("y", lambda g, x: g * x)
    return product


WRONG = {
    "sign": ("y", lambda g, x: -g * x, "-1 times"),
    "factor": ("y", lambda g, x: 2 * g * x, "2 times"),
    "zero": ("x", lambda xp, g: xp.zeros_like(g), "0 everywhere"),
    "other": ("x", lambda g, y: g * y * y, "analytic"),
}


@pytest.mark.parametrize("mistake", sorted(WRONG))
def test_gradcheck_names_the_wrong_rule(mistake):
    op = product()
    argument, rule, hint = WRONG[mistake]
    op.rule(argument, rule)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(op, (some(2, 3), some(3, seed=1)))
    text = str(caught.value)
    assert hint in text and "worst" in text and "numeric" in text
    assert re.search(rf"(rule|argument).*{argument}", text), text
    assert not gradcheck(op, (some(2, 3), some(3, seed=1)), raise_exception=False)


def test_gradcheck_points_out_a_kink():
    @tt.op
    def clipped(xp, x):
        return xp.minimum(x, 1)

    clipped.rule("x", lambda g, x: g * (x < 1))
    assert gradcheck(clipped, some(4) * 0.1)
    with pytest.raises(GradcheckError, match="kink"):
        gradcheck(clipped, tt.tensor([0.5, 1.0], dtype=tt.float64, requires_grad=True))


def test_a_transposed_gradient_is_noticed_without_gradcheck():
    @tt.op
    def times(xp, x, y):
        return x @ y

    times.rule("x", lambda xp, g, y: g @ xp.swapaxes(y, 0, 1))
    times.rule("y", lambda xp, g, x: xp.swapaxes(g, 0, 1) @ x)  # transposed
    out = times(some(2, 3), some(3, 4, seed=1))
    with pytest.raises(ShapeError, match=r"times for 'y' returned shape \(4, 3\), .* \(3, 4\)"):
        out.sum().backward()
    op = product()
    op.rule("x", lambda g, y: (g * y).sum(axis=0))
    with pytest.raises(ShapeError, match="product for 'x' returned shape"):
        op(some(2, 3), some(3, seed=1)).sum().backward()


@pytest.mark.parametrize("create_graph", [False, True])
def test_what_a_rule_returns_must_be_a_gradient(create_graph):
    for bad, error, text in (
        (None, NotDifferentiable, "'x' returned None"),
        ("g", ArgumentError, "'x' returned a str"),
        (1.0, ShapeError, r"'x' returned shape \(\)"),
    ):
        op = product()
        op.rule("x", lambda g: bad)  # noqa: B023
        with pytest.raises(error, match=text):
            op(some(3), some(3)).sum().backward(create_graph=create_graph)


def test_gradients_come_in_the_arguments_dtype():
    @tt.op
    def scaled(xp, x):
        return x * 2

    scaled.rule("x", lambda g: g * np.full(3, 2.0))  # float64 crept in
    x = tt.ones(3, requires_grad=True)
    scaled(x).sum().backward()
    assert x.grad.dtype == tt.float32 and x.grad.tolist() == [2, 2, 2]


# ------------------------------------------------------------------------------ missing and unknown


def test_a_missing_rule_names_op_and_argument():
    @tt.op(promote="same")
    def half(xp, x, y):
        return x + y / 2

    half.rule("x", lambda g: g)
    x, y = some(2), some(2, seed=1)
    half(x, y.detach()).sum().backward()  # nobody asks for y
    assert x.grad.tolist() == [1, 1]
    with pytest.raises(NotDifferentiable, match="half .*test_own_op.py.* no rule .*'y'"):
        half(x, y).sum().backward()
    with pytest.raises(NotDifferentiable, match="'y'"):
        gradcheck(half, (x, y))


def test_unknown_names_fail_at_definition():
    op = product()
    with pytest.raises(ArgumentError, match=r"product.rule\('z'\): the arguments are x, y"):
        op.rule("z", lambda g: g)
    with pytest.raises(ArgumentError, match="product for x asks for 'w'"):
        op.rule("x", lambda g, w: g)
    with pytest.raises(ArgumentError, match="the first parameter must be xp"):

        @tt.op
        def forgot(x):
            return x

    with pytest.raises(ArgumentError, match="the first parameter must be xp"):

        @tt.op
        def nothing():
            return 0


def test_a_local_that_was_not_handed_over():
    @tt.op
    def cube(xp, x):
        square = x * x
        return square * x

    cube.rule("x", lambda g, square: 3 * g * square)
    with pytest.raises(ArgumentError, match=r"'square', .* return out, Saved\(square=square\)"):
        cube(some(2))


def test_calls_with_wrong_arguments():
    op = product()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        op(some(2))
    with pytest.raises(TypeError, match="product: y must be a Tensor, got list"):
        op(some(2), [1, 2])


def test_a_bug_in_the_forward_keeps_its_traceback():
    @tt.op
    def broken(xp, x):
        return xp.concatenate([x, 3])

    with pytest.raises(ShapeError, match="broken") as caught:
        broken(tt.ones(2))
    inner = caught.value.__cause__
    lines = []
    trace = inner.__traceback__
    while trace is not None:
        lines.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    assert __file__ in lines


def test_an_output_that_is_the_input_shares_its_version():
    @tt.op
    def same(xp, x):
        return x

    same.rule("x", lambda g: g)
    x = some(3)
    h = x * 1
    loss = (h * h).sum()
    same(h).zero_()
    with pytest.raises(tt.errors.InPlaceError, match="mul"):
        loss.backward()


# ------------------------------------------------------------------------------ kernels


def test_kernels_replace_forward_and_rule_on_their_device():
    op = product()
    calls = []

    @op.kernel("cpu")
    def _(xp, x, y):
        calls.append("forward")
        return np.multiply(x, y)

    @op.kernel("cpu", "x")
    def _(g, y):
        calls.append("x")
        return np.multiply(g, y)

    @op.kernel("cuda")
    def _(xp, x, y):
        raise AssertionError("not on the CPU")

    x, y = some(2, 3), some(3, seed=1)
    assert gradcheck(op, (x, y)) and {"forward", "x"} == set(calls)
    calls.clear()
    (g,) = tt.autograd.grad(op(x, y).sum(), x, create_graph=True)  # the reference, on Tensors
    assert calls == ["forward"] and g.shape == x.shape
    assert gradgradcheck(op, (x, y))


def test_kernels_must_have_the_parameters_of_what_they_replace():
    op = product()
    with pytest.raises(ArgumentError, match=r"parameters must be \(xp, x, y\), not \(xp, y, x\)"):
        op.kernel("cpu")(lambda xp, y, x: x * y)
    with pytest.raises(ArgumentError, match="product for x asks for 'z', which is neither"):
        op.kernel("cpu", "x")(lambda g, z: g)
    with pytest.raises(ArgumentError, match="'cpu' or 'cuda'"):
        op.kernel("tpu")
    with pytest.raises(ArgumentError, match="there are rules for x, y"):
        op.kernel("cpu", "z")


def test_a_kernel_may_keep_other_values_than_the_rule_and_serve_several():
    op = product()
    calls = []

    @op.kernel("cpu")
    def _(xp, x, y):
        twice = 2 * y
        return x * y, tt.Saved(twice=twice)

    @op.kernel("cpu", "x", "y")
    def _(g, x, twice, out):
        calls.append("both")
        return g * twice / 2, g * out / (twice / 2)

    x, y = some(2, 3), some(2, 3, seed=1)
    assert gradcheck(op, (x, y)) and set(calls) == {"both"}
    calls.clear()
    op(x, y.detach()).sum().backward()  # one is needed: the rule as it is written
    assert not calls
    assert gradgradcheck(op, (x, y))
