"""autocast and GradScaler on the CPU, where float16 is slow but the same: torch is the judge."""

import threading
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from tinytensor import nn, optim
from tinytensor.autograd import Watcher
from tinytensor.nn import functional as F
from tinytensor.precision import AUTOCAST

HALF = tt.float16


def half(**options):
    return tt.autocast("cpu", HALF, **options)


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Casts(Watcher):
    """Counts the casts that are made inside."""

    def __init__(self):
        self.made = []

    def forward(self, op, args, static, outs, node):
        if op.name == "cast":
            self.made.append(tuple(args[0].shape))


# ------------------------------------------------------------------------------ which ops

X, W, B3 = array(4, 8), array(6, 8, seed=1), array(2, 8, 3, seed=2)
LOWER = {
    "linear": lambda t, f: f.linear(t(X), t(W), t(W[:, 0])),
    "matmul": lambda t, f: t(X) @ t(W).T,
    "a product with a half factor": lambda t, f: t(X).half() @ t(W).T,
    "bmm": lambda t, f: t(B3).bmm(t(B3).transpose(1, 2)),
    "conv1d": lambda t, f: f.conv1d(t(B3), t(array(5, 8, 2))),
    "attention": lambda t, f: f.scaled_dot_product_attention(*[t(B3[None])] * 3, is_causal=True),
}


@pytest.mark.parametrize("name", LOWER)
def test_products_are_half_as_torchs(name):
    call = LOWER[name]
    with half():
        mine = call(tt.tensor, F)
    with torch.autocast("cpu", torch.float16):
        theirs = call(torch.tensor, torch.nn.functional)
    assert mine.dtype == HALF and theirs.dtype == torch.float16
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), 5e-3, 5e-3)


# of torch's list for CUDA: docs, Automatic Mixed Precision package, "can autocast to float32"
FLOAT32 = {
    "softmax": lambda x: F.softmax(x, -1), "log_softmax": lambda x: F.log_softmax(x, -1),
    "exp": tt.exp, "log": lambda x: tt.log(abs(x)), "rsqrt": lambda x: tt.rsqrt(abs(x)),
    "pow": lambda x: x**2, "reciprocal": tt.reciprocal, "logsumexp": lambda x: tt.logsumexp(x, 0),
    "sum": tt.sum, "prod": tt.prod, "cumsum": lambda x: tt.cumsum(x, 0), "norm": tt.norm,
    "softplus": F.softplus, "mse_loss": lambda x: F.mse_loss(x, x), "tan": tt.tan,
    "cross_entropy": lambda x: F.cross_entropy(x, tt.tensor([1, 2, 3, 0])),
    "l1_loss": lambda x: F.l1_loss(x, x.float()), "mean": tt.mean, "var": tt.var,
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, x), "group_norm": lambda x: F.group_norm(x, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT32)
def test_sums_and_what_magnifies_errors_are_float32(name):
    x = tt.tensor(X).half()
    with half():
        assert FLOAT32[name](x).dtype == tt.float32
    outside = FLOAT32[name](x)
    assert outside.dtype == (tt.float32 if name == "l1_loss" else HALF)


def test_the_rest_takes_what_comes():
    x, y = tt.tensor(X), tt.tensor(X).half()
    with half():
        assert F.gelu(y).dtype == (y + y).dtype == F.relu(y).dtype == HALF
        assert (x + y).dtype == tt.cat([x, y]).dtype == F.gelu(x).dtype == tt.float32
        assert tt.ones(2, 2, dtype=tt.float64) @ tt.ones(2, 2, dtype=tt.float64).T is not None
        with pytest.raises(tt.errors.DtypeError, match="matmul: x is float64 and y is float16"):
            tt.ones(2, 2, dtype=tt.float64) @ tt.ones(2, 2)
    table, index = tt.tensor(W, requires_grad=True), tt.tensor([[0, 5], [2, 2]])
    with half():
        out = F.embedding(index, table)  # unlike torch
    assert out.dtype == HALF and np.array_equal(out.detach().numpy(), W.astype(HALF)[index.numpy()])
    out.float().sum().backward()
    assert table.grad.dtype == tt.float32 and table.grad[2].tolist() == [2.0] * 8


