"""The walk back: its cost, its memory, its messages. What it computes is in test_autograd_scripts.

Costs are counted in rule calls, not in seconds.
"""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor.autograd import Watcher
from tinytensor.errors import GraphError, InPlaceError, NotDifferentiable


class Count(Watcher):
    """How many nodes backward visits."""

    def __init__(self):
        self.visits = 0

    def backward(self, node, g, grads):
        self.visits += 1


def visits(f):
    with Count() as count:
        f()
    return count.visits


# ------------------------------------------------------------------------------ cost


@pytest.mark.parametrize("n", [1000, 10_000])
def test_a_chain_costs_one_rule_call_per_op(n):
    x = y = tt.ones((), requires_grad=True)
    for _ in range(n):
        y = y * 1.0
    assert visits(y.backward) == n and x.grad.item() == 1


@pytest.mark.parametrize("depth", [10, 40])
def test_a_diamond_costs_one_rule_call_per_op_not_per_path(depth):
    x = y = tt.ones((), dtype=tt.float64, requires_grad=True)
    for _ in range(depth):
        y = y * 0.5 + y * 0.5
    assert visits(y.backward) == 3 * depth and x.grad.item() == 1


@pytest.mark.parametrize("depth", [5, 20])
def test_second_derivatives_of_a_diamond_are_linear_too(depth):
    """The graph of the first backward has a few nodes for each node: visits grow with depth."""
    x = y = tt.full((), 0.3, dtype=tt.float64, requires_grad=True)
    for _ in range(depth):
        y = y.sin() + y.sin()
    (g,) = tt.autograd.grad(y, x, create_graph=True)
    assert visits(lambda: tt.autograd.grad(g, x)) <= 12 * depth


def test_only_what_leads_to_the_inputs_is_visited():
    x, w = tt.ones(2, requires_grad=True), tt.ones(2, requires_grad=True)
    y = x
    for _ in range(50):
        y = y.tanh()
    assert visits(lambda: tt.autograd.grad((y * w).sum(), w)) == 2


def test_thousands_of_nested_nodes_need_no_recursion():
    x = y = tt.full((2,), 0.1, dtype=tt.float64, requires_grad=True)
    for _ in range(100_000):
        y = y + 1e-6
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    x.grad = None
    y = x
    for _ in range(3000):
        y = y.sin()
    (g,) = tt.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = tt.autograd.grad(g.sum(), x)
    assert np.isfinite(h.numpy()).all()


