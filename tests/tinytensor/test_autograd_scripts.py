"""Small autograd programs, each run twice: on tinytensor and on PyTorch. All results must agree.

A script takes the module T, `tt` or `torch`, and returns whatever it wants compared: tensors,
numbers, None, nested lists. If PyTorch raises, ours must raise an error of the same class.
"""

import threading

import numpy as np
import pytest

import tinytensor as tt
from tinytensor.autograd import Variable

torch = pytest.importorskip("torch")

SCRIPTS = {}


def script(f):
    SCRIPTS[f.__name__] = f
    return f


def plain(value):
    if isinstance(value, (Variable, torch.Tensor)):
        return value.detach().numpy()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def same(mine, theirs, where):
    if isinstance(theirs, list):
        assert isinstance(mine, list) and len(mine) == len(theirs), where
        for i, (a, b) in enumerate(zip(mine, theirs)):
            same(a, b, f"{where}[{i}]")
    elif isinstance(theirs, np.ndarray):
        assert isinstance(mine, np.ndarray), f"{where}: {mine} is not a tensor: {theirs}"
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype, where
        np.testing.assert_allclose(mine, theirs, 1e-5, 1e-6, err_msg=where)
    else:
        assert mine == theirs, f"{where}: {mine}, PyTorch {theirs}"


def outcome(f, T):
    try:
        return plain(f(T)), None
    except Exception as error:
        return None, error
    finally:
        T.set_grad_enabled(True)


def run_both(f):
    mine, my_error = outcome(f, tt)
    theirs, their_error = outcome(f, torch)
    if their_error is not None:
        assert isinstance(my_error, type(their_error)), f"{my_error!r}, PyTorch: {their_error!r}"
        return
    if my_error is not None:
        raise my_error
    same(mine, theirs, f.__name__)


def leaf(T, *shape, start=1.0, dtype=None):
    n = int(np.prod(shape)) if shape else 1
    values = (start + 0.5 * np.arange(n)).reshape(shape).tolist()
    return T.tensor(values, requires_grad=True, **({} if dtype is None else {"dtype": dtype}))


# ------------------------------------------------------------------------------ backward, leaves


@script
def accumulates(T):
    x = leaf(T, 3)
    (x * 2).sum().backward()
    first = x.grad.clone()
    (x * x).sum().backward()
    return first, x.grad


@script
def grad_is_a_fresh_tensor_without_graph(T):
    x = leaf(T, 2)
    x.sum().backward()
    return x.grad.requires_grad, x.grad.is_leaf, x.grad.grad_fn is None


@script
def zero_dim_grad(T):
    x = leaf(T)
    (x * 3).backward()
    return x.grad, x.grad.shape == ()


@script
def same_tensor_twice(T):
    x = leaf(T, 2)
    (x * x + x).sum().backward()
    return x.grad


@script
def one_element_needs_no_gradient(T):
    x = leaf(T, 1, 1)
    (x * 2).backward()
    return x.grad


@script
def non_scalar_needs_a_gradient(T):
    (leaf(T, 3) * 2).backward()


@script
def non_scalar_with_a_gradient(T):
    x = leaf(T, 3)
    (x * x).backward(T.tensor([1.0, 0.0, 2.0]))
    return x.grad


@script
def gradient_of_wrong_shape(T):
    (leaf(T, 3) * 2).backward(T.ones(2))


@script
def gradient_that_is_no_tensor(T):
    (leaf(T, 3) * 2).backward([1.0, 1.0, 1.0])


@script
def backward_without_graph(T):
    T.tensor(1.0).backward()


@script
def backward_on_a_leaf(T):
    x = leaf(T)
    x.backward()
    return x.grad


@script
def second_backward(T):
    y = (leaf(T, 2) * 2).exp().sum()
    y.backward()
    y.backward()


@script
def second_backward_retained(T):
    x = leaf(T, 2)
    y = x.exp().sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


@script
def second_backward_where_nothing_was_saved(T):
    x = leaf(T, 2)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    return x.grad


@script
def backward_of_two_roots(T):
    x = leaf(T, 2)
    a, b = x * 2, (x * x).sum()
    T.autograd.backward([a, b], [T.tensor([1.0, -1.0]), None])
    return x.grad


@script
def backward_inputs_only(T):
    x, y = leaf(T, 2), leaf(T, 2)
    (x * y).sum().backward(inputs=[x])
    return x.grad, y.grad


