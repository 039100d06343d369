"""Batches: the right windows, all of them equally often, the same ones at every visit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Batches, DataError, split

TOKENS = np.arange(1000, dtype=np.uint16)  # a token is its own position: windows name their start


@given(
    n=st.integers(2, 60),
    block=st.integers(1, 59),
    batch=st.integers(1, 9),
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 2**63),
    dtype=st.sampled_from([np.uint8, np.uint16, np.uint32, np.int64]),
)
def test_windows_and_their_successors(n, block, batch, seed, step, dtype):
    block = min(block, n - 1)
    batches = Batches(np.arange(n, dtype=dtype), block, batch, seed)
    x, y = batches.batch(step)
    assert x.shape == y.shape == (batch, block) and x.dtype == y.dtype == np.int64
    assert x.flags.c_contiguous and y.flags.c_contiguous
    assert 0 <= x.min() and y.max() < n
    assert (x == x[:, :1] + np.arange(block)).all() and (y == x + 1).all()


def test_every_start_is_drawn_and_equally_often():
    """The first and the last valid start are included; chi-squared, 7 degrees of freedom."""
    batches = Batches(np.arange(12), block_size=4, batch_size=1000, seed=0)
    counts = np.bincount(np.concatenate([batches.batch(step)[0][:, 0] for step in range(80)]))
    assert len(counts) == 8
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 30  # beyond it by chance: P < 1e-4


def test_the_only_window_of_a_shortest_text():
    x, y = Batches(np.arange(5), 4, 3).batch(7)
    assert (x == [0, 1, 2, 3]).all() and (y == [1, 2, 3, 4]).all()


def test_a_pure_function_of_seed_and_step():
    one, two = Batches(TOKENS, 8, 4, seed=5), Batches(TOKENS, 8, 4, seed=5)
    late = two.batch(1000)
    for step in (0, 1, 999):
        assert (one.batch(step)[0] == two.batch(step)[0]).all()
    assert (one.batch(1000)[0] == late[0]).all()


def test_pinned_so_that_old_runs_resume():
    """Raw Philox output is stable across NumPy versions and platforms; so are these."""
    assert Batches(TOKENS, 8, 4, seed=1337).starts(3).tolist() == [115, 127, 117, 101]


def test_seeds_steps_streams_differ():
    draws = {
        tuple(Batches(TOKENS, 8, 6, seed, stream=stream).starts(step))
        for seed in (0, 1, 2**40) for stream in ("train", "eval") for step in (0, 1, 2**32, 2**63)
    }
    assert len(draws) == 24


@given(world=st.integers(1, 6), batch=st.integers(1, 5), step=st.integers(0, 99))
def test_ranks_share_the_batch_of_one_process(world, batch, step):
    whole = Batches(TOKENS, 8, world * batch).batch(step)[0]
    for rank in range(world):
        part = Batches(TOKENS, 8, batch, rank=rank, world_size=world).batch(step)[0]
        assert (part == whole[rank::world]).all()


def test_a_memory_map_is_not_read_whole(tmp_path):
    TOKENS.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", dtype=np.uint16, mode="r")
    batches = Batches(mapped, 8, 4)
    assert np.shares_memory(batches.tokens, mapped)
    assert (batches.batch(3)[0] == Batches(TOKENS, 8, 4).batch(3)[0]).all()


def test_batches_do_not_alias_the_text():
    tokens = np.arange(50)
    x, y = Batches(tokens, 4, 2).batch(0)
    x[:], y[:] = -1, -1
    assert (tokens == np.arange(50)).all()


def test_too_short_a_text_names_both_numbers_and_the_flag():
    with pytest.raises(DataError) as error:
        Batches(np.arange(64), 64, 4, name="the validation part")
    message = str(error.value)
    assert message.startswith("the validation part has 64 tokens") and "at least 65" in message
    assert "--block-size 63 or less" in message
    Batches(np.arange(65), 64, 4)


@pytest.mark.parametrize("n", [0, 1])
def test_no_window_at_all(n):
    with pytest.raises(DataError, match="needs at least 2 .*: use more text$"):
        Batches(np.arange(n), 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_size": 0}, "--block-size is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 2**64}, "--seed is"),
        ({"stream": "test"}, "stream is 'test'"),
        ({"rank": 1}, "rank is 1"),
        ({"tokens": np.zeros(99)}, "dtype float64"),
        ({"tokens": np.zeros((9, 9), int)}, r"shape \(9, 9\)"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(DataError, match=message):
        Batches(**({"tokens": TOKENS, "block_size": 4, "batch_size": 2} | change))


@given(n=st.integers(0, 500), fraction=st.floats(0, 1))
def test_split_loses_nothing_and_keeps_the_order(n, fraction):
    train, val = split(np.arange(n), fraction)
    assert np.concatenate([train, val]).tolist() == list(range(n))
    assert abs(len(val) - n * fraction) <= 1


def test_split_is_exact_where_floats_are_not():
    assert [len(split("x" * 10, f)[0]) for f in (0.9, 0.7, 0.1)] == [1, 3, 9]
    assert [len(part) for part in split("x" * 1_115_394, 0.1)] == [1_003_854, 111_540]  # nanoGPT's
    with pytest.raises(DataError, match="val_fraction is 1.5"):
        split("abc", 1.5)
