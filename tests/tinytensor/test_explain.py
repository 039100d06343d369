"""explain and contributions: the text tells the truth; the graph and .grad stay as they were."""

import inspect
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor.describe import formula, place
from tinytensor.errors import ArgumentError, GraphError
from tinytensor.nn import functional as F


def told(t, *args, **options):
    out = io.StringIO()
    assert tt.explain(t, *args, file=out, **options) is None
    return out.getvalue()


def here(offset=0):
    return f"test_explain.py:{inspect.currentframe().f_back.f_lineno + offset}"


def test_one_op_with_formula_lines_rules_and_numbers():
    x = tt.tensor([1.0, 2.0], requires_grad=True)
    y = tt.tensor([3.0, 5.0], requires_grad=True)
    made, line = x.exp(), here()
    out, line2 = made * y, here()
    text = told(out, grad=2.0)
    rows = text.splitlines()
    assert rows[0].startswith("mul ") and line2 in rows[0]
    assert "    out = x * y" in rows
    assert any(r.startswith("    x  (2,)  from exp") and line in r for r in rows)
    assert any(r.startswith("    y  (2,)  a leaf that requires grad") for r in rows)
    rule = tt.mul.op.rules["x"].function
    assert f"        dL/dx = g * y   {place(rule)}" in rows
    assert "        y = [3, 5]" in rows and "        dL/dx = [6, 10]" in rows
    assert "        dL/dy = [5.43656, 14.7781]" in rows
    # the place is where the rule stands
    path, number = place(rule).rsplit(":", 1)
    assert "mul.rule" in open(path).readlines()[int(number) - 1]


def test_depth_walks_up_once_through_each_op():
    x = tt.tensor([1.0, 2.0], requires_grad=True)
    h = x.tanh()
    loss = (h * h).sum()
    heads = lambda text: [r for r in text.splitlines() if r[:1] not in (" ", "(")]  # noqa: E731
    assert [r.split()[0] for r in heads(told(loss))] == ["sum"]
    assert [r.split()[1] for r in heads(told(loss, depth=2))] == ["sum", "mul"]
    deep = told(loss, depth=9)
    assert [r.split()[1] for r in heads(deep)] == ["sum", "mul", "tanh"]
    assert deep.count("from tanh [3]") == 2  # both arguments of mul
    g = 2 * np.tanh([1.0, 2.0])  # tanh is given the whole of its gradient, from both consumers
    assert f"    g = dL/dout = [{g[0]:.6g}, {g[1]:.6g}]" in deep.splitlines()


def test_nothing_is_touched():
    x = tt.tensor([1.0, 2.0], requires_grad=True)
    h = x.tanh()
    h.retain_grad()
    loss = (h * h).sum()
    told(loss, depth=5)
    tt.contributions(h, loss)
    assert x.grad is None and h.grad is None
    loss.backward()
    want = h.grad.tolist()
    assert want == (2 * h).tolist()
    assert "its saved values were freed" in told(loss, depth=2)
    assert h.grad.tolist() == want


def test_where_g_comes_from():
    x = tt.tensor([1.0, 2.0], requires_grad=True)
    h = x * 3
    assert "pass grad=" in told(h) and "dL/dx = [" not in told(h)
    h.retain_grad()
    (h * h).sum().backward(retain_graph=True)
    assert "g = dL/dout = [6, 12]" in told(h)
    assert "g = dL/dout = [1, 1]" in told(h, grad=tt.ones(2))


def test_broadcast_joint_variadic_and_several_outputs():
    x, w = tt.randn(4, 3, requires_grad=True), tt.randn(3, requires_grad=True)
    text = told(x * w, grad=1.0)
    assert "dL/dy = " in text and "summed over what was broadcast" in text
    text = told(F.layer_norm(x, 3, w), grad=1.0)
    assert "dL/dx, dL/dweight by the rule at" in text and "x_hat = (x - mean) * inv_std" in text
    assert "bias  needs no gradient" in text
    text = told(tt.cat([x, x * 2]), grad=1.0)
    assert "xs[0]" in text and "xs[1]" in text and "dL/dxs[1] = " in text
    a, b = x.split(2)
    assert "this is output 1 of 2" in told(b, grad=1.0)
    assert "from split (output 0)" in told(a * 2, grad=1.0)


def test_large_tensors_are_summarised():
    x = tt.arange(1000).float().requires_grad_()
    text = told((x * x).sum(), depth=2)
    assert "(1000,) float32  min 0  max 999" in text and max(map(len, text.splitlines())) < 120


def test_leaves_constants_and_missing_rules(capsys):
    assert "a leaf" in told(tt.ones(2)) and "no gradient is recorded" in told(tt.ones(2))
    tt.explain(tt.ones(2, requires_grad=True))
    assert "requires_grad=True" in capsys.readouterr().out

    @tt.op
    def double(xp, x):
        return 2 * x

    assert "there is no rule" in told(double(tt.ones(1, requires_grad=True)))
    with pytest.raises(ArgumentError, match="expected a Tensor"):
        tt.explain(3.0)