@script
def shared_subgraph_freed(T):
    x = leaf(T, 2)
    shared = x.exp()
    shared.sum().backward()
    (shared * 2).sum().backward()


@script
def integers_cannot_require_grad(T):
    T.tensor([1, 2], requires_grad=True)


@script
def requires_grad_on_ints(T):
    T.tensor([1, 2]).requires_grad_()


@script
def requires_grad_off_on_non_leaf(T):
    (leaf(T, 2) * 2).requires_grad_(False)


@script
def leaf_rules(T):
    x, c = leaf(T, 2), T.ones(2)
    y = x * 2
    return [
        (t.is_leaf, t.requires_grad, t.grad_fn is None)
        for t in (x, c, y, y.detach(), c * 2, x.data, y.argmax(), y > 1, y.clone(), y.long())
    ]


@script
def grad_of_non_leaf_is_none(T):
    x = leaf(T, 2)
    y = x * 2
    y.sum().backward()
    return y.grad, x.grad


@script
def retain_grad(T):
    x = leaf(T, 2)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    (y * y).sum().backward()
    return y.grad, x.grad


@script
def retain_grad_without_grad(T):
    T.ones(2).retain_grad()


@script
def constants_get_no_grad(T):
    x, c = leaf(T, 2), T.ones(2)
    (x * c).sum().backward()
    return c.grad, x.grad


@script
def float64_and_float32_meet(T):
    x, y = leaf(T, 2), leaf(T, 2, dtype=T.float64)
    (x * y).sum().backward()
    return x.grad, y.grad


@script
def ints_times_floats(T):
    x = leaf(T, 3)
    (x * T.tensor([1, 2, 3]) / 2).sum().backward()
    return x.grad


@script
def casts_bring_the_gradient_back(T):
    x = leaf(T, 3)
    (x.double() * 3).to(T.float32).sum().backward()
    return x.grad


@script
def broadcast_gradients(T):
    x, y, z = leaf(T, 3, 1), leaf(T, 4), leaf(T)
    ((x + y) * z).sum().backward()
    return x.grad, y.grad, z.grad


@script
def grad_can_be_set_and_cleared(T):
    x = leaf(T, 2)
    x.grad = T.ones(2)
    (x * 2).sum().backward()
    got = x.grad.clone()
    x.grad = None
    return got, x.grad


@script
def zeroing_grad_in_place(T):
    x = leaf(T, 2)
    x.sum().backward()
    x.grad.zero_()
    (x * 3).sum().backward()
    return x.grad


# ------------------------------------------------------------------------------ modes, detach


@script
def no_grad_block(T):
    x = leaf(T, 2)
    with T.no_grad():
        y = x * 2
        inside = T.is_grad_enabled()
    return y.requires_grad, inside, T.is_grad_enabled(), (x * 2).requires_grad


@script
def nested_modes(T):
    seen = []
    with T.no_grad():
        with T.enable_grad():
            seen.append(T.is_grad_enabled())
            with T.set_grad_enabled(False):
                seen.append(T.is_grad_enabled())
            seen.append(T.is_grad_enabled())
        seen.append(T.is_grad_enabled())
    return [*seen, T.is_grad_enabled()]


@script
def mode_restored_after_an_exception(T):
    try:
        with T.no_grad():
            raise KeyError
    except KeyError:
        return T.is_grad_enabled()


@script
def mode_as_decorator(T):
    @T.no_grad()
    def f(x):
        return x * 2, T.is_grad_enabled()

    @T.enable_grad()
    def g(x):
        return x * 2, T.is_grad_enabled()

    with T.no_grad():
        y, on = g(leaf(T, 2))
    z, off = f(leaf(T, 2))
    return y.requires_grad, on, z.requires_grad, off, T.is_grad_enabled()


@script
def recursive_decorated_function(T):
    @T.no_grad()
    def f(n):
        return [T.is_grad_enabled()] + (f(n - 1) if n else [])

    return f(3), T.is_grad_enabled()


@script
def decorated_generator(T):
    @T.no_grad()
    def steps():
        got = yield T.is_grad_enabled()
        yield got, T.is_grad_enabled()

    it = steps()
    first = next(it)
    between = T.is_grad_enabled()
    return first, between, it.send("sent"), T.is_grad_enabled(), list(it)


