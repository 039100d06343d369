"""adamw.cu: norm, scaling, Adam and AdamW of many tensors, against float64 and the CPU's optimizer.

The tensors lie in one large array with gaps between them, at all alignments: what is in the gaps
must stay there.
"""

import copy
import math

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import backend, nn, optim
from tinytensor.kernels.cuda import adamw

from .shim import SCHEDULES
from .standin import RawModule

SIZES = [1, 3, 4, 7, 1024, adamw.CHUNK, adamw.CHUNK + 1, 2 * adamw.CHUNK + 5]
GAP = np.float32(12345.0)


@pytest.fixture(params=SCHEDULES, ids=str)
def schedule(request, monkeypatch, pytestconfig):
    """Each order of the threads in turn; a GPU has its own."""
    if pytestconfig.getoption("--device") == "cuda" and request.param != SCHEDULES[0]:
        pytest.skip("the GPU decides")
    monkeypatch.setattr(RawModule, "schedule", request.param)


class Arena:
    """Views of one array on the device, with gaps; every other view begins at an odd place."""

    def __init__(self, values):
        xp = backend.cupy()
        self.places, at = [], 4
        for i, v in enumerate(values):
            at += i % 2
            self.places.append((at, v.size))
            at = -(-(at + v.size + 4) // 4) * 4
        host = np.full(at, GAP)
        for (start, size), v in zip(self.places, values):
            host[start : start + size] = v
        self.array = xp.asarray(host)
        self.views = [self.array[start : start + size] for start, size in self.places]

    def read(self):
        """The values; the gaps are looked at."""
        host, gaps = self.array.get(), np.ones(self.array.size, bool)
        for start, size in self.places:
            gaps[start : start + size] = False
        assert (host[gaps] == GAP).all()
        return [host[start : start + size] for start, size in self.places]


def numbers(seed, sizes=SIZES, scale=1.0):
    rng = np.random.default_rng(seed)
    return [(scale * rng.standard_normal(n)).astype(np.float32) for n in sizes]


def test_the_total_norm(cuda, schedule):
    values = numbers(0)
    arena = Arena(values)
    total = adamw.total_norm(arena.views)
    exact = math.sqrt(sum((v.astype(np.float64) ** 2).sum() for v in values))
    assert total.shape == () and float(total) == pytest.approx(exact, rel=1e-6)
    again = adamw.total_norm(arena.views)
    assert again.tobytes() == total.tobytes()


def test_the_total_norm_is_the_same_in_every_order(cuda, monkeypatch):
    arena, bits = Arena(numbers(1)), set()
    for order in SCHEDULES:
        monkeypatch.setattr(RawModule, "schedule", order)
        bits.add(adamw.total_norm(arena.views).tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize("where", [None, 0, 5, 7])
@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_scaling_finds_what_is_not_finite(cuda, schedule, factor, where):
    values = numbers(2)
    if where is not None:
        values[where][-1] = [np.inf, -np.inf, np.nan][where % 3]
    arena = Arena(values)
    xp = backend.cupy()
    found = xp.zeros((), np.float32)
    adamw.scale_(arena.views, xp.asarray(np.float32(factor)), found)
    assert float(found) == (where is not None)
    for mine, v in zip(arena.read(), values):
        np.testing.assert_array_equal(mine, v * np.float32(factor))


@pytest.mark.parametrize("options", [
    {}, {"amsgrad": True, "maximize": True, "decoupled": False}, {"beta1": 0.0, "scale": 8.0},
], ids=str)  # fmt: skip
def test_steps_of_adam_against_float64(cuda, schedule, options):
    o = {"amsgrad": False, "maximize": False, "decoupled": True, "beta1": 0.9, "scale": 1.0,
         **options}  # fmt: skip
    lr, beta1, beta2, eps, decay = 0.01, o["beta1"], 0.999, 1e-8, 0.1
    x = Arena(numbers(3))
    exact = [v.astype(np.float64) for v in x.read()]
    m, v, top = ([np.zeros_like(e) for e in exact] for _ in range(3))
    params = [nn.Parameter(tt.as_tensor(view)) for view in x.views]
    for p, view in zip(params, x.views):
        p.data = tt.autograd.wrap(view)
    kind = optim.AdamW if o["decoupled"] else optim.Adam
    optimizer = kind(params, lr, (beta1, beta2), eps, decay, o["amsgrad"], maximize=o["maximize"])
    scale = tt.tensor(o["scale"], device=cuda)
    for t in range(1, 4):
        grads = numbers(10 + t)
        for p, g in zip(params, Arena([o["scale"] * g for g in grads]).views):
            p.grad = tt.autograd.wrap(g)
        optimizer.grad_scale = None if o["scale"] == 1 else scale
        optimizer.step()
        for i, g in enumerate(grads):
            g = -g.astype(np.float64) if o["maximize"] else g.astype(np.float64)
            if o["decoupled"]:
                exact[i] *= 1 - lr * decay
            else:
                g += decay * exact[i]
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            top[i] = np.maximum(top[i], v[i]) if o["amsgrad"] else v[i]
            root = np.sqrt(top[i] / (1 - beta2**t)) + eps
            exact[i] -= lr * (m[i] / (1 - beta1**t)) / root
    for mine, e in zip(x.read(), exact):
        np.testing.assert_allclose(mine, e, 1e-5, 1e-6)
    assert [s["step"] for s in optimizer.state_dict()["state"].values()] == [3] * len(SIZES)


# ------------------------------------------------------------------------------ the optimizer


def parameters(device, shapes=((3, 4), (5,), (), (70, 3)), dtype=tt.float32):
    tt.manual_seed(3)
    return [nn.Parameter(tt.randn(s).to(device, dtype)) for s in shapes]


def give(params, t, some=True):
    """Gradients of step t, the same on every device; sometimes a parameter gets none."""
    rng = np.random.default_rng(t)
    for i, p in enumerate(params):
        g = rng.standard_normal(p.shape) * 10.0 ** (t % 3 - 1)
        p.grad = tt.tensor(g).to(p.device, p.dtype)
        if some and i == 1 and t % 3 == 1:
            p.grad = None


def close(mine, theirs, rtol=2e-5, atol=1e-6):
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a.numpy(force=True), b.numpy(force=True), rtol, atol)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.3, "amsgrad": True}, {"maximize": True, "betas": (0.0, 0.5)},
], ids=str)  # fmt: skip
def test_an_optimizer_on_cuda_is_that_of_the_cpu(cuda, kind, options):
    mine, theirs = parameters(cuda), parameters("cpu")
    ours = [kind([{"params": ps[:2], "lr": 0.05}, {"params": ps[2:]}], lr=0.02, **options)
            for ps in (mine, theirs)]  # fmt: skip
    for t in range(7):
        for params, optimizer in zip((mine, theirs), ours):
            give(params, t)
            nn.utils.clip_grad_norm_(params, 1.5)
            optimizer.param_groups[1]["lr"] = 0.02 / (1 + t)
            optimizer.step()
    close(mine, theirs)
    states = [optimizer.state_dict() for optimizer in ours]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for i, own in states[1]["state"].items():
        assert states[0]["state"][i]["step"] == own["step"] == (5 if i == 1 else 7)
        close([states[0]["state"][i]["exp_avg_sq"]], [own["exp_avg_sq"]])