def test_the_lists_name_ops_that_there_are():
    assert AUTOCAST.keys() <= tt.REGISTRY.keys()
    assert "cast" not in AUTOCAST  # would call itself


# ------------------------------------------------------------------------------ the context


def test_it_nests_and_is_off_outside():
    x = tt.tensor(X)
    dtype = lambda: (x @ x.T).dtype  # noqa: E731
    with half():
        assert dtype() == HALF == tt.get_autocast_dtype("cpu") and tt.is_autocast_enabled("cpu")
        with half(enabled=False):
            assert dtype() == tt.float32 and not tt.is_autocast_enabled("cpu")
            with half():
                assert dtype() == HALF
        with tt.autocast("cuda", HALF):  # of another device
            assert dtype() == HALF and tt.is_autocast_enabled()
        assert dtype() == HALF and not tt.is_autocast_enabled()
    assert dtype() == tt.float32 and tt.get_autocast_dtype("cpu") is None
    with pytest.raises(ZeroDivisionError), half():
        1 / 0  # noqa: B018
    assert dtype() == tt.float32


def test_it_decorates_functions_and_generators():
    x = tt.tensor(X)

    @half()
    def f(depth=1):
        return f(0) if depth else (x @ x.T).dtype

    @tt.amp.autocast("cpu", dtype=HALF)
    def g():
        while True:
            yield (x @ x.T).dtype

    values = g()
    assert f() == next(values) == HALF
    assert (x @ x.T).dtype == tt.float32 and next(values) == HALF


def test_it_is_of_one_thread():
    seen = []
    with half():
        other = threading.Thread(target=lambda: seen.append(tt.is_autocast_enabled("cpu")))
        other.start()
        other.join()
    assert seen == [False]


@pytest.mark.parametrize("call, words", [
    (lambda: tt.autocast("gpu"), "device_type must be 'cuda' or 'cpu', got 'gpu'"),
    (lambda: tt.autocast("cpu"), "NumPy has no bfloat16: on the CPU, dtype must be float16"),
    (lambda: tt.autocast("cuda", tt.float64), "dtype must be bfloat16 or float16, got float64"),
    (lambda: tt.set_float32_matmul_precision("low"), "one of highest, high, medium, got 'low'"),
])  # fmt: skip
def test_mistakes_are_named(call, words):
    with pytest.raises(tt.errors.TinyTensorError, match=words):
        call()


def test_bfloat16_is_a_name_of_the_package():
    assert tt.bfloat16.name == "bfloat16" and tt.bfloat16.itemsize == 2
    with pytest.raises(AttributeError, match="no attribute 'bfloat17'"):
        tt.bfloat17  # noqa: B018


# ------------------------------------------------------------------------------ gradients


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        tt.manual_seed(0)
        self.table, self.norm = nn.Embedding(6, 8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, idx, casts=lambda t: t):
        x = casts(self.table(idx))
        h = F.linear(self.norm(x), casts(self.up.weight), casts(self.up.bias))
        x = x + F.linear(F.gelu(h), casts(self.down.weight), casts(self.down.bias))
        return F.linear(x, casts(self.table.weight))


def test_it_is_what_casts_by_hand_are():
    idx, target = tt.tensor([[1, 2, 5], [0, 3, 3]]), tt.tensor([2, 5, 0, 3, 3, 1])
    nets = Net(), Net()
    with half():
        out = nets[0](idx)
        loss = F.cross_entropy(out.view(-1, 6), target)
    assert out.dtype == HALF and loss.dtype == tt.float32
    by_hand = nets[1](idx, lambda t: t.half())
    F.cross_entropy(by_hand.view(-1, 6).float(), target).backward()
    loss.backward()
    for mine, theirs in zip(*(net.parameters() for net in nets)):
        assert mine.grad.dtype == tt.float32
        # the cached cast of the tied matrix sums its two gradients in float16, by hand it is twice
        np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), 2e-3, 1e-4)


