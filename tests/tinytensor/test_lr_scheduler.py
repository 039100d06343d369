"""Learning rate schedules, step by step against torch.optim.lr_scheduler."""

import json
import math
import warnings

import numpy as np
import pytest
import torch

import tinytensor as tt
from tinytensor import nn, optim
from tinytensor.optim import lr_scheduler as ours_module

theirs_module = torch.optim.lr_scheduler


def groups(make):
    return [{"params": [make()]}, {"params": [make()], "lr": 0.5}]


def pair(name="SGD", **options):
    a = getattr(optim, name)(groups(lambda: nn.Parameter(tt.ones(1))), lr=0.1, **options)
    b = getattr(torch.optim, name)(
        groups(lambda: torch.nn.Parameter(torch.ones(1))), lr=0.1, **options
    )
    return a, b


def warm_up_then_cosine(lib, opt):
    return lib.SequentialLR(
        opt,
        [lib.LinearLR(opt, 0.01, total_iters=5), lib.CosineAnnealingLR(opt, 20, eta_min=0.01)],
        milestones=[5],
    )


SCHEDULES = {
    "lambda": lambda lib, opt: lib.LambdaLR(opt, lambda t: 0.95**t),
    "lambdas": lambda lib, opt: lib.LambdaLR(opt, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "cosine": lambda lib, opt: lib.CosineAnnealingLR(opt, T_max=10),
    "cosine, eta_min": lambda lib, opt: lib.CosineAnnealingLR(opt, T_max=7, eta_min=0.02),
    "linear": lambda lib, opt: lib.LinearLR(opt),
    "linear down": lambda lib, opt: lib.LinearLR(opt, 1.0, 0.1, 20),
    "constant": lambda lib, opt: lib.ConstantLR(opt, 0.5, 4),
    "step": lambda lib, opt: lib.StepLR(opt, 7, 0.3),
    "sequential": warm_up_then_cosine,
    "sequential of three": lambda lib, opt: lib.SequentialLR(
        opt,
        [lib.ConstantLR(opt, 0.1, 100), lib.LinearLR(opt, 0.5, 1.0, 4), lib.StepLR(opt, 3)],
        milestones=[3, 12],
    ),
    "one cycle": lambda lib, opt: lib.OneCycleLR(opt, 1.0, total_steps=40),
    "one cycle, linear": lambda lib, opt: lib.OneCycleLR(
        opt, [1.0, 2.0], epochs=4, steps_per_epoch=10, anneal_strategy="linear", pct_start=0.5
    ),
    "one cycle, three phases": lambda lib, opt: lib.OneCycleLR(
        opt, 1.0, total_steps=40, three_phase=True, div_factor=10.0, final_div_factor=100.0
    ),
    "one cycle, no momentum": lambda lib, opt: lib.OneCycleLR(
        opt, 1.0, total_steps=40, cycle_momentum=False
    ),
    "one cycle, only down": lambda lib, opt: lib.OneCycleLR(
        opt, 1.0, total_steps=40, pct_start=0.0
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("optimizer", [("SGD", {"momentum": 0.9}), ("AdamW", {})], ids=str)
def test_schedule(name, optimizer):
    a, b = pair(optimizer[0], **optimizer[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's remarks on the order of calls
        ours, theirs = SCHEDULES[name](ours_module, a), SCHEDULES[name](theirs_module, b)
        for _ in range(40):
            np.testing.assert_allclose(ours.get_last_lr(), theirs.get_last_lr(), 1e-12, 1e-16)
            for x, y in zip(a.param_groups, b.param_groups):
                assert x["lr"] == pytest.approx(y["lr"], rel=1e-12, abs=1e-16)
                for key in {"momentum", "betas"} & x.keys():
                    assert x[key] == pytest.approx(y[key], rel=1e-12)
            a.step(), ours.step(), b.step(), theirs.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dict_goes_on_where_it_was(name):
    a, _ = pair(momentum=0.9)
    scheduler = SCHEDULES[name](ours_module, a)
    for _ in range(9):
        scheduler.step()
    state = json.loads(json.dumps(scheduler.state_dict()))
    b, _ = pair(momentum=0.9)
    again = SCHEDULES[name](ours_module, b)
    b.load_state_dict(a.state_dict())
    again.load_state_dict(state)
    assert again.get_last_lr() == scheduler.get_last_lr()
    for _ in range(20):
        scheduler.step(), again.step()
        assert again.get_last_lr() == scheduler.get_last_lr()
        assert [g["lr"] for g in b.param_groups] == [g["lr"] for g in a.param_groups]


def test_last_epoch_goes_on_with_a_scheduled_optimizer():
    a, _ = pair()
    first = ours_module.CosineAnnealingLR(a, 10)
    for _ in range(4):
        first.step()
    second = ours_module.CosineAnnealingLR(a, 10, last_epoch=first.last_epoch)
    first.step()
    assert second.get_last_lr() == first.get_last_lr()
    with pytest.raises(ValueError, match="no 'initial_lr'"):
        ours_module.CosineAnnealingLR(pair()[0], 10, last_epoch=4)


def test_a_subclass_says_get_lr():
    class InverseSqrt(ours_module.LRScheduler):
        def get_lr(self):
            return [base / math.sqrt(1 + self.last_epoch) for base in self.base_lrs]

    a, _ = pair()
    scheduler = InverseSqrt(a)
    for _ in range(3):
        scheduler.step()
    assert [g["lr"] for g in a.param_groups] == [0.05, 0.25]
    with pytest.raises(NotImplementedError, match="get_lr"):
        ours_module.LRScheduler(a)


MISTAKES = {
    "2 functions|1 functions": lambda s, a: s.LambdaLR(a, [lambda t: 1]),
    "T_max must be positive, got 0": lambda s, a: s.CosineAnnealingLR(a, 0),
    "start_factor must": lambda s, a: s.LinearLR(a, 0.0),
    "end_factor must be between": lambda s, a: s.LinearLR(a, 0.5, 2.0),
    "step_size must": lambda s, a: s.StepLR(a, 0),
    "2 schedulers change 1 times": lambda s, a: s.SequentialLR(
        a, [s.StepLR(a, 1), s.StepLR(a, 2)], []
    ),
    "milestones must ascend": lambda s, a: s.SequentialLR(a, [s.StepLR(a, 1)] * 3, [5, 3]),
    r"schedulers\[0\] belongs to another": lambda s, a: s.SequentialLR(
        a, [s.StepLR(pair()[0], 1)], []
    ),
    "needs total_steps": lambda s, a: s.OneCycleLR(a, 1.0),
    "pct_start must": lambda s, a: s.OneCycleLR(a, 1.0, 10, pct_start=2),
    "anneal_strategy must": lambda s, a: s.OneCycleLR(a, 1.0, 10, anneal_strategy="step"),
    "3 values for 2 groups": lambda s, a: s.OneCycleLR(a, [1.0] * 3, 10),
    "must be an Optimizer": lambda s, a: s.StepLR(3, 1),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named(message):
    with pytest.raises(tt.errors.ArgumentError, match=message):
        MISTAKES[message](ours_module, pair()[0])


def test_one_cycle_ends():
    a, _ = pair(momentum=0.9)
    scheduler = ours_module.OneCycleLR(a, 1.0, total_steps=3)
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match="made for 3 steps, this is step 4"):
        scheduler.step()
