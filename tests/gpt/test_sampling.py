"""From logits to a token: each cut against its definition, the draw against its probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from gpt import sampling
from gpt.errors import ConfigError, UserError
from gpt.sampling import Sampler, draw, pick, stream

LOGITS = st.lists(
    st.floats(-20, 20, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=2, max_size=40
).map(np.array)


def kept(logits: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


@given(LOGITS, st.integers(1, 50))
def test_top_k_keeps_k_and_what_ties_with_the_last(logits, k):
    k = min(k, len(logits))
    ranked = sorted(range(len(logits)), key=lambda i: -logits[i])
    expected = {i for i in ranked if logits[i] >= logits[ranked[k - 1]]}
    assert kept(sampling.top_k(logits, k)) == expected
    assert len(expected) >= k


@given(LOGITS, st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_nucleus(logits, p):
    chosen = kept(sampling.top_p(logits, p))
    probability = np.exp(logits) / np.exp(logits).sum()
    mass = sum(probability[i] for i in chosen)
    assert mass >= p - 1e-9
    assert int(np.argmax(logits)) in chosen
    least = min(logits[i] for i in chosen)
    assert chosen == {i for i in range(len(logits)) if logits[i] >= least}  # in order
    smaller = sum(probability[i] for i in chosen if logits[i] > least)
    assert smaller < p + 1e-9  # without the last of them it would not do


@given(LOGITS, st.floats(0.001, 1))
def test_min_p_is_a_share_of_the_largest(logits, share):
    probability = np.exp(logits - logits.max())  # over the largest
    chosen = kept(sampling.min_p(logits, share))
    assert {i for i, p in enumerate(probability) if p > share * (1 + 1e-9)} <= chosen
    assert chosen <= {i for i, p in enumerate(probability) if p > share * (1 - 1e-9)}


def test_the_penalty_counts_a_token_once_whatever_its_sign():
    logits = np.array([2.0, -2.0, 3.0, -1.0])
    out = sampling.penalize(logits, [0, 1, 1, 0, 0], 2.0)
    np.testing.assert_array_equal(out, [1.0, -4.0, 3.0, -1.0])
    np.testing.assert_array_equal(logits, [2.0, -2.0, 3.0, -1.0])


def test_cuts_follow_each_other_and_temperature():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    p = Sampler(top_k=3, top_p=0.7).probabilities  # of 4/9, 3/9, 2/9 the first two reach 0.7
    np.testing.assert_allclose(p(logits), [4 / 7, 3 / 7, 0, 0])
    cold = Sampler(temperature=0.5).probabilities(logits)
    np.testing.assert_allclose(cold, np.array([16, 9, 4, 1]) / 30)
    with_min = Sampler(temperature=0.5, min_p=0.5).probabilities(logits)
    np.testing.assert_allclose(with_min, [16 / 25, 9 / 25, 0, 0])


def test_draws_follow_the_probabilities():
    p = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    generator = stream(7, 0)
    counts = np.bincount([pick(p, draw(generator)) for _ in range(8_000)], minlength=5) / 8_000
    np.testing.assert_allclose(counts, p, atol=0.03)  # 5 standard errors
    assert counts[1] == 0


@given(LOGITS, st.floats(0, 1, exclude_max=True))
def test_no_draw_leaves_what_is_possible(logits, u):
    p = sampling.softmax(sampling.top_k(logits, 2))
    assert p[pick(p, u)] > 0
    assert p[pick(p, 1 - 2**-53)] > 0 and p[pick(p, 0.0)] > 0


def test_streams_are_stretches_of_the_seeds_numbers():
    one = stream(3, 5)
    numbers = [draw(one) for _ in range(4)]
    again = stream(3, 5)
    assert [draw(again) for _ in range(4)] == numbers
    streams = [stream(seed, i) for seed in range(10) for i in range(20)]
    assert len({draw(s) for s in streams for _ in range(3)}) == 600  # none comes twice
    # the same words on every device: NumPy's, and the definition in array operations
    words = tt.random.philox(np, stream(3, 5).reserve(1), 1)
    assert numbers[0] == float(words[0] >> np.uint64(11)) * 2.0**-53


def test_greedy_takes_the_first_of_the_likeliest():
    assert Sampler(temperature=0).choose(np.array([1.0, 3.0, 3.0]), [], stream(0, 0)) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_gone_wrong_is_named(temperature):
    with pytest.raises(UserError, match="not finite"):
        Sampler(temperature).choose(np.array([1.0, math.nan, 0.0]), [], stream(0, 0))


@pytest.mark.parametrize(
    "name, value",
    [("temperature", -0.1), ("temperature", math.nan), ("top_k", -1), ("top_k", 1.5),
     ("top_p", 0.0), ("top_p", 1.01), ("min_p", -0.1), ("min_p", 2.0), ("repetition_penalty", 0.0)],
)  # fmt: skip
def test_settings_out_of_bounds_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} = "):
        Sampler(**{name: value})
