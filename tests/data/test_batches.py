"""Batches: the right windows, all of them equally often, the same ones at every visit."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Batches, DataError, split
from data.batches import sweep
from data.permutation import ROUNDS, permute
from data.shards import Tokens

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


def in_documents(sizes: list[int]) -> Tokens:
    """A token is its own position; documents of these sizes."""
    ids = np.arange(sum(sizes), dtype=np.uint16)
    parts = np.split(ids, [len(ids) // 3])
    return Tokens(parts, documents=np.cumsum([0, *sizes[:-1]]))


@given(n=st.integers(1, 2000), seed=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(n, seed):
    key = np.random.Philox(key=seed).random_raw(ROUNDS)
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


def test_permute_at_the_size_of_openwebtext():
    n, key = 9_035_582_198, np.random.Philox(key=1).random_raw(ROUNDS)
    index = np.r_[np.arange(50_000), n - 1 - np.arange(50_000)]
    out = permute(index, n, key)
    assert len(set(out.tolist())) == len(index) and out.min() >= 0 and out.max() < n
    assert abs(np.mean(out / n) - 0.5) < 0.005 and abs(np.corrcoef(index, out)[0, 1]) < 0.02


def test_permutations_are_all_equally_likely():
    """The 120 orders of 5 things over 6,000 keys; chi-squared, 119 degrees of freedom."""
    seen = Counter(tuple(permute(np.arange(5), 5, np.random.Philox(key=k).random_raw(ROUNDS)))
                   for k in range(6_000))  # fmt: skip
    assert len(seen) == 120
    assert sum((count - 50) ** 2 / 50 for count in seen.values()) < 185  # by chance: P < 1e-4


@given(
    n=st.integers(2, 200), block=st.integers(1, 30), batch=st.integers(1, 7),
    world=st.integers(1, 3), seed=st.integers(0, 99), epoch=st.integers(0, 3),
)  # fmt: skip
def test_an_epoch_is_every_window_once(n, block, batch, world, seed, epoch):
    block = min(block, n - 1)
    ranks = [Batches(np.arange(n), block, batch, seed, epochs=True, rank=r, world_size=world)
             for r in range(world)]  # fmt: skip
    count, together = ranks[0].count, batch * world
    assert count == (n - 1) // block
    begin, end = epoch * count, (epoch + 1) * count
    seen = [int(x) for step in range(begin // together, -(-end // together))
            for x in np.stack([r.starts(step) for r in ranks], 1).ravel()]  # fmt: skip
    skip = begin % together
    seen = sorted(seen[skip : skip + count])
    shift = seen[0]
    assert seen == [shift + block * i for i in range(count)]
    assert 0 <= shift and seen[-1] + block < n


def test_epochs_differ_and_are_pinned_so_that_old_runs_resume():
    batches = Batches(TOKENS, 8, 124, epochs=True)
    assert batches.count == 124
    orders = [batches.starts(step).tolist() for step in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert orders[0][:4] == [956, 196, 452, 140]
    assert batches.starts(2**62).max() < 1000


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), block=st.integers(1, 20),
       seed=st.integers(0, 9), epochs=st.booleans())  # fmt: skip
def test_windows_start_at_documents(sizes, block, seed, epochs):
    tokens = in_documents(sizes)
    begins = [b for b in tokens.documents.tolist() if b + block < len(tokens)]
    if not begins:
        return
    batches = Batches(tokens, block, 40, seed, documents="start", epochs=epochs)
    x, y = batches.batch(0)
    assert set(x[:, 0].tolist()) <= set(begins) and (y == x + 1).all()
    if epochs:
        assert sorted(x[: len(begins), 0].tolist()) == begins[:40]


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), block=st.integers(1, 20),
       seed=st.integers(0, 9))  # fmt: skip
def test_windows_within_documents(sizes, block, seed):
    """Each target lies in the document that its window begins in; an epoch asks for every one."""
    tokens = in_documents(sizes)
    if len(tokens) <= block or max(sizes) < 2:
        return
    batches = Batches(tokens, block, 1, seed, documents="within", epochs=True)
    assert batches.count == sum(-(-(size - 1) // block) for size in sizes)
    document = np.repeat(np.arange(len(sizes)), sizes)
    asked = set()
    for step in range(batches.count):
        (x,), (y,) = batches.batch(step)
        kept = y >= 0
        assert kept[0] and (np.diff(kept.astype(int)) <= 0).all()  # what is ignored is at the end
        assert (y[kept] == x[kept] + 1).all() and len(set(document[y[kept]])) == 1
        assert document[x[0]] == document[y[0]] and x.min() >= 0
        asked |= set(y[kept].tolist())
    first = set(tokens.documents.tolist())
    assert asked == set(range(len(tokens))) - first
    assert (Batches(tokens, block, 9, seed, documents="within").batch(3)[1][:, 0] >= 0).all()


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), block=st.integers(1, 20),
       step=st.integers(0, 9))  # fmt: skip
def test_document_ids_keep_attention_within_documents(sizes, block, step):
    tokens = in_documents(sizes)
    if len(tokens) <= block:
        return
    batches = Batches(tokens, block, 5)
    ids, (x, _) = batches.document_ids(step), batches.batch(step)
    document = np.repeat(np.arange(len(sizes)), sizes)[x]
    assert (ids == document - document[:, :1]).all()


@pytest.mark.parametrize("documents", ["start", "within"])
def test_documents_must_be_known(documents):
    with pytest.raises(DataError, match="not recorded where the documents .* begin"):
        Batches(TOKENS, 8, 4, documents=documents)


def test_no_document_fits():
    with pytest.raises(DataError, match="no document of the text is followed by --block-size 5"):
        Batches(Tokens([TOKENS[:6]], documents=np.array([1])), 5, 1, documents="start")
    with pytest.raises(DataError, match="no document of the text has two tokens"):
        Batches(in_documents([1] * 9), 4, 1, documents="within")
    with pytest.raises(DataError, match="documents is 'none'"):
        Batches(TOKENS, 4, 1, documents="none")


@given(n=st.integers(2, 90), block=st.integers(1, 100), batch=st.integers(1, 5),
       world=st.integers(1, 3))  # fmt: skip
def test_a_sweep_asks_for_every_token_once(n, block, batch, world):
    asked, lengths = [], set()
    for rank in range(world):
        found = list(sweep(np.arange(n), block, batch, rank=rank, world_size=world))
        lengths.add(len(found))
        for x, y in found:
            assert x.shape == y.shape and len(x) <= batch and x.shape[1] == min(block, n - 1)
            assert (y[y >= 0] == x[y >= 0] + 1).all()
            asked += y[y >= 0].tolist()
    assert sorted(asked) == list(range(1, n)) and len(lengths) == 1


def test_nothing_to_sweep():
    with pytest.raises(DataError, match="1 tokens leave nothing to predict"):
        next(sweep(np.arange(1), 4, 1))