def test_a_chain_of_a_million_ops_is_freed(repo):
    """In a process of its own: a stack that overflows while memory is freed kills it."""
    program = """
import tinytensor as tt
from tinytensor.autograd import Node
x = tt.ones((), requires_grad=True)
y = -x
last = y._node
for _ in range(1_000_000):  # as ops would link them, without the ops
    node = Node.__new__(Node)
    node.op, node.parents, node.values = last.op, (last,), ()
    last = node
del y, last, node
print("freed")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo)
    assert done.stdout == "freed\n", done.stderr[-500:]


# ------------------------------------------------------------------------------ memory


def test_nothing_is_recorded_where_nothing_requires_grad():
    x = tt.ones(2)
    assert (x * x).exp()._node is None
    with tt.no_grad():
        assert (tt.ones(2, requires_grad=True) * 2)._node is None


def test_arrays_are_released_as_backward_passes_them():
    x = tt.ones(4, requires_grad=True)
    h = x.exp()
    kept = weakref.ref(h.array)
    loss = (h * 2).sum()
    del h
    loss.backward()
    gc.collect()
    assert kept() is None and loss._node is not None


def test_a_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = tt.ones(4, requires_grad=True)
        y = x.exp().tanh().split(2)[0]
        node = weakref.ref(y._node)
        z = y * 1
        view = z[0]
        view.mul_(2)
        z.sum().backward()
        del y, z, view
        assert node() is None
    finally:
        gc.enable()


def test_two_backwards_give_the_same_bits():
    rng = np.random.default_rng(0)
    x = tt.tensor(rng.normal(size=(64, 64)).astype(np.float32), requires_grad=True)

    def run():
        x.grad = None
        y = (x @ x).tanh()
        ((y + x).softmax(-1) * y[:, ::2].sum() + y.T).logsumexp(0).sum().backward()
        return x.grad.numpy().tobytes()

    assert run() == run()


def test_grads_of_leaves_share_no_memory():
    """`+` hands the same g to both: each leaf needs its own."""
    x, y = tt.ones(3, requires_grad=True), tt.ones(3, requires_grad=True)
    seed = tt.ones(3)
    (x + y).backward(seed)
    x.grad.mul_(10)
    assert y.grad.tolist() == [1, 1, 1] == seed.tolist()


def test_one_no_grad_object_may_be_entered_inside_itself():
    block = tt.no_grad()
    with block:
        with block:
            pass
        assert not tt.is_grad_enabled()
    assert tt.is_grad_enabled()


def test_bare_decorator():
    @tt.no_grad
    def f(x):
        """doc"""
        return x * 2

    assert not f(tt.ones(1, requires_grad=True)).requires_grad and f.__doc__ == "doc"


def test_writes_through_several_views_of_a_split():
    """PyTorch forbids to write into the outputs of split and unbind; ours are views like others."""
    x = tt.arange(4.0).requires_grad_()
    y = x * 1
    a, b = y.split(2)
    a.mul_(3)
    (y * y).sum().backward()
    assert x.grad.tolist() == [0, 18, 4, 6] and b.tolist() == [2, 3]


# ------------------------------------------------------------------------------ messages


def here(offset=0):
    return f"{__file__}:{sys._getframe(1).f_lineno + offset}"


def test_in_place_error_names_op_argument_and_both_lines():
    x = tt.ones(2, requires_grad=True)
    y = x * 2
    saved = here(+1)
    z = y * y
    written = here(+1)
    y.add_(1)
    with pytest.raises(InPlaceError) as e:
        z.sum().backward()
    message = str(e.value)
    assert "mul" in message and saved in message and written in message and "clone()" in message


def test_in_place_error_for_an_output_and_for_setitem():
    x = tt.ones(2, requires_grad=True)
    y = x.exp()
    written = here(+1)
    y[0] = 0.0
    with pytest.raises(InPlaceError, match="exp .* saved its output") as e:
        y.sum().backward()
    assert written in str(e.value)


def test_in_place_error_blames_the_right_argument():
    x = tt.ones(2, requires_grad=True)
    a, b = x * 2, x * 3
    z = a * b
    b.add_(1)
    with pytest.raises(InPlaceError, match="argument 'y'"):
        z.sum().backward()


def test_second_backward_names_the_line_and_the_fix():
    x = tt.ones(2, requires_grad=True)
    line = here(+1)
    y = x.exp()
    z = y.sum()
    z.backward()
    with pytest.raises(GraphError, match="retain_graph=True") as e:
        z.backward()
    assert line in str(e.value)


def test_missing_rule_is_an_error_not_a_zero():
    @tt.op
    def double(xp, x):
        return 2 * x

    x = tt.ones(2, requires_grad=True)
    with pytest.raises(NotDifferentiable, match=r"double .* has no rule for its argument 'x'"):
        double(x).sum().backward()
    assert double(x.detach()).tolist() == [2, 2]


@pytest.mark.parametrize(
    "act, words",
    [
        (lambda x: (x * 2).backward(), ["(3,)", "scalar"]),
        (lambda x: tt.ones(1).backward(), ["does not require grad"]),
        (lambda x: (x * 2).backward(tt.ones(2)), ["(2,)", "(3,)"]),
        (lambda x: (x * 2).backward(tt.ones(3, dtype=tt.float64)), ["float64", "float32"]),
        (lambda x: tt.autograd.grad(x.sum(), tt.ones(1)), ["inputs[0]", "requires_grad_()"]),
        (lambda x: tt.autograd.grad(x.sum(), [x, x * 1]), ["inputs[1]", "allow_unused"]),
        (lambda x: x.add_(1), ["add_", "leaf", "no_grad"]),
        (lambda x: x[0].mul_(2), ["mul_", "view of a leaf"]),
        (lambda x: (x * 2).requires_grad_(False), ["detach()"]),
        (lambda x: x.numpy(), ["detach()"]),
    ],
)
def test_messages_name_shapes_and_the_fix(act, words):
    with pytest.raises(RuntimeError) as e:
        act(tt.ones(3, requires_grad=True))
    assert all(w in str(e.value) for w in words), str(e.value)


# ------------------------------------------------------------------------------ any program

ACTIONS = ["mul", "add", "exp", "row", "t", "cut", "view", "mul_", "add_", "set", "zero"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, 9), st.integers(0, 9),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


def execute(T, steps):
    """A program over a growing list of tensors: ops, views, writes. The same on tt and torch."""
    x = T.tensor([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]], dtype=T.float64, requires_grad=True)
    made = [x * 1]
    for what, i, j in steps:
        a = made[i % len(made)]
        fitting = [m for m in made if m.shape == a.shape]
        b = fitting[j % len(fitting)]
        if what == "mul":
            made.append(a * b)
        elif what == "add":
            made.append(a + b * 2)
        elif what == "exp":
            made.append((a * 0.1).exp())
        elif what == "row" and a.ndim:
            made.append(a[j % a.shape[0]])
        elif what == "t" and a.ndim == 2:
            made.append(a.t())
        elif what == "cut" and a.ndim:
            made.append(a[..., j % 2 :])
        elif what == "view" and a.is_contiguous():
            made.append(a.view(-1))
        elif what == "mul_":
            a.mul_(0.5 + 0.1 * j)
        elif what == "add_":
            a.add_((b * b).clone())
        elif what == "set" and a.ndim:
            a[j % a.shape[0]] = (b.sum() * 0.1) if j % 2 else 0.25
        elif what == "zero":
            a.zero_()
    return x, made


@given(STEPS)
@settings(max_examples=150)
def test_any_program_of_ops_views_and_writes_is_pytorchs(steps):
    torch = pytest.importorskip("torch")
    try:
        theirs, their_made = execute(torch, steps)
    except RuntimeError:
        assume(False)
    mine, my_made = execute(tt, steps)
    for a, b in zip(my_made, their_made):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-12)
    error = None
    try:
        sum(m.sum() * (k + 1) for k, m in enumerate(their_made)).backward()
    except RuntimeError as e:
        error = e
    total = sum(m.sum() * (k + 1) for k, m in enumerate(my_made))
    if error is not None:
        with pytest.raises(InPlaceError):
            total.backward()
    else:
        total.backward()
        np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), 1e-10, 1e-12)