@script
def generator_sees_exceptions_and_close(T):
    log = []

    @T.no_grad()
    def steps():
        try:
            yield 1
        except KeyError:
            log.append(("caught", T.is_grad_enabled()))
            yield 2
        finally:
            log.append(("closed", T.is_grad_enabled()))

    it = steps()
    next(it)
    second = it.throw(KeyError())
    it.close()
    return second, log, T.is_grad_enabled()


@script
def set_grad_enabled_as_a_statement(T):
    T.set_grad_enabled(False)
    off = T.is_grad_enabled()
    T.set_grad_enabled(True)
    return off, T.is_grad_enabled()


@script
def set_grad_enabled_as_decorator(T):
    @T.set_grad_enabled(False)
    def f():
        return T.is_grad_enabled()

    return f(), T.is_grad_enabled()


@script
def threads_have_their_own_mode(T):
    seen = []
    with T.no_grad():
        t = threading.Thread(target=lambda: seen.append(T.is_grad_enabled()))
        t.start()
        t.join()
        seen.append(T.is_grad_enabled())
    return seen


@script
def backward_under_no_grad(T):
    x = leaf(T, 2)
    y = x.exp().sum()
    with T.no_grad():
        y.backward()
    return x.grad, x.grad.requires_grad


@script
def detach_shares_memory_and_stops_gradients(T):
    x = leaf(T, 2)
    y = x * 2
    d = y.detach()
    (y * d).sum().backward()
    return x.grad, d.requires_grad, d.is_leaf, d


@script
def detach_in_place(T):
    y = leaf(T, 2) * 2
    y.detach_()
    return y.requires_grad, y.is_leaf


@script
def numpy_of_a_tracked_tensor(T):
    (leaf(T, 2) * 2).numpy()


# ------------------------------------------------------------------------------ autograd.grad


@script
def grad_returns_and_touches_nothing(T):
    x, y = leaf(T, 2), leaf(T, 2, start=3.0)
    gx, gy = T.autograd.grad((x * x * y).sum(), [x, y])
    return gx, gy, x.grad, y.grad


@script
def grad_of_an_intermediate(T):
    x = leaf(T, 2)
    y = x * 2
    z = (y * y).sum()
    return T.autograd.grad(z, [y, x])


@script
def grad_of_the_output_itself(T):
    x = leaf(T, 2)
    y = (x * 2).sum()
    return T.autograd.grad(y, y)


@script
def grad_unused(T):
    x, y = leaf(T, 2), leaf(T, 2)
    T.autograd.grad(x.sum(), [x, y])


@script
def grad_allow_unused(T):
    x, y = leaf(T, 2), leaf(T, 2)
    return T.autograd.grad(x.sum(), [x, y], allow_unused=True)


@script
def grad_materialized(T):
    x, y = leaf(T, 2), leaf(T, 2)
    return T.autograd.grad(x.sum(), [x, y], materialize_grads=True)


@script
def grad_of_an_input_without_grad(T):
    x = leaf(T, 2)
    T.autograd.grad(x.sum(), [T.ones(2)])


@script
def grad_with_several_outputs(T):
    x = leaf(T, 2)
    return T.autograd.grad([x * 2, x.exp()], x, [T.ones(2), T.tensor([1.0, -1.0])])


@script
def grad_outputs_of_wrong_count(T):
    x = leaf(T, 2)
    T.autograd.grad([x * 2, x.exp()], x, [T.ones(2)])


@script
def grad_twice_without_retain(T):
    x = leaf(T, 2)
    y = x.exp().sum()
    T.autograd.grad(y, x)
    T.autograd.grad(y, x)


@script
def duplicate_inputs(T):
    x = leaf(T, 2)
    return T.autograd.grad((x * x).sum(), [x, x])


# ------------------------------------------------------------------------------ higher order


@script
def second_derivative(T):
    x = leaf(T, 3)
    (g,) = T.autograd.grad((x**3).sum(), x, create_graph=True)
    (h,) = T.autograd.grad(g.sum(), x)
    return g, h, g.requires_grad, h.requires_grad


@script
def third_derivative(T):
    x = leaf(T)
    g = (x * x * x * x).sin()
    for _ in range(3):
        (g,) = T.autograd.grad(g, x, create_graph=True)
    return g