def test_more_tensors_than_a_launch_takes(cuda):
    n = adamw.MANY + 3
    params = [nn.Parameter(tt.full((2,), float(i), device=cuda)) for i in range(n)]
    for p in params:
        p.grad = tt.ones(2, device=cuda)
    optim.Adam(params, lr=0.5).step()
    assert [p[0].item() for p in params] == pytest.approx([i - 0.5 for i in range(n)])
    assert nn.utils.get_total_norm([p.grad for p in params]).item() == pytest.approx((2 * n) ** 0.5)


@pytest.mark.parametrize("gate", [1.0, math.nan, math.inf])
def test_a_shut_gate_changes_nothing(cuda, unread, gate):
    params = parameters(cuda)
    optimizer = optim.AdamW(params, lr=0.1)
    give(params, 0, some=False)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict()), [p.numpy(force=True) for p in params]
    found = tt.tensor(gate, device=cuda)
    with unread():
        for p in params:
            p.grad.array[...] = np.nan
        optimizer.found_inf = found
        optimizer.step()
        optimizer.found_inf = None
    after = optimizer.state_dict()
    assert all((p.numpy(force=True) == b).all() for p, b in zip(params, before[1]))
    for i, state in before[0]["state"].items():
        assert after["state"][i]["step"] == state["step"] == 1
        assert (after["state"][i]["exp_avg"] == state["exp_avg"]).all()


