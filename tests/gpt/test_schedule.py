"""Learning rates by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.config import OptimConfig
from gpt.schedule import learning_rate


def test_warmup_cosine_and_end():
    optim = OptimConfig(max_steps=2000, lr=1e-3, min_lr=1e-4, warmup_steps=100)
    rates = {step: learning_rate(step, optim) for step in (0, 49, 100, 1050, 1999, 2000, 9999)}
    assert rates[0] == pytest.approx(1e-3 / 101)
    assert rates[49] == pytest.approx(1e-3 * 50 / 101)
    assert rates[100] == 1e-3
    assert rates[1050] == pytest.approx((1e-3 + 1e-4) / 2)
    assert 1e-4 < rates[1999] < 1.00001e-4 + 1e-8
    assert rates[2000] == rates[9999] == pytest.approx(1e-4)


def test_a_cosine_of_its_own_length():
    """With decay_steps the rates do not depend on how long the run goes on."""
    short, long = (OptimConfig(max_steps=n, decay_steps=200) for n in (150, 900))
    assert [learning_rate(s, short) for s in range(900)] == [learning_rate(s, long)
                                                             for s in range(900)]  # fmt: skip
    assert learning_rate(200, long) == learning_rate(899, long) == long.min_lr


def test_constant_after_warmup():
    optim = OptimConfig(max_steps=10, lr=0.5, schedule="constant", warmup_steps=4, min_lr=0.1)
    assert [learning_rate(s, optim) for s in range(6)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]


@given(st.integers(0, 50), st.integers(1, 200), st.floats(1e-6, 1.0))
def test_rises_then_falls_and_stays_between(warmup, after, lr):
    optim = OptimConfig(max_steps=warmup + after, lr=lr, min_lr=lr / 10, warmup_steps=warmup)
    rates = [learning_rate(step, optim) for step in range(optim.max_steps + 1)]
    assert max(rates) == pytest.approx(lr) and min(rates[warmup:]) == pytest.approx(lr / 10)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
