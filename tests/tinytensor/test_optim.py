"""Optimizers: trajectories against torch.optim, groups, state, mistakes."""

import copy
import gc
import itertools
import json
import math
import pickle
import weakref

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor import nn, optim
from tinytensor.optim import layout

STEPS = 50


def product(**options):
    return [dict(zip(options, values)) for values in itertools.product(*options.values())]


BOTH = [False, True]
COMBINATIONS = {
    "SGD": [
        o
        for o in product(
            momentum=[0, 0.9], dampening=[0, 0.3], weight_decay=[0, 0.1], nesterov=BOTH,
            maximize=BOTH,
        )
        if not o["nesterov"] or (o["momentum"] and not o["dampening"])
    ],
    "Adam": product(
        weight_decay=[0, 0.1], amsgrad=BOTH, maximize=BOTH, betas=[(0.9, 0.999), (0.0, 0.5)]
    ),
    "AdamW": product(weight_decay=[0, 0.1], amsgrad=BOTH, maximize=BOTH, eps=[1e-8, 1e-2]),
    "RMSprop": product(weight_decay=[0, 0.1], momentum=[0, 0.9], centered=BOTH, maximize=BOTH),
}  # fmt: skip
CASES = [(name, o) for name, options in COMBINATIONS.items() for o in options]
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]


def gradients(seed=0, steps=STEPS, shapes=SHAPES):
    """Gradients of all parameters, step by step: large, small, sometimes none."""
    rng = np.random.default_rng(seed)
    for t in range(steps):
        yield [
            None if i == 1 and t % 3 == 1 else rng.standard_normal(s) * 10.0 ** (t % 5 - 2)
            for i, s in enumerate(shapes)
        ]


def start(dtype, shapes=SHAPES):
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(s).astype(dtype) for s in shapes]
    ours = [nn.Parameter(tt.tensor(v)) for v in values]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    return ours, theirs


def give(params, grads, make, dtype=np.float64):
    for p, g in zip(params, grads):
        p.grad = None if g is None else make(np.asarray(g, dtype))


def assert_close(ours, theirs, rtol=1e-12):
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol, rtol)


@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_grad_scale_divides_the_gradients(name, options):
    scaled, divided = (getattr(optim, name)(start(np.float64)[0], lr=0.01, **options)
                       for _ in range(2))  # fmt: skip
    scale = 3.7
    scaled.grad_scale = tt.tensor(scale, dtype=tt.float64)
    ours, theirs = (o.param_groups[0]["params"] for o in (scaled, divided))
    for grads in gradients(steps=5):
        give(ours, grads, tt.tensor)
        give(theirs, [g if g is None else np.asarray(g) / scale for g in grads], tt.tensor)
        kept = [None if g is None else np.array(g) for g in grads]
        scaled.step(), divided.step()
        for p, g in zip(ours, kept):  # what a user reads afterwards is as it was
            assert g is None or (p.grad.numpy() == g).all()
    assert_close(ours, theirs)


@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_trajectory(name, options):
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 2e-4)):
        ours, theirs = start(dtype)
        a = getattr(optim, name)(ours, lr=0.01, **options)
        b = getattr(torch.optim, name)(theirs, lr=0.01, foreach=False, **options)
        for grads in gradients():
            give(ours, grads, tt.tensor, dtype), give(theirs, grads, torch.tensor, dtype)
            a.step(), b.step()
            assert_close(ours, theirs, rtol)
        assert all(p.dtype == dtype for p in ours)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_layout_changes_nothing(name, monkeypatch):
    shapes = [(6, 5), (40,), (3,), (2, 2), (), (0, 3)]
    results = []
    for block, joined, small in ((7, 0, 0), (1 << 18, 0, 0), (7, 35, 32), (1 << 18, 1 << 17, 99)):
        for constant, value in (("BLOCK", block), ("JOINED", joined), ("SMALL", small)):
            monkeypatch.setattr(layout, constant, value)
        ours, _ = start(np.float32, shapes)
        a = getattr(optim, name)(ours, lr=0.01)
        for grads in gradients(steps=5, shapes=shapes):
            give(ours, grads, tt.tensor, np.float32)
            a.step()
        results.append(ours)
    for other in results[1:]:
        for p, q in zip(results[0], other):
            assert np.array_equal(p.array, q.array)


def step(optimizer):
    for p in optimizer.param_groups[0]["params"]:
        p.grad = tt.ones_like(p)
    optimizer.step()


def together(*params):
    return len({id(p.array.base) for p in params}) == 1 and params[0].array.base is not None


def test_small_parameters_and_their_moments_become_neighbours():
    params, _ = start(np.float32)
    optimizer = optim.AdamW(params)
    step(optimizer)
    assert together(*params)
    assert together(*(optimizer.state[p]["exp_avg"] for p in params))
    arrays = [p.array for p in params]
    step(optimizer)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # moments of their own
    step(optimizer)
    assert together(*(optimizer.state[p]["exp_avg"] for p in params))
    assert all(p.array is a for p, a in zip(params, arrays))