def test_every_rule_of_the_registry_has_a_formula_and_a_place():
    for name, op in tt.REGISTRY.items():
        for rule in op.rules.values():
            assert formula(rule.function), name
            assert place(rule.function).startswith("tinytensor/")


def test_formula_of_two_lambdas_on_a_line_and_of_none():
    f, g = (lambda x: x + 1), (lambda x: x - 1)
    assert (formula(f), formula(g)) == ("x + 1", "x - 1")
    outer = lambda x: (lambda y: y * x)  # noqa: E731
    assert formula(outer) == "(lambda y: y * x)".strip("()") and formula(outer(1)) == "y * x"
    assert formula(eval("lambda x: x")) == ""


# ------------------------------------------------------------------------------ contributions


def test_x_times_x_has_two_terms():
    x = tt.tensor([1.0, -2.0], requires_grad=True)
    loss, line = (x * x).sum(), here()
    c = tt.contributions(x, loss)
    assert [(t.op, t.argument) for t in c] == [("mul", "x"), ("mul", "y")]
    assert all(t.line.endswith(line) for t in c)
    assert [t.grad.tolist() for t in c] == [[1.0, -2.0]] * 2 and c.total.tolist() == [2.0, -4.0]
    assert [t.share for t in c] == [0.5, 0.5] and c[0].norm == pytest.approx(5**0.5)
    text = repr(c)
    assert "is a sum of 2" in text and "50.0%" in text and "[2, -4]" in text
    assert x.grad is None
    loss.backward()  # the graph is still there


def test_residual_stream():
    tt.manual_seed(0)
    x = tt.randn(5, 8, requires_grad=True)
    ws = [tt.randn(8, 8, requires_grad=True) for _ in range(3)]
    h = x
    for w in ws:
        h = h + (h @ w).tanh()
    (h * h).sum().backward()
    c = tt.contributions(x, _loss(x, ws))
    assert sorted(t.op for t in c) == ["add", "matmul"]
    np.testing.assert_array_equal(c.total.numpy(), x.grad.numpy())
    assert sum(t.share for t in c) == pytest.approx(1)


def _loss(x, ws):
    h = x
    for w in ws:
        h = h + (h @ w).tanh()
    return (h * h).sum()


def test_watching_the_users_own_backward():
    x = tt.tensor([1.0, 2.0], requires_grad=True)
    h = x * 2
    with tt.contributions(h) as c:
        (h.exp() + h * h + h).sum().backward()
    assert sorted(t.op for t in c) == ["add", "exp", "mul", "mul"]
    np.testing.assert_array_equal((c.total * 2).numpy(), x.grad.numpy())
    x.exp().sum().backward()  # outside nothing is seen
    assert len(c) == 4
    assert "no backward has reached x" in repr(tt.contributions(h))


def test_a_term_against_the_sum_has_a_negative_share():
    x = tt.tensor([1.0], requires_grad=True)
    shares = {t.op: t.share for t in tt.contributions(x, x * 3 - x.exp() * 0 - x)}
    assert shares["sub"] == -0.5 and shares["mul"] == 1.5 and shares["exp"] == 0


def test_seed_of_the_loss_itself_and_create_graph():
    x = tt.tensor(2.0, requires_grad=True)
    h = x * x
    (term,) = tt.contributions(h, h)
    assert (term.op, term.grad.item()) == ("backward", 1.0)
    with tt.contributions(x) as c:
        tt.autograd.grad(h, x, create_graph=True)
    assert [t.grad.item() for t in c] == [2.0, 2.0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["mul", "exp", "sin", "index", "split", "same"]), min_size=1))
def test_terms_add_up_to_the_gradient_bit_for_bit(uses):
    tt.manual_seed(len(uses))
    x = tt.randn(6, requires_grad=True)
    steps = {
        "mul": lambda: x * x * 0.3,
        "exp": lambda: x.exp(),
        "sin": lambda: x.sin() * 0.1,
        "index": lambda: x[tt.tensor([0, 0, 1, 2, 3, 4])],
        "split": lambda: x.split(2)[1].sum() * x,
        "same": lambda: x,
    }
    loss = steps[uses[0]]()
    for use in uses[1:]:
        loss = loss + steps[use]()
    loss = (loss * loss).sum()
    c = tt.contributions(x, loss)
    loss.backward()
    np.testing.assert_array_equal(c.total.numpy(), x.grad.numpy())


def test_errors():
    with pytest.raises(GraphError, match="does not require grad"):
        tt.contributions(tt.ones(2))
    with pytest.raises(ArgumentError, match="expected a Tensor"):
        tt.contributions(1.0)
    x = tt.ones(2, requires_grad=True)
    with pytest.raises(GraphError, match="loss has shape"):
        tt.contributions(x, x * 2)
    assert tt.contributions(x, x * 2, tt.ones(2)).total.tolist() == [2.0, 2.0]
