"""What every op must keep, over the samples of samples.py: memory layouts, gradients, promises.

values      the same in every memory layout, and in float32 up to rounding
gradients   of the argument's shape and dtype; right by finite differences, twice
promises    inputs and incoming gradients are never written; .grad shares memory with nothing;
            two runs give the same bits
"""

import numpy as np
import pytest
from samples import NONE_NEEDED, NOT_EXPANDED, samples

import tinytensor as tt
from tinytensor.apply import apply
from tinytensor.autograd import Node, Variable, wrap
from tinytensor.testing import LAYOUTS, gradcheck, gradgradcheck, in_layout

WANTED = [name for name in tt.REGISTRY if name not in NONE_NEEDED]
OPS = [name for name in WANTED if samples(name)]
DIFFERENTIABLE = [name for name in OPS if tt.REGISTRY[name].rules]

every_op = pytest.mark.parametrize("name", OPS)
every_differentiable_op = pytest.mark.parametrize("name", DIFFERENTIABLE)


def run(name, args, static):
    op = tt.REGISTRY[name]
    return apply(op, tuple(args), {**op.defaults, **static})


def floating(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def tensors(name, call, layout="contiguous", dtype=np.float64, frozen=True, grad=True):
    """The arguments of a call as Tensors in some layout; arrays that must not be written to."""
    op = tt.REGISTRY[name]
    names = op.argument_names(len(call.args))
    made = []
    for argument, a in zip(names, call.args):
        if isinstance(a, np.ndarray):
            wants = grad and floating(a) and (op.variadic or argument in op.rules)
            a = in_layout(a.astype(dtype) if floating(a) else a, layout)
            a.flags.writeable = not frozen
            a = wrap(a, None, wants)
        made.append(a)
    return made


def outputs(result):
    return list(result) if isinstance(result, tuple) else [result]


def seeds_of(outs):
    """dL/dout for each differentiable output: fixed numbers, in memory that must not be written."""
    made = []
    for k, out in enumerate(outs):
        g = np.cos(np.arange(out.numel()) + k).reshape(out.shape).astype(out.dtype)
        g.flags.writeable = False
        made.append(wrap(g))
    return made


def values_and_gradients(name, call, layout, dtype):
    """Arrays of outputs and of gradients, by a backward under guard."""
    args = tensors(name, call, layout, dtype)
    result = outputs(run(name, args, call.static))
    tracked = [o for o in result if o.requires_grad]
    leaves = [a for a in args if isinstance(a, Variable) and a.requires_grad]
    if tracked:
        seeds = seeds_of(tracked)
        tt.autograd.backward(tracked, seeds)
        assert_unshared([x.grad for x in leaves if x.grad is not None], [*args, *result, *seeds])
    return [o.array for o in result], [None if x.grad is None else x.grad.array for x in leaves]


def assert_unshared(grads, others):
    arrays = [a.array for a in others if isinstance(a, Variable)]
    for i, g in enumerate(grads):
        for other in [*arrays, *(h.array for h in grads[:i])]:
            assert not np.shares_memory(g.array, other), "a .grad shares memory"


def _copied(a, layout):
    return in_layout(a, layout).copy() if isinstance(a, np.ndarray) else a


@pytest.fixture
def guarded(monkeypatch):
    """Node.vjp with a g that cannot be written to, and its results checked."""
    plain = Node.vjp

    def vjp(self, g, create_graph):
        for each in g if type(g) is tuple else (g,):
            array = each.array if isinstance(each, Variable) else each
            array.flags.writeable = False
        grads = plain(self, g, create_graph)
        for parent, r in zip(self.parents, grads):
            if isinstance(parent, Variable):
                assert r is not None, f"the rule of {self.op.name} returned no gradient"
                assert r.shape == parent.array.shape, f"{r.shape} for {parent.array.shape}"
                assert r.dtype == parent.array.dtype, f"{r.dtype} for {parent.array.dtype}"
        return grads

    monkeypatch.setattr(Node, "vjp", vjp)


def assert_same(mine, expected, rtol, atol, what):
    assert len(mine) == len(expected)
    for a, b in zip(mine, expected):
        assert (a is None) == (b is None), what
        if a is not None:
            assert a.shape == b.shape and (rtol or a.dtype == b.dtype), what
            np.testing.assert_allclose(a, b, rtol, atol, equal_nan=True, err_msg=what)


# ------------------------------------------------------------------------------ the tests


def test_every_op_has_samples():
    missing = set(WANTED) - set(OPS)
    assert not missing, f"add samples for {missing}: see the head of tests/tinytensor/samples.py"


@every_op
def test_layouts_dtypes_and_promises(name, guarded):
    """Every layout gives what contiguous memory gives; float32 is close; nothing is written."""
    for call in samples(name):
        expected, gradients = values_and_gradients(name, call, "contiguous", np.float64)
        again = values_and_gradients(name, call, "contiguous", np.float64)
        assert_same(again[0] + again[1], expected + gradients, 0, 0, f"{call}: two runs differ")
        for layout in LAYOUTS:
            if layout == "expanded" and name in NOT_EXPANDED:
                continue
            what = f"{name}({call}) {layout}"
            reference = expected, gradients
            if layout == "expanded":  # other values: compare with the same ones, contiguous
                flat = [_copied(a, layout) for a in call.args]
                repeated = type(call)(*flat, **call.static)
                reference = values_and_gradients(name, repeated, "contiguous", np.float64)
            got = values_and_gradients(name, call, layout, np.float64)
            assert_same(got[0], reference[0], 1e-12, 1e-13, f"{what}: value")
            assert_same(got[1], reference[1], 1e-10, 1e-12, f"{what}: gradient")
        if tt.REGISTRY[name].differentiable and "dtype" not in call.static:
            values, grads = values_and_gradients(name, call, "contiguous", np.float32)
            for v, e in zip(values, expected):
                assert v.dtype == (np.float32 if e.dtype == np.float64 else e.dtype), f"{call}"
            assert_same(values, expected, 2e-5, 2e-6, f"{name}({call}) float32: value")
            assert_same(grads, gradients, 2e-4, 1e-5, f"{name}({call}) float32: gradient")


@every_differentiable_op
def test_gradcheck(name):
    checked = 0
    for call in samples(name):
        args = tensors(name, call)
        f = lambda *xs, call=call: run(name, xs, call.static)  # noqa: E731
        if any(isinstance(a, Variable) and a.requires_grad for a in args):
            assert all(np.isfinite(o.array).all() for o in outputs(f(*args))), f"{call}"
            assert gradcheck(f, args, atol=1e-7, rtol=1e-6)
            checked += 1
    assert checked


@every_differentiable_op
def test_gradgradcheck(name):
    """Every op is differentiable twice: the first three samples, and those with options."""
    for call in chosen(samples(name)):
        args = tensors(name, call)
        if any(isinstance(a, Variable) and a.requires_grad for a in args):
            f = lambda *xs, call=call: run(name, xs, call.static)  # noqa: E731
            assert gradgradcheck(f, args, atol=1e-6, rtol=1e-5)


def chosen(calls, few=3):
    """The largest few samples, and one more for each new set of options and numbers of dims."""
    calls = sorted(calls, key=lambda c: -sum(np.size(a) for a in c.args if a is not None))
    seen = set()
    for i, c in enumerate(calls):
        options = frozenset((k, str(v)) for k, v in c.static.items()), tuple(map(np.ndim, c.args))
        if i < few or options not in seen:
            yield c
        seen.add(options)


@every_differentiable_op
def test_each_rule_is_used_by_some_sample(name):
    """A rule that no sample reaches is a rule that nothing tests."""
    op = tt.REGISTRY[name]
    reached = set()
    for call in samples(name):
        names = op.argument_names(len(call.args))
        reached |= {n for n, a in zip(names, call.args) if floating(a) and a.size}
    wanted = set(op.rules) if not op.variadic else {f"{op.params[0]}[0]"}
    assert wanted <= reached, f"no sample differentiates {name} by {wanted - reached}"


OVERRIDDEN = [
    (n, which)
    for n, op in tt.REGISTRY.items()
    for which in ("forward", *op.rules)
    if (
        op.implementations["numpy"] is not op.forward
        if which == "forward"
        else op.rules[which].kernels
    )
]


@pytest.mark.parametrize("name", sorted({n for n, _ in OVERRIDDEN}))
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_kernels_agree_with_their_reference(name, dtype, monkeypatch):
    op = tt.REGISTRY[name]
    with_kernels = [values_and_gradients(name, c, "contiguous", dtype) for c in samples(name)]
    monkeypatch.setitem(op.implementations, "numpy", op.forward)
    for rule in op.rules.values():
        monkeypatch.delitem(rule.kernels, "numpy", raising=False)
    op.plans.clear()
    for call, (values, grads) in zip(samples(name), with_kernels):
        expected = values_and_gradients(name, call, "contiguous", dtype)
        tol = (1e-11, 1e-12) if dtype is np.float64 else (1e-4, 1e-5)
        assert_same(values, expected[0], *tol, f"{name}({call}): value")
        assert_same(grads, expected[1], *tol, f"{name}({call}): gradient")
    op.plans.clear()