@script
def gradient_penalty(T):
    x, w = leaf(T, 2, 3), leaf(T, 3, 2, start=-0.4)
    y = (x @ w).tanh().sum()
    (g,) = T.autograd.grad(y, x, create_graph=True)
    (y + (g**2).sum()).backward()
    return w.grad, x.grad


@script
def backward_create_graph(T):
    x = leaf(T, 2)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    (h,) = T.autograd.grad(first.sum(), x)
    return first, h


@script
def create_graph_then_accumulate(T):
    x = leaf(T, 2)
    (x**2).sum().backward(create_graph=True)
    (x**3).sum().backward()
    return x.grad


@script
def hessian_vector_product(T):
    x, v = leaf(T, 3), T.tensor([1.0, -2.0, 0.5])
    y = (x.softmax(0) * x).sum()
    (g,) = T.autograd.grad(y, x, create_graph=True)
    return T.autograd.grad((g * v).sum(), x)


@script
def second_order_through_layer_norm_and_softmax(T):
    F = T.nn.functional
    x, w = leaf(T, 2, 4), leaf(T, 4, start=0.3)
    x2 = T.cat([x[:1] * 2, x[1:] - 1])
    y = F.log_softmax(F.layer_norm(x2, (4,), w), -1)[:, 1].sum()
    gx, gw = T.autograd.grad(y, [x, w], create_graph=True)
    return T.autograd.grad((gx**2).sum() + (gw**2).sum(), [x, w])


# ------------------------------------------------------------------------------ hooks


@script
def hook_on_a_leaf(T):
    x, seen = leaf(T, 2), []
    x.register_hook(lambda g: seen.append(g.clone()))
    (x * 2 + x * x).sum().backward()
    return seen, x.grad


@script
def hook_replaces_the_gradient(T):
    x = leaf(T, 2)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    return x.grad


@script
def hooks_in_order_and_removed(T):
    x, log = leaf(T, 2), []
    a = x.register_hook(lambda g: (log.append("a"), g + 1)[1])
    x.register_hook(lambda g: (log.append("b"), g * 2)[1])
    x.sum().backward(retain_graph=True)
    a.remove()
    x.sum().backward()
    return log, x.grad


@script
def hook_and_retain_grad(T):
    x = leaf(T, 2)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 3)
    y.sum().backward()
    return y.grad, x.grad


@script
def hook_without_grad(T):
    T.ones(2).register_hook(lambda g: g)


@script
def hook_in_autograd_grad(T):
    x = leaf(T, 2)
    y = x * 2
    y.register_hook(lambda g: g * 3)
    return T.autograd.grad(y.sum(), x)


@script
def hook_under_create_graph(T):
    x = leaf(T, 2)
    y = x * x
    y.register_hook(lambda g: g * g)
    (g,) = T.autograd.grad((y * y).sum(), x, create_graph=True)
    return g, T.autograd.grad(g.sum(), x)


# ------------------------------------------------------------------------------ several outputs


@script
def unbind_partly_used(T):
    x = leaf(T, 3, 2)
    _a, b, _c = x.unbind(0)
    (b * b).sum().backward()
    return x.grad


@script
def split_used_out_of_order(T):
    x = leaf(T, 5)
    a, b = x.split([2, 3])
    (b.sum() * 3 + (a * a).sum()).backward()
    return x.grad


@script
def chunk_of_chunks(T):
    x = leaf(T, 7)
    parts = x.chunk(3)
    last = parts[-1].exp()
    (last.sum() + (parts[0] * parts[0]).sum()).backward()
    return x.grad, [p.shape == () for p in parts], len(parts)


@script
def iteration_over_a_tensor(T):
    x = leaf(T, 3)
    total = 0
    for i, row in enumerate(x):
        total = total + row * i
    total.backward()
    return x.grad


@script
def second_backward_through_split(T):
    x = leaf(T, 4)
    a, b = (x * x).split(2)
    (g,) = T.autograd.grad((a * b * b).sum(), x, create_graph=True)
    return g, T.autograd.grad(g.sum(), x)


@script
def max_with_indices(T):
    x = leaf(T, 2, 3)
    values, indices = x.max(dim=1)
    (values * 2).sum().backward()
    return values, indices, x.grad, indices.requires_grad


@script
def topk_and_sort(T):
    x = T.tensor([3.0, 1.0, 2.0], requires_grad=True)
    values, _ = x.topk(2)
    ordered, _ = x.sort()
    (values.sum() + (ordered * T.tensor([1.0, 10.0, 100.0])).sum()).backward()
    return x.grad


