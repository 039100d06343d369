"""Shards: several files as one sequence, opened at once whatever their size, and never misread."""

import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Batches, DataError
from data.shards import DTYPES, LAYOUT, Header, Tokens, open_bin

SHA = "ab" * 32


def write(path, ids, itemsize=2, count=None, sha=SHA):
    header = Header(DTYPES[itemsize], len(ids) if count is None else count, sha)
    path.write_bytes(header.pack() + np.asarray(ids).astype(DTYPES[itemsize]).tobytes())
    return path


@given(sizes=st.lists(st.integers(0, 9), max_size=6), cut=st.tuples(*[st.integers(-60, 60)] * 2))
def test_parts_are_one_sequence(sizes, cut):
    whole = np.arange(sum(sizes), dtype=np.uint16)
    tokens = Tokens(np.split(whole, np.cumsum(sizes)[:-1]) if sizes else [])
    assert len(tokens) == len(whole) and tokens.shape == whole.shape
    assert tokens.dtype == np.uint16 and tokens[slice(*cut)].dtype == np.uint16
    assert (tokens[slice(*cut)] == whole[slice(*cut)]).all()
    assert (np.asarray(tokens) == whole).all()
    assert [int(tokens[i]) for i in range(-len(whole), len(whole))] == [*whole, *whole]
    for i in (len(whole), -len(whole) - 1):
        with pytest.raises(IndexError):
            tokens[i]


@pytest.mark.parametrize("itemsize", [1, 2, 4])
def test_shards_hold_what_was_written(tmp_path, itemsize):
    ids = np.arange(250) if itemsize == 1 else np.arange(250) * 256 ** (itemsize - 1)
    paths = [write(tmp_path / str(i), part, itemsize) for i, part in enumerate(np.split(ids, 5))]
    index = write(tmp_path / "index", [0, 7, 200], 8)
    tokens = Tokens.open(paths, tokenizer=SHA, index=index)
    assert tokens.dtype.itemsize == itemsize and (tokens[:] == ids).all()
    assert tokens.documents.tolist() == [0, 7, 200]
    x, y = Batches(tokens, 60, 64).batch(0)  # windows span two shards or three
    assert (np.diff(np.searchsorted(ids, x)) == 1).all() and (y[:, :-1] == x[:, 1:]).all()
    assert (x == Batches(ids, 60, 64).batch(0)[0]).all()


def test_the_layout_is_pinned(tmp_path):
    raw = write(tmp_path / "s", [1, 50256]).read_bytes()
    assert raw.hex() == (b"TTTOKENS".hex() + "01000000" + "02000000" + "0200000000000000"
                         + SHA + "00" * 8 + "0100" + "50c4")  # fmt: skip
    assert LAYOUT.size == 64


def test_an_empty_shard(tmp_path):
    assert len(Tokens.open([write(tmp_path / "s", [])])) == 0
    assert len(Tokens.open([])) == 0


def newer(raw):
    return raw[:8] + b"\2" + raw[9:]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: b"", "is not a token shard"),
        (lambda raw: b"PK\3\4" + raw, "is not a token shard: .* open_bin"),
        (lambda raw: raw[:30], "is cut short: its header alone has 64 bytes"),
        (lambda raw: raw[:-1], "counts 100 tokens, which makes 264 bytes; it has 263"),
        (lambda raw: raw + b"\0", "it has 265"),
        (lambda raw: raw[:16] + bytes(8) + raw[24:], "unfinished or damaged: its header counts 0"),
        (newer, "has version 2, and this program reads up to 1: it was written by a newer one"),
        (lambda raw: raw[:12] + b"\3" + raw[13:], "is damaged: version 1, 3 bytes per token"),
        (lambda raw: raw[:24] + b"\0" + raw[25:], "was made with tokenizer 00abab.*, not with"),
    ],
)
def test_what_is_no_shard_is_named(tmp_path, spoil, message):
    path = write(tmp_path / "s", np.arange(100))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        Tokens.open([path], tokenizer=SHA)
    assert str(path) in str(error.value)


def test_a_missing_shard_and_two_kinds_in_one(tmp_path):
    with pytest.raises(DataError, match="no-such cannot be read: No such file"):
        Tokens.open([tmp_path / "no-such"])
    with pytest.raises(DataError, match="b holds uint32, not"):
        Tokens.open([write(tmp_path / "a", [1]), write(tmp_path / "b", [1], 4)])
    with pytest.raises(DataError, match="i holds int64, not"):
        Tokens.open([write(tmp_path / "i", [1], 8)])


def test_ids_beyond_the_vocabulary_are_named_where_they_are(tmp_path):
    paths = [write(tmp_path / "a", np.arange(50)), write(tmp_path / "b", [3, 4, 99, 5])]
    tokens = Tokens.open(paths, vocab_size=99)
    tokens.windows(np.array([0, 10]), 42)
    for read in (tokens.verify, lambda: tokens.windows(np.array([0, 30]), 24)):
        with pytest.raises(DataError, match="b: token 52 is 99, and the vocabulary has 99"):
            read()
    Tokens.open(paths, vocab_size=100).verify()


def test_nanogpts_headerless_files(tmp_path):
    path = tmp_path / "train.bin"
    np.arange(9, dtype="<u2").tofile(path)
    assert (open_bin(path)[:] == np.arange(9)).all()
    path.write_bytes(b"odd")
    with pytest.raises(DataError, match="has 3 bytes, which is no whole number of uint16"):
        open_bin(path)
    write(path, [1])
    with pytest.raises(DataError, match="is a shard with a header"):
        open_bin(path)
    path.write_bytes(b"")
    assert len(open_bin(path)) == 0


def test_nine_billion_tokens_as_easily_as_one(tmp_path):
    """The size of OpenWebText, as a sparse file of 18 GB: what is not read costs nothing."""
    n = 9_035_582_198
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(Header(DTYPES[2], n, SHA).pack())
        file.seek(LAYOUT.size + 2 * (n - 1))
        file.write(b"\x07\x00")
    tokens = Tokens.open([path], vocab_size=50257)
    assert len(tokens) == n and tokens[-1] == 7
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for epochs in (False, True):
        batches = Batches(tokens, 1024, 12, epochs=epochs)
        starts = np.concatenate([batches.starts(step) for step in range(200)])
        assert starts.max() > 2**32 and len(set(starts.tolist())) == 2400
        for step in range(200):
            batches.batch(step)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB; it has 18 GB
