"""func and autograd.functional against torch's of the same names."""

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor import func
from tinytensor.errors import ArgumentError, DtypeError, ShapeError
from tinytensor.nn import functional as F

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
RNG = np.random.default_rng(0)
A, B, V, T = (RNG.standard_normal((3, 3)) for _ in range(4))


def ours(*arrays):
    return [tt.tensor(a) for a in arrays]


def theirs(*arrays):
    return [torch.tensor(a) for a in arrays]


def assert_same(a, b):
    """The same structure of the same numbers."""
    if isinstance(b, torch.Tensor):
        assert isinstance(a, tt.Tensor) and tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            assert_same(a[key], b[key])
    else:
        assert type(a) is type(b) and len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)


def mlp(x, w):
    return ((x @ w).tanh() @ w).softmax(-1)


def scalar(x, w):
    return (mlp(x, w) * x).sum()


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1,), -1])
def test_grad(argnums):
    a, b = func.grad(scalar, argnums)(*ours(A, B)), torch.func.grad(scalar, argnums)(*theirs(A, B))
    assert_same(a, b)
    a = func.grad_and_value(scalar, argnums)(*ours(A, B))
    assert_same(a, torch.func.grad_and_value(scalar, argnums)(*theirs(A, B)))


def test_grad_with_aux_and_keywords():
    def f(x, *, w, flag):
        h = x @ w
        return (h * h).sum(), {"h": h, "flag": flag} if isinstance(x, tt.Tensor) else {"h": h}

    got, aux = func.grad(f, has_aux=True)(ours(A)[0], w=ours(B)[0], flag="yes")
    want, expected = torch.func.grad(f, has_aux=True)(theirs(A)[0], w=theirs(B)[0], flag="yes")
    assert_same(got, want)
    assert_same(aux["h"], expected["h"])
    assert aux["flag"] == "yes" and not aux["h"].requires_grad
    got, (value, aux) = func.grad_and_value(f, has_aux=True)(ours(A)[0], w=ours(B)[0], flag=1)
    assert value.ndim == 0 and aux["flag"] == 1


def test_grad_of_a_dict_of_parameters():
    def loss(p, x):
        return ((x @ p["w"] + p["b"]["bias"]).tanh() ** 2).sum()

    got = func.grad(loss)({"w": ours(B)[0], "b": {"bias": ours(V)[0]}}, ours(A)[0])
    want = torch.func.grad(loss)({"w": theirs(B)[0], "b": {"bias": theirs(V)[0]}}, theirs(A)[0])
    assert_same(got, want)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_grad_nests(order):
    f = g = lambda x: (x * x * x.sin()).exp()
    for _ in range(order):
        f, g = func.grad(f), torch.func.grad(g)
    assert_same(f(tt.tensor(0.3, dtype=tt.float64)), g(torch.tensor(0.3, dtype=torch.float64)))


def test_vjp():
    out, pull = func.vjp(mlp, *ours(A, B))
    want, torch_pull = torch.func.vjp(mlp, *theirs(A, B))
    assert_same(out, want)
    for v in (V, T):  # as often as you like
        assert_same(pull(*ours(v)), torch_pull(*theirs(v)))


def test_jvp():
    got = func.jvp(mlp, tuple(ours(A, B)), tuple(ours(V, T)))
    assert_same(got, torch.func.jvp(mlp, tuple(theirs(A, B)), tuple(theirs(V, T))))
    h = 1e-6
    x, w, v, t = ours(A, B, V, T)
    moved = (mlp(x + h * v, w + h * t) - mlp(x - h * v, w - h * t)) / (2 * h)
    np.testing.assert_allclose(got[1].numpy(), moved.numpy(), atol=1e-8)


def test_jvp_through_ops_with_saved_intermediates():
    def f(F, x):
        return F.layer_norm(F.gelu(x), (3,)).cumsum(0) * F.log_softmax(x, dim=-1)

    got = func.jvp(lambda x: f(F, x), ours(A)[0], ours(V)[0])
    want = torch.func.jvp(
        lambda x: f(torch.nn.functional, x), tuple(theirs(A)), tuple(theirs(V))
    )
    assert_same(got, want)


def test_outputs_with_structure_and_without_dependence():
    def f(x, w):
        return {"a": x * 2, "b": [w.exp(), w * 0 + 1]}

    got = func.jvp(f, tuple(ours(A, B)), tuple(ours(V, T)))
    assert_same(got, torch.func.jvp(f, tuple(theirs(A, B)), tuple(theirs(V, T))))
    out, pull = func.vjp(f, *ours(A, B))
    _, torch_pull = torch.func.vjp(f, *theirs(A, B))
    a, b = ours(V, T), theirs(V, T)
    assert_same(
        pull({"a": a[0], "b": [a[1], a[1]]}), torch_pull({"a": b[0], "b": [b[1], b[1]]})
    )
    constant = tt.tensor(B)
    assert_same(func.jvp(lambda x: constant, ours(A)[0], ours(V)[0])[1], torch.zeros(3, 3).double())
    assert func.grad(lambda x, w: w.sum())(*ours(A, B)).tolist() == np.zeros((3, 3)).tolist()


@pytest.mark.parametrize("name", ["jacrev", "jacfwd"])
@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_jacobians(name, argnums):
    got = getattr(func, name)(mlp, argnums)(*ours(A, B[:, :3]))
    assert_same(got, torch.func.jacrev(mlp, argnums)(*theirs(A, B[:, :3])))
    two = lambda x, w: (x[0], (w.sum(), (x @ w)[:1]))  # noqa: E731
    got = getattr(func, name)(two, argnums)(*ours(A, B))
    assert_same(got, torch.func.jacrev(two, argnums)(*theirs(A, B)))