@script
def gradient_to_one_output_node_through_hooks(T):
    x, seen = leaf(T, 4), []
    a, _b = x.split(2)
    a.register_hook(lambda g: seen.append(g))
    (a * 2).sum().backward()
    return seen, x.grad


# ------------------------------------------------------------------------------ in place, views


@script
def in_place_on_a_leaf(T):
    leaf(T, 2).add_(1)


@script
def in_place_on_a_view_of_a_leaf(T):
    leaf(T, 2)[0].add_(1)


@script
def setitem_on_a_leaf(T):
    x = leaf(T, 2)
    x[0] = 1.0


@script
def in_place_on_a_leaf_under_no_grad(T):
    x = leaf(T, 2)
    with T.no_grad():
        x.add_(1)
        x[0] = 7.0
    (x * x).sum().backward()
    return x, x.grad, x.requires_grad


@script
def in_place_joins_the_graph(T):
    x = leaf(T, 2)
    y = x * 2
    y.mul_(3)
    y += x
    y.sum().backward()
    return y, x.grad


@script
def constant_becomes_tracked(T):
    x, c = leaf(T, 2), T.ones(2)
    c.mul_(x)
    c.sum().backward()
    return c, x.grad, c.requires_grad


@script
def setitem_is_differentiable(T):
    x, v = leaf(T, 3), leaf(T)
    y = x * 2
    y[1] = v * v
    (y * T.tensor([1.0, 10.0, 100.0])).sum().backward()
    return y, x.grad, v.grad


@script
def setitem_with_a_mask_and_a_number(T):
    x = leaf(T, 4)
    y = x * 2
    y[y > 3] = 0.0
    y.sum().backward()
    return y, x.grad


@script
def setitem_with_integers(T):
    x, v = leaf(T, 4), leaf(T, 2)
    y = x * 2
    y[T.tensor([3, 0])] = v
    (y * y).sum().backward()
    return y, x.grad, v.grad


@script
def setitem_into_zeros(T):
    x, out = leaf(T, 2), T.zeros(2, 3)
    for i in range(3):
        out[:, i] = x * (i + 1)
    (out * out).sum().backward()
    return out, x.grad


@script
def setitem_broadcasts(T):
    x, v = leaf(T, 2, 3), leaf(T, 3)
    y = x * 1
    y[:] = v
    y.sum().backward()
    return x.grad, v.grad


@script
def setitem_shape_error(T):
    y = leaf(T, 3) * 1
    y[:2] = T.ones(3)


@script
def setitem_of_another_dtype(T):
    y = T.zeros(3, dtype=T.int64)
    y[0] = 2.7
    y[1] = T.tensor(True)
    return y


@script
def write_through_a_view_reaches_the_base(T):
    x = leaf(T, 2, 2)
    y = x * 2
    row = y[0]
    row.mul_(10)
    y.sum().backward()
    return y, x.grad


@script
def write_through_the_base_reaches_the_view(T):
    x = leaf(T, 2, 2)
    y = x * 2
    row = y[0]
    y.mul_(10)
    row.sum().backward()
    return row, x.grad


@script
def view_of_a_view_written(T):
    x = leaf(T, 2, 3)
    y = x * 1
    v = y.t()[1:]
    v[0].fill_(5.0)
    (y * y).sum().backward()
    return y, v, x.grad


@script
def sibling_views(T):
    x = leaf(T, 4)
    y = x * 1
    a, b = y[:3], y[1:]
    a.mul_(2)
    (b * b).sum().backward()
    return b, x.grad