def test_clipping_a_step_and_a_scaler_read_nothing(cuda, unread):
    params = parameters(cuda)
    optimizer, scaler = optim.AdamW(params, lr=0.1), tt.amp.GradScaler(cuda)
    give(params, 0, some=False)
    with unread():
        for how in ("in place", "in the kernel", "in place"):
            scaler.scale(tt.ones((), device=cuda))
            if how == "in place":
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(params, 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.param_groups[0]["lr"] *= 0.5
    assert scaler.get_scale() == 2.0**16
    assert [s["step"] for s in optimizer.state_dict()["state"].values()] == [3] * 4


def test_a_learning_rate_on_the_device_is_read_there(cuda, unread):
    params, theirs = parameters(cuda), parameters("cpu")
    rate = tt.tensor(0.5, device=cuda)
    mine, other = optim.AdamW(params, lr=rate), optim.AdamW(theirs, lr=0.5)
    for t, lr in enumerate((0.5, 0.25)):
        give(params, t, some=False), give(theirs, t, some=False)
        rate.fill_(lr)
        other.param_groups[0]["lr"] = lr
        with unread():
            mine.step()
        other.step()
    close(params, theirs)
    assert mine.state_dict()["param_groups"][0]["lr"] == 0.25


def test_state_moves_between_devices_and_copies_stand_alone(cuda):
    params, theirs = parameters(cuda), parameters("cpu")
    mine, other = optim.AdamW(params, lr=0.1), optim.AdamW(theirs, lr=0.1)
    for t in range(2):
        give(params, t, some=False)
        mine.step()
    for p, q in zip(theirs, params):
        p.data = q.detach().cpu()
    other.load_state_dict(mine.state_dict())
    twins, twin = copy.deepcopy((params, mine))
    for t in (2, 3):
        for ps, optimizer in ((params, mine), (theirs, other), (twins, twin)):
            give(ps, t)
            optimizer.step()
    close(params, theirs)
    assert all((a == b).all().item() for a, b in zip(params, twins))
    mine.load_state_dict(other.state_dict())  # and back, into one in use
    for ps, optimizer in ((params, mine), (theirs, other)):
        give(ps, 4)
        optimizer.step()
    close(params, theirs)
    assert mine.state_dict()["state"][0]["step"] == 5


@pytest.mark.filterwarnings("ignore:divide by zero")  # 1e-8, Adam's eps, is 0 in float16
def test_what_a_kernel_does_not_take_goes_one_by_one(cuda):
    """float64, half precision, gaps in memory, nothing at all, and another device."""
    other = "cuda:1" if backend.cuda_device_count() > 1 else cuda

    def made(device, second):
        rng = np.random.default_rng(0)
        values = [rng.standard_normal((4, 6)).astype(d) for d in ("f4", "f8", "f2", "f4", "f4")]
        ps = [nn.Parameter(tt.tensor(v).to(device)) for v in values]
        ps[3].data = ps[3].detach().T
        ps[4].data = ps[4].detach().to(second)
        return [*ps, nn.Parameter(tt.zeros(0, 3, device=device))]

    mine, theirs = made(cuda, other), made("cpu", "cpu")
    for params in (mine, theirs):
        optimizer = optim.AdamW(params, lr=0.1)
        for t in range(3):
            give(params, t, some=False)
            params[0].grad = params[0].grad.T.contiguous().T  # a gradient with gaps
            optimizer.found_inf = tt.tensor(float(t == 1)).to(params[0].device)
            optimizer.step()
    close(mine, theirs, 1e-3, 1e-3)
    close([mine[0], mine[1]], [theirs[0], theirs[1]])
    assert {int(s["step"]) for s in optimizer.state.values()} == {2}