def test_jacobian_of_odd_shapes():
    for f in (lambda x: x[:0], lambda x: x.sum(), lambda x: x[None, 0]):
        for name in ("jacrev", "jacfwd"):
            assert_same(getattr(func, name)(f)(*ours(A)), torch.func.jacrev(f)(*theirs(A)))


def test_hessian_in_both_spellings():
    f = lambda x: scalar(x, x.T)  # noqa: E731
    want = torch.func.hessian(f)(*theirs(A))
    assert_same(func.hessian(f)(*ours(A)), want)
    assert_same(func.hessian(f, *ours(A)), want)
    both = torch.func.hessian(scalar, (0, 1))(*theirs(A, B))
    assert_same(func.hessian(scalar, (0, 1))(*ours(A, B)), both)
    assert_same(func.hessian(scalar, tuple(ours(A, B))), both)
    both = torch.func.jacrev(mlp, (0, 1))(*theirs(A, B))
    assert_same(func.jacobian(mlp, tuple(ours(A, B))), both)
    assert_same(func.jacobian(mlp, (0, 1))(*ours(A, B)), both)
    assert_same(func.jacobian(f, *ours(A)), torch.func.grad(f)(*theirs(A)))
    assert_same(func.jacfwd(func.jacrev(f))(*ours(A)), want)


def test_results_leave_the_graph_unless_it_is_the_callers():
    x, w = ours(A, B)
    assert not func.grad(scalar)(x, w).requires_grad
    out, pull = func.vjp(mlp, x, w)
    assert not out.requires_grad and not pull(x)[0].requires_grad
    assert not func.jacrev(mlp)(x, w).requires_grad and x.grad is None and not x.requires_grad
    w.requires_grad_()
    g = func.grad(scalar)(x, w)  # d/dw of df/dx, by ordinary backward
    g.sum().backward()
    tx, tw = theirs(A, B)
    tw.requires_grad_()
    torch.func.grad(scalar)(tx, tw).sum().backward()
    assert_same(w.grad, tw.grad)
    with tt.no_grad():
        assert not func.grad(scalar)(x, w).requires_grad
    assert not func.grad(lambda x: scalar(x, w.detach()))(x).requires_grad


def test_closures_and_jvp_of_the_callers_graph():
    x, w, v = ours(A, B, V)
    w.requires_grad_()
    func.jvp(lambda x: mlp(x, w), x, v)[1].pow(2).sum().backward()
    tx, tw, tv = theirs(A, B, V)
    tw.requires_grad_()
    torch.func.jvp(lambda x: mlp(x, tw), (tx,), (tv,))[1].pow(2).sum().backward()
    assert_same(w.grad, tw.grad)


def test_inside_no_grad_f_is_differentiated_all_the_same():
    with tt.no_grad():
        got = func.grad(scalar)(*ours(A, B))
    assert_same(got, torch.func.grad(scalar)(*theirs(A, B)))


@pytest.mark.parametrize("name", ["vjp", "jvp", "vhp", "hvp", "jacobian", "hessian"])
def test_autograd_functional(name):
    mine = getattr(tt.autograd.functional, name)
    other = getattr(torch.autograd.functional, name)
    f = mlp if name in ("vjp", "jvp", "jacobian") else scalar
    if name == "vjp":
        v = lambda make: make(V)  # noqa: E731
    elif name in ("jacobian", "hessian"):
        v = lambda make: []  # noqa: E731
    else:
        v = lambda make: [tuple(make(V, T))]  # noqa: E731
    got = mine(f, tuple(ours(A, B)), *v(ours))
    assert_same(got, other(f, tuple(theirs(A, B)), *v(theirs)))
    one = (lambda x: f(x, x.T)) if name != "vjp" else (lambda x: (x * x).sum())
    args = [] if name in ("vjp", "jacobian", "hessian") else [V]
    got = mine(one, *ours(A, *args))
    assert_same(got, other(one, *theirs(A, *args)))


def test_autograd_functional_create_graph():
    x = tt.tensor(A, requires_grad=True)
    assert not tt.autograd.functional.jacobian(lambda x: x * x, x).requires_grad
    tt.autograd.functional.hessian(lambda x: (x**3).sum(), x, create_graph=True).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full((3, 3), 6.0))


def test_errors_name_the_function_and_the_fix():
    x, w = ours(A, B)
    with pytest.raises(ShapeError, match="must return one 0-d tensor.*jacrev"):
        func.grad(mlp)(x, w)
    with pytest.raises(ShapeError, match="cotangents of shapes"):
        func.vjp(mlp, x, w)[1](x[0])
    with pytest.raises(ShapeError, match="tangents of shapes"):
        func.jvp(mlp, (x, w), (x,))
    with pytest.raises(DtypeError, match="int64"):
        func.grad(lambda x: x.sum())(tt.arange(3))
    with pytest.raises(ArgumentError, match="argnums 2"):
        func.grad(scalar, 2)(x, w)
    with pytest.raises(ArgumentError, match="must be a Tensor"):
        func.vjp(lambda x: 3.0, x)
    with pytest.raises(ArgumentError, match=r"\(output, aux\)"):
        func.vjp(lambda x: x, x, has_aux=True)


def test_grad_at_a_tensor_does_not_run_the_rules_that_made_it():
    x = tt.tensor(A, requires_grad=True)
    h = x.exp()
    tt.autograd.grad(h.sum(), h)
    h.sum().backward()  # what exp saved is still there
    assert_same(x.grad, torch.tensor(A).exp())