def test_a_step_keeps_no_gradient():
    params, _ = start(np.float32)
    optimizer = optim.AdamW(params)
    gc.collect()
    gc.disable()  # which would free what only a cycle of references keeps
    try:
        step(optimizer)
        gone = weakref.ref(params[0].grad.array)
        optimizer.zero_grad()
        assert gone() is None
    finally:
        gc.enable()


def test_an_array_that_somebody_holds_stays():
    params, _ = start(np.float64)
    held, rows = params[0].detach().numpy(), params[3].detach()[0]
    values = [p.detach().numpy().copy() for p in params]
    optimizer = optim.SGD(params, lr=1.0)
    for _ in range(2):
        step(optimizer)
    np.testing.assert_allclose(held, values[0] - 2)
    np.testing.assert_allclose(rows.numpy(), values[3][0] - 2)
    for p, value in zip(params, values):
        np.testing.assert_allclose(p.detach().numpy(), value - 2)


def test_an_array_that_is_replaced_is_found():
    params, _ = start(np.float64)
    optimizer = optim.SGD(params, lr=1.0)
    step(optimizer)
    new = tt.zeros(3, 4, dtype=tt.float64)
    params[0].data = new
    step(optimizer)
    assert np.array_equal(new.numpy(), np.full((3, 4), -1.0))


@pytest.mark.parametrize("kind", ["bytes", "buffer", "transposed", "strided"])
def test_parts_of_somebody_elses_memory(kind):
    whole = np.arange(24, dtype=np.float32) - 11
    if kind == "bytes":
        held = whole.view(np.uint8).copy()
        parts = [held[i : i + 48].view(np.float32) for i in (0, 48)]
    elif kind == "buffer":
        held = bytearray(whole.tobytes())
        parts = [np.frombuffer(held, np.float32, 12, i) for i in (0, 48)]
    elif kind == "transposed":
        parts = [whole[i : i + 12].reshape(3, 4).T for i in (0, 12)]
    else:
        parts = [whole[::2][i : i + 6] for i in (0, 6)]
    expected = [part - np.arange(part.size).reshape(part.shape) for part in parts]
    params = [nn.Parameter(tt.from_numpy(part)) for part in parts]
    for p in params:
        p.grad = tt.tensor(np.arange(p.numel(), dtype=np.float32).reshape(p.shape))
    optim.SGD(params, lr=1.0).step()
    for part, new in zip(parts, expected):
        np.testing.assert_array_equal(part, new)


def test_neighbours_are_no_views_of_each_other():
    @tt.op
    def second(xp, x, y):
        return y

    second.rule("x", lambda xp, g, x_shape, x_dtype: xp.zeros(x_shape, x_dtype))
    second.rule("y", lambda g: g)
    p, q = nn.Parameter(tt.ones(2)), nn.Parameter(tt.zeros(2))
    step(optim.SGD([p, q], lr=1.0))
    assert together(p, q)
    q.grad = None
    loss = second(p, q).square().sum()
    with tt.no_grad():
        p += 5
    loss.backward()  # which q alone would have to be overwritten to stop
    assert np.array_equal(q.grad.numpy(), [-2, -2])


def test_memory_that_is_not_contiguous():
    values = np.arange(12.0).reshape(3, 4)
    p, q = nn.Parameter(tt.tensor(values).T), nn.Parameter(tt.tensor(values.T))
    view = p.array
    for x in (p, q):
        x.grad = tt.tensor(np.ones((4, 3)))
        optim.AdamW([x], lr=0.1).step()
    assert p.array is view and not view.flags.c_contiguous
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_updates_in_place_and_backward_notices():
    p = nn.Parameter(tt.ones(3))
    array = p.array
    y = (p * p).sum()
    p.grad = tt.ones(3)
    optim.SGD([p], lr=0.5).step()
    assert p.array is array and (p == 0.5).all() and (p.grad == 1).all()
    with pytest.raises(tt.errors.InPlaceError, match=r"but .*test_optim\.py:\d+ overwrote"):
        y.backward()


def test_gradients_are_only_read():
    for name, options in CASES:
        p = nn.Parameter(tt.ones(3))
        p.grad = tt.ones(3)
        p.grad.array.flags.writeable = False
        getattr(optim, name)([p], **options).step()
        assert (p.grad == 1).all()