def test_a_parameter_is_cast_once_until_it_changes():
    w, x = nn.Parameter(tt.tensor(W)), tt.tensor(X)
    with half(), Casts() as casts:
        for _ in range(3):
            (x.half() @ w.T).sum().backward()
        first = F.linear(x.half(), w)
        assert F.linear(x.half(), w)[0, 0] == first[0, 0]
        n = casts.made.count(W.shape)
        with tt.no_grad():
            w.mul_(2)
        assert (F.linear(x.half(), w).detach() == 2 * first.detach()).all()
        assert casts.made.count(W.shape) == n + 1
        w.data = tt.tensor(W)
        assert (F.linear(x.half(), w) == first).all()
    with half(cache_enabled=False), Casts() as casts:
        F.linear(x.half(), w), F.linear(x.half(), w)
        assert casts.made.count(W.shape) == 2 and not tt.is_autocast_cache_enabled()


def test_what_was_cast_without_gradients_is_not_used_with_them():
    w, x = nn.Parameter(tt.tensor(W)), tt.tensor(X)
    with half():
        with tt.no_grad():
            F.linear(x, w)
        F.linear(x, w).sum().backward()
    assert w.grad is not None


def test_a_checkpoint_runs_again_in_it():
    x, net = tt.tensor(X, requires_grad=True), nn.Linear(8, 8)
    grads = []
    for run in (lambda f, x: f(x), tt.autograd.checkpoint):
        x.grad = None
        with half():
            out = run(lambda x: F.gelu(net(x)).exp(), x)
        out.sum().backward()  # outside
        grads.append(x.grad.numpy())
    assert np.array_equal(*grads)


# ------------------------------------------------------------------------------ half references


@pytest.mark.parametrize("weights", ["float32", "float16", None])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_of_half_inputs_are_torchs(name, weights):
    x, parameters = 30 * array(5, 64) + 20, [array(64, seed=i) for i in (1, 2)]
    parameters = parameters[: 2 if name == "layer_norm" else 1] if weights else []
    mine = [tt.tensor(x, requires_grad=True)], [tt.tensor(p).to(weights) for p in parameters]
    theirs = torch.tensor(x, requires_grad=True)
    with torch.no_grad():
        own = [torch.tensor(p).to(getattr(torch, weights or "float32")) for p in parameters]
    for p in (*mine[1], *own):
        p.requires_grad_()
    out = getattr(F, name)(mine[0][0].half(), 64, *mine[1])
    wide = [p.float() for p in own]
    wide = getattr(torch.nn.functional, name)(theirs.half().float(), (64,), *wide)
    assert out.dtype == HALF
    np.testing.assert_allclose(out.detach().numpy(), wide.detach().numpy(), 2e-3, 2e-3)
    g = array(5, 64, seed=9)
    out.backward(tt.tensor(g).half())
    wide.backward(torch.tensor(g).half().float())
    for p, q in zip(mine[1], own):
        assert p.grad.dtype == weights
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), 5e-3, 5e-3)
    np.testing.assert_allclose(mine[0][0].grad.numpy(), theirs.grad.numpy(), 1e-2, 1e-4)


def test_linear_takes_float32_parameters_beside_half():
    """As kernels on CUDA do: the products are half, the parameters' gradients are float32."""
    x, w, b = tt.tensor(X).half(), tt.tensor(W, requires_grad=True), tt.ones(6).requires_grad_()
    out = tt.ops.nn._linear(x.requires_grad_(), w, b)
    out.backward(tt.ones(4, 6).half())
    assert out.dtype == x.grad.dtype == HALF and w.grad.dtype == b.grad.dtype == tt.float32
    wide = X.astype(HALF).astype(np.float32)
    np.testing.assert_allclose(out.detach().numpy(), wide @ W.T + 1, 5e-3, 5e-3)
    np.testing.assert_allclose(w.grad.numpy(), np.tile(wide.sum(0), (6, 1)), 5e-3, 5e-3)
    assert b.grad.tolist() == [4.0] * 6