@script
def write_another_tensor_through_a_view(T):
    x, w = leaf(T, 2, 2), leaf(T, 2)
    y = x * 1
    y[1].copy_(w * w)
    (y * T.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    return x.grad, w.grad


@script
def view_made_from_a_constant_base(T):
    x, base = leaf(T, 2), T.zeros(2, 2)
    base[0].add_(x)
    base.sum().backward()
    return base, base.requires_grad, x.grad


@script
def chain_of_in_place_writes(T):
    x = leaf(T, 3)
    y = x + 0
    y.add_(1).mul_(2).sub_(x)
    y[1:].mul_(y[:2].detach())
    y.sum().backward()
    return y, x.grad


@script
def in_place_through_transpose_reshape_expand(T):
    x = leaf(T, 2, 3)
    y = x * 1
    y.transpose(0, 1).mul_(2)
    y.view(6)[2:4].add_(x.sum())
    y.sum().backward()
    return y, x.grad


@script
def saved_argument_overwritten(T):
    x = leaf(T, 2)
    y = x * 2
    z = y * y
    y.add_(1)
    z.sum().backward()


@script
def saved_output_overwritten(T):
    x = leaf(T, 2)
    y = x.exp()
    y.add_(1)
    y.sum().backward()


@script
def saved_value_overwritten_through_a_view(T):
    x = leaf(T, 2)
    y = x * 2
    z = y * y
    y[0].zero_()
    z.sum().backward()


@script
def saved_value_overwritten_through_detach(T):
    x = leaf(T, 2)
    y = x * 2
    z = y * y
    y.detach().zero_()
    z.sum().backward()


@script
def unsaved_value_overwritten(T):
    x = leaf(T, 2)
    y = x * 2
    z = y + y
    y.add_(1)
    z.sum().backward()
    return x.grad


@script
def other_argument_overwritten_after_use(T):
    x, c = leaf(T, 2), T.ones(2)
    z = x * c
    c.add_(1)
    z.sum().backward()


@script
def writes_through_data_are_not_seen(T):
    x = leaf(T, 2)
    y = x * 2
    z = y * y
    y.data.zero_()
    z.sum().backward()
    return x.grad


@script
def in_place_that_would_grow(T):
    (leaf(T, 1) * 2).add_(T.ones(3))


@script
def in_place_result_of_another_category(T):
    T.ones(2, dtype=T.int64).add_(1.5)


@script
def in_place_on_an_expanded_tensor(T):
    (leaf(T, 1) * 2).expand(3).add_(T.ones(3))


@script
def in_place_and_version_of_relu(T):
    x = leaf(T, 3, start=-0.7)
    y = (x * 2).relu_()
    y.sum().backward()
    return y, x.grad


@script
def data_assignment(T):
    x = leaf(T, 2)
    x.data = T.zeros(2)
    (x + 1).sum().backward()
    return x, x.grad


@script
def masked_fill_in_place(T):
    x = leaf(T, 3)
    y = x * 2
    y.masked_fill_(y > 3, -1.0)
    (y * y).sum().backward()
    return y, x.grad


@script
def optimizer_step_between_forward_and_backward(T):
    w = leaf(T, 2)
    y = (w * w).sum()
    with T.no_grad():
        w.sub_(0.1)
    y.backward()


# ------------------------------------------------------------------------------ models in small


@script
def two_layer_network_trained(T):
    x, y = leaf(T, 4, 3).detach(), T.tensor([0, 1, 1, 0])
    w, b = leaf(T, 3, 5, start=-3.0), T.zeros(5, requires_grad=True)
    v = leaf(T, 5, 2, start=-2.0)
    losses = []
    for _ in range(5):
        logits = ((x @ w) * 0.1 + b).tanh() @ v
        loss = -(logits.log_softmax(-1)[[0, 1, 2, 3], y.tolist()]).mean()
        losses.append(loss.item())
        loss.backward()
        with T.no_grad():
            for p in (w, b, v):
                p -= 0.1 * p.grad
                p.grad = None
    return [round(v, 4) for v in losses], w, b, v


@script
def recurrent_weights_shared(T):
    w, h = leaf(T, 2, 2, start=-0.8), T.ones(2)
    for _ in range(20):
        h = (w @ h).tanh()
    h.sum().backward()
    return w.grad


@script
def graph_reused_by_two_losses(T):
    x = leaf(T, 3)
    shared = (x * 2).exp()
    a, b = shared.sum(), (shared * shared).sum()
    a.backward(retain_graph=True)
    b.backward()
    return x.grad


@script
def micrograd_example(T):
    a, b = T.tensor(-4.0, requires_grad=True), T.tensor(2.0, requires_grad=True)
    c = a + b
    d = a * b + b**3
    c = c + (c + 1)
    c = c + (1 + c + (-a))
    d = d + (d * 2 + (b + a).relu())
    d = d + (3 * d + (b - a).relu())
    e = c - d
    f = e**2
    g = f / 2.0
    g = g + 10.0 / f
    g.backward()
    return g, a.grad, b.grad


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name):
    run_both(SCRIPTS[name])