def test_training_a_model_as_pytorch_does():
    x, y = np.random.default_rng(0).standard_normal((2, 20, 4))
    ours = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    ).double()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    a = optim.AdamW(ours.parameters(), lr=0.02)
    b = torch.optim.AdamW(theirs.parameters(), lr=0.02)
    for _ in range(STEPS):
        for lib, model, opt in ((tt, ours, a), (torch, theirs, b)):
            loss = lib.nn.functional.mse_loss(model(lib.tensor(x)), lib.tensor(y))
            opt.zero_grad(), loss.backward()
            lib.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
            opt.step()
    assert_close(ours.parameters(), theirs.parameters(), 1e-9)


def test_closure():
    p = nn.Parameter(tt.tensor([3.0]))
    opt = optim.SGD([p], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tt.no_grad():  # the closure runs with gradients all the same
        assert opt.step(closure).item() == 9
    assert np.isclose(p.item(), 3 - 0.1 * 6)


# ------------------------------------------------------------------------------ groups


def test_groups_have_their_own_settings():
    (a, b, c, d), theirs = start(np.float64)
    groups = lambda p: [{"params": p[:2], "weight_decay": 0.5}, {"params": p[2], "lr": 0.1}]
    opt = optim.AdamW(groups([a, b, c]), lr=0.01)
    expected = torch.optim.AdamW(groups(theirs[:3]), lr=0.01)
    opt.add_param_group({"params": [d], "betas": (0.5, 0.6)})
    expected.add_param_group({"params": [theirs[3]], "betas": (0.5, 0.6)})
    for i, grads in enumerate(gradients()):
        opt.param_groups[0]["lr"] = expected.param_groups[0]["lr"] = 0.01 / (i + 1)
        give([a, b, c, d], grads, tt.tensor), give(theirs, grads, torch.tensor)
        opt.step(), expected.step()
    assert_close([a, b, c, d], theirs)
    assert opt.param_groups[1]["weight_decay"] == 0.01
    assert repr(opt).count("Parameter Group") == 3


def test_zero_grad():
    p, q = nn.Parameter(tt.ones(2)), nn.Parameter(tt.ones(2))
    opt = optim.SGD([p, q])
    p.grad = tt.ones(2)
    opt.zero_grad(set_to_none=False)
    assert (p.grad == 0).all() and q.grad is None
    opt.zero_grad()
    assert p.grad is None


P = nn.Parameter(tt.ones(2))
MISTAKES = {
    "lr must be .* got -1": lambda: optim.SGD([P], lr=-1),
    "lr must be .* got nan": lambda: optim.AdamW([P], lr=math.nan),
    r"lr must be .* got tensor\(": lambda: optim.SGD([P], lr=tt.tensor(0.1)),
    "betas must be two": lambda: optim.Adam([P], betas=(0.9,)),
    "momentum must": lambda: optim.SGD([P], momentum=-0.1),
    "weight_decay must": lambda: optim.AdamW([{"params": [P], "weight_decay": -1}]),
    r"betas\[1\] must be in \[0, 1\), got 1.0": lambda: optim.Adam([P], betas=(0.9, 1.0)),
    "eps must": lambda: optim.RMSprop([P], eps=-1e-8),
    "alpha must": lambda: optim.RMSprop([P], alpha=-1),
    "nesterov needs": lambda: optim.SGD([P], nesterov=True),
    "pass model.parameters": lambda: optim.SGD(P),
    "no parameters": lambda: optim.SGD([]),
    r"group 0: params\[1\] is a float": lambda: optim.SGD([P, 3.0]),
    "only leaves": lambda: optim.SGD([P * 2]),
    r"params\[1\] \(2,\) is in group 0 already": lambda: optim.SGD([P, P]),
    "group 1: .* is in group 0": lambda: optim.SGD([{"params": [P]}, {"params": [P]}]),
    "must be a dict with 'params'": lambda: optim.SGD([P]).add_param_group({"lr": 1}),
    "no order": lambda: optim.SGD([{"params": {P}}]),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named(message):
    with pytest.raises(tt.errors.ArgumentError, match=message):
        MISTAKES[message]()


def test_a_refused_group_leaves_no_trace():
    opt = optim.SGD([P])
    with pytest.raises(ValueError):
        opt.add_param_group({"params": [nn.Parameter(tt.ones(1))], "lr": -1})
    assert len(opt.param_groups) == 1


# ------------------------------------------------------------------------------ state


def run(opt, params, grads):
    for g in grads:
        give(params, g, tt.tensor, params[0].array.dtype)
        opt.step()


def through_json(state):
    """As a checkpoint keeps it: arrays aside, the rest as JSON."""
    merged = {}
    for i, entries in state["state"].items():
        arrays = {k: v.numpy() for k, v in entries.items() if isinstance(v, tt.Tensor)}
        numbers = {k: v for k, v in entries.items() if k not in arrays}
        merged[i] = {**json.loads(json.dumps(numbers)), **arrays}
    return {"state": merged, "param_groups": json.loads(json.dumps(state["param_groups"]))}


@pytest.mark.parametrize(
    "name, options",
    [CASES[-1], ("SGD", {"momentum": 0.9, "dampening": 0.5}), ("AdamW", {"amsgrad": True}),
     ("SGD", {})],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("carry", [lambda s: s, copy.deepcopy, through_json,
                                   lambda s: pickle.loads(pickle.dumps(s))])  # fmt: skip
def test_resuming_is_bit_for_bit(name, options, carry):
    grads = list(gradients())
    params, _ = start(np.float32)
    opt = getattr(optim, name)(params, lr=0.02, **options)
    run(opt, params, grads[:20])
    state, again = carry(opt.state_dict()), copy.deepcopy(params)
    resumed = getattr(optim, name)(again, lr=1.0)
    resumed.load_state_dict(state)
    run(opt, params, grads[20:])  # first: it must not share the moments with the resumed one
    run(resumed, again, grads[20:])
    for p, q in zip(params, again):
        assert np.array_equal(p.array, q.array)
    kinds = {k: type(v) for k, v in resumed.param_groups[0].items()}
    assert kinds == {k: type(v) for k, v in opt.param_groups[0].items()}


@pytest.mark.parametrize("name, options", CASES[::5], ids=str)
def test_state_dict_is_laid_out_as_pytorchs_and_loads_from_it(name, options):
    ours, theirs = start(np.float64)
    a = getattr(optim, name)(ours, lr=0.01, **options)
    b = getattr(torch.optim, name)(theirs, lr=0.01, **options)
    *first, last = list(gradients(steps=9))
    for grads in first:
        give(ours, grads, tt.tensor), give(theirs, grads, torch.tensor)
        a.step(), b.step()
    mine, its = a.state_dict(), b.state_dict()
    assert mine["param_groups"][0]["params"] == its["param_groups"][0]["params"]
    assert set(mine["param_groups"][0]) <= set(its["param_groups"][0])
    for i, entries in its["state"].items():
        entries = {k: v for k, v in entries.items() if v is not None}
        assert set(mine["state"].get(i, {})) == set(entries)
        for key, value in entries.items():
            np.testing.assert_allclose(np.asarray(mine["state"][i][key]), value.numpy(), 1e-12)
    # the other way round: PyTorch's state into ours, and ours goes on as PyTorch's does
    its["state"] = {
        i: {k: None if v is None else v.numpy() for k, v in entries.items()}
        for i, entries in its["state"].items()
    }
    c = getattr(optim, name)(ours, lr=1.0)
    c.load_state_dict(its)
    give(ours, last, tt.tensor), give(theirs, last, torch.tensor)
    c.step(), b.step()
    assert_close(ours, theirs, 1e-11)


def test_state_dict_does_not_make_state():
    params, _ = start(np.float32)
    opt = optim.AdamW(params)
    assert opt.state_dict()["state"] == {}
    give(params, [np.ones((3, 4)), None, None, None], tt.tensor, np.float32)
    opt.step()
    assert set(opt.state_dict()["state"]) == {0}
    assert opt.state_dict()["state"][0]["step"] == 1


def test_loading_what_does_not_fit():
    params, _ = start(np.float32)
    opt = optim.AdamW(params)
    run(opt, params, list(gradients(steps=2)))
    state = copy.deepcopy(opt.state_dict())
    with pytest.raises(tt.errors.CheckpointError, match=r"groups of \[3\] .* of \[4\]"):
        optim.AdamW(params[:3]).load_state_dict(state)
    state["state"][0]["exp_avg"] = tt.zeros(4, 3)
    state["state"][9] = {"step": 1}
    before = opt.state_dict()
    with pytest.raises(tt.errors.CheckpointError) as error:
        opt.load_state_dict(state)
    assert str(error.value).splitlines()[1:] == [
        "  exp_avg of parameter 0 is (4, 3), the parameter (3, 4)",
        "  state of parameter 9: no group has it",
    ]
    assert opt.state_dict() == before  # the very same tensors


def test_state_follows_the_parameters_dtype():
    params, _ = start(np.float32)
    opt = optim.AdamW(params)
    run(opt, params, list(gradients(steps=2)))
    p = [nn.Parameter(x.detach().double()) for x in params]
    new = optim.AdamW(p)
    new.load_state_dict(opt.state_dict())
    assert new.state[p[0]]["exp_avg"].dtype == tt.float64
    run(new, p, list(gradients(steps=1)))


def test_a_subclass_says_only_the_formula():
    class SignSGD(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def update(self, xp, x, g, s, a, b):
            x -= s["lr"] * xp.sign(g)

    p = nn.Parameter(tt.zeros(3))
    p.grad = tt.tensor([-2.0, 0.0, 5.0])
    SignSGD([p]).step()
    assert np.allclose(p.array, [0.1, 0, -0.1])
    with pytest.raises(NotImplementedError, match="update"):
        optim.Optimizer([p], {}).step()