def test_norms_refuse_other_mixtures():
    with pytest.raises(tt.errors.DtypeError, match="input is float32 and weight is float16"):
        F.layer_norm(tt.ones(2, 4), 4, tt.ones(4).half())
    with pytest.raises(tt.errors.DtypeError, match="weight is float32 and bias is float16"):
        F.layer_norm(tt.ones(2, 4).half(), 4, tt.ones(4), tt.ones(4).half())


def test_statistics_of_half_are_float32():
    """65504 is the largest float16: sums of 4,096 numbers around 100 go beyond."""
    x = tt.full((2, 4096), 100.0).half()
    x[:, ::2] += 8
    out, total = F.add_layer_norm(x, x, 4096, tt.ones(4096), tt.zeros(4096))
    assert total.dtype == out.dtype == HALF
    np.testing.assert_allclose(out[0, :2].numpy(), [1, -1], 1e-3)
    np.testing.assert_allclose(F.softmax(tt.zeros(1, 4096).half(), -1).numpy(), 1 / 4096, 1e-3)
    logits = tt.zeros(3, 4096).half()
    loss = F.cross_entropy(logits, tt.tensor([1, 2, 3]))
    assert loss.dtype == HALF and loss.item() == pytest.approx(np.log(4096), rel=1e-3)
    with half():
        fused = F.fused_linear_cross_entropy(
            tt.zeros(3, 8), tt.tensor(array(4096, 8)), tt.tensor([1, 2, 3])
        )
    assert fused.dtype == tt.float32 and fused.item() == pytest.approx(np.log(4096), rel=1e-6)


# ------------------------------------------------------------------------------ GradScaler


def history(lib, module, scaler, overflows):
    """Scale, growth tracker and weights after each step of SGD, some of which overflow."""
    p = module.Parameter(lib.ones(3))
    optimizer = (optim if lib is tt else torch.optim).SGD([p], lr=0.1, momentum=0.5)
    seen = []
    for overflow in overflows:
        p.grad = None
        scaler.scale((p * p).sum() * (float("inf") if overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append((scaler.state_dict(), p.detach().numpy().tolist()))
    return seen


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 4))
def test_the_scale_has_torchs_history(overflows, interval):
    how = {"init_scale": 64.0, "growth_factor": 4.0, "backoff_factor": 0.25,
           "growth_interval": interval}  # fmt: skip
    mine = history(tt, nn, tt.amp.GradScaler("cpu", **how), overflows)
    theirs = history(torch, torch.nn, torch.amp.GradScaler("cpu", **how), overflows)
    assert [state for state, _ in mine] == [state for state, _ in theirs]
    for (_, a), (_, b) in zip(mine, theirs):
        np.testing.assert_allclose(a, b, 1e-6, 1e-6)  # of numbers that began at 1


def test_the_scale_does_not_grow_beyond_float32():
    how = {"init_scale": 2.0**127, "growth_interval": 1}
    scalers = tt.amp.GradScaler("cpu", **how), torch.amp.GradScaler("cpu", **how)
    for lib, scaler in zip((tt, torch), scalers):
        p = lib.zeros(1).requires_grad_()
        p.grad = lib.zeros(1)
        optimizer = (optim if lib is tt else torch.optim).SGD([p], lr=0.1)
        scaler.scale(lib.zeros(1))
        scaler.step(optimizer)
        scaler.update()
    assert scalers[0].get_scale() == scalers[1].get_scale() == 2.0**127


def test_unscaled_gradients_can_be_clipped_and_two_optimizers_share_a_scale():
    results = []
    for lib, module, o, amp in ((tt, nn, optim, tt.amp), (torch, torch.nn, torch.optim, torch.amp)):
        scaler = amp.GradScaler("cpu", init_scale=8.0)
        a, b = module.Parameter(lib.ones(4)), module.Parameter(lib.ones(2))
        both = o.AdamW([a], lr=0.1), o.SGD([b], lr=0.1)
        for t in range(4):
            a.grad = b.grad = None
            bad = float("nan") if t == 2 else 1.0
            loss = (a**3).sum() * 5, (b**2).sum() * bad
            for scaled in scaler.scale(loss):
                scaled.backward()
            scaler.unscale_(both[0])
            module.utils.clip_grad_norm_([a], 1.0)
            for optimizer in both:
                scaler.step(optimizer)
            scaler.update()
        results.append(([a.tolist(), b.tolist()], scaler.state_dict()))
    np.testing.assert_allclose(results[0][0][0], results[1][0][0], 1e-6)
    assert results[0][0][1] == results[1][0][1] and results[0][1] == results[1][1]
    assert results[0][1]["scale"] == 4.0


def test_a_scaler_goes_on_from_its_state():
    whole, first, then = (tt.amp.GradScaler("cpu", growth_interval=3) for _ in range(3))
    overflows = [False, True, False, False, False, True, False]
    wanted = [state for state, _ in history(tt, nn, whole, overflows)]
    history(tt, nn, first, overflows[:4])
    then.load_state_dict(first.state_dict())
    assert [state for state, _ in history(tt, nn, then, overflows[4:])] == wanted[4:]
    first.load_state_dict(then.state_dict())  # into one in use
    assert first.state_dict() == wanted[-1]


def test_a_scaler_that_is_off_does_nothing():
    scaler = tt.amp.GradScaler("cpu", enabled=False)
    p = nn.Parameter(tt.ones(2))
    optimizer = optim.SGD([p], lr=0.5)
    loss = p.sum()
    assert scaler.scale(loss) is loss and scaler.get_scale() == 1.0 and scaler.state_dict() == {}
    loss.backward()
    scaler.unscale_(optimizer), scaler.step(optimizer), scaler.update()
    assert p.tolist() == [0.5, 0.5]


def test_the_order_of_calls_is_watched():
    scaler, p = tt.amp.GradScaler("cpu"), nn.Parameter(tt.ones(2))
    optimizer = optim.SGD([p], lr=0.5)
    with pytest.raises(tt.errors.ArgumentError, match="no step\\(\\) or unscale_\\(\\) came"):
        scaler.update()
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(tt.errors.ArgumentError, match="unscale_\\(\\) was called already"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(tt.errors.ArgumentError, match="step\\(\\) was called already"):
        scaler.step(optimizer)
    h = nn.Parameter(tt.ones(2).half())
    with pytest.raises(tt.errors.DtypeError, match="a parameter is float16"):
        tt.amp.GradScaler("cpu").unscale_(optim.SGD([h], lr=1.0))


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop"])
def test_every_optimizer_takes_a_scale_and_a_gate(name):
    def run(scale, gate):
        p = nn.Parameter(tt.tensor(X))
        optimizer = getattr(optim, name)([p], lr=0.1)
        for t in range(3):
            p.grad = tt.tensor(array(*X.shape, seed=t) * (4 if scale else 1))
            optimizer.grad_scale = tt.tensor(4.0) if scale else None
            optimizer.found_inf = tt.tensor(gate) if t == 1 else None
            optimizer.step()
        return p.detach().numpy()

    assert np.array_equal(run(True, 0.0), run(False, 0.0))  # 4 is a power of two: exact
    assert np.array_equal(run(True, 1.0), run(False, np.nan))
    assert not np.array_equal(run(False, 0.0), run(False, 1.0))


def test_warnings_of_overflow_are_not_shown():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history(tt, nn, tt.amp.GradScaler("cpu"), [True, False])
