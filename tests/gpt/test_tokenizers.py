"""Every tokenizer, by one set of rules: text comes back, streams and workers change no id."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from texts import NASTY, any_text

from gpt import tokenizers
from gpt.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    StreamDecoder,
    TokenizerError,
    WordTokenizer,
    parallel,
)

CORPUS = (
    NASTY + "the cat sat on the mat, the cats' hat; don't we'll WE'LL  1234567 naïve 日本語\n" * 9
)
KINDS = {
    "char": CharTokenizer.train(CORPUS, unk="\ufffd"),
    "word": WordTokenizer.train(CORPUS, vocab_size=290),
    "byte": ByteTokenizer(),
    "bpe-gpt2": BPETokenizer.train(CORPUS, 320),
    "bpe-gpt4": BPETokenizer.train(CORPUS, 320, "gpt4", ["<|endoftext|>", "<|end|>", "<|end"]),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
lossless = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "char"])


@lossless
@example(text=NASTY)
@example(text="\ud83d\ude00 \udfff\ud800")  # two surrogates that must not become one emoji
@example(text="\ue000\uffff\U0010ffff\x00")
@given(text=any_text)
def test_text_comes_back(kind, text):
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist(), errors="strict") == text
    assert b"".join(tokenizer.token_bytes[i] for i in ids) == text.encode("utf-8", "surrogatepass")
    assert tokenizer.end_of_text not in ids


def test_text_of_known_characters_comes_back():
    assert KINDS["char"].decode(KINDS["char"].encode(NASTY)) == NASTY


@every_kind
def test_ids_and_dtype(kind):
    tokenizer = KINDS[kind]
    assert len(tokenizer.token_bytes) == tokenizer.vocab_size
    for ids in (tokenizer.encode(NASTY), tokenizer.encode(""), tokenizer.encode("x")):
        assert ids.dtype == tokenizer.dtype == np.min_scalar_type(tokenizer.vocab_size - 1)
        assert ids.ndim == 1
    assert tokenizer.end_of_text == (
        None if kind == "char" else tokenizer.special_tokens["<|endoftext|>"]
    )


@every_kind
def test_save_load_pickle(kind, tmp_path):
    tokenizer = KINDS[kind]
    tokenizer.encode(NASTY)  # what is remembered is not part of it
    tokenizer.save(tmp_path / "t.json")
    for again in (
        tokenizers.load(tmp_path / "t.json"),
        tokenizers.get(tmp_path / "t.json"),
        type(tokenizer).load(tmp_path / "t.json"),
        tokenizers.from_dict(tokenizer.to_dict()),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert type(again) is type(tokenizer) and again.hash == tokenizer.hash
        assert again.special_tokens == tokenizer.special_tokens
        assert again.encode(NASTY).tolist() == tokenizer.encode(NASTY).tolist()
    assert len({kind.hash for kind in KINDS.values()}) == len(KINDS)
    other = WordTokenizer if kind == "byte" else ByteTokenizer
    with pytest.raises(TokenizerError, match=f"holds a {tokenizer.type} tokenizer, not a"):
        other.load(tmp_path / "t.json")


# Text that likes to be cut badly: contractions, digits by threes, ends of lines, special tokens.
tricky = st.lists(
    st.sampled_from(["'", "l", "L", "s", "re", " ", "  ", "\n", "\r\n", "\t", "1", "23", ".", "!?",
                     "é", "e\u0301", "日", "\u200d", "_", "²", "ſ", "\ud83d", "<|", "<|end",
                     "<|end|>", "<|endoftext|>", "|>", "\u00a0", "\x1c"])
).map("".join)  # fmt: skip


@every_kind
@given(text=tricky | any_text, cuts=st.lists(st.integers(0, 60)), data=st.data())
def test_a_stream_gives_the_ids_of_the_whole(kind, text, cuts, data):
    tokenizer = KINDS[kind]
    allowed = data.draw(st.sampled_from([(), "all", *([t] for t in tokenizer.special_tokens)]))
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in zip(bounds, bounds[1:])]
    whole = tokenizer.encode(text, allowed).tolist()
    part, parallel.PART = parallel.PART, data.draw(st.integers(1, 9))
    try:
        stream = list(tokenizer.encode_stream(chunks, allowed))
    finally:
        parallel.PART = part
    assert all(ids.dtype == tokenizer.dtype for ids in stream)
    assert [id for ids in stream for id in ids.tolist()] == whole


@pytest.mark.parametrize("part", range(1, 40))
def test_a_stream_is_cut_in_no_special_token(part, monkeypatch):
    """Not even where its text could be cut, after its last letter."""
    monkeypatch.setattr(parallel, "PART", part)
    for tokenizer in (KINDS["word"], KINDS["byte"], KINDS["bpe-gpt4"]):
        for text in ("a.b<|endoftext|>" + "c" * 30, "<|end|" * 9 + "<|end|>c" + "." * 30):
            stream = np.concatenate([*tokenizer.encode_stream([text], "all")])
            assert stream.tolist() == tokenizer.encode(text, "all").tolist()


@every_kind
def test_a_stream_is_cut_where_it_can_be(kind):
    """Memory stays constant: nearly everything is given before the text ends."""
    read = encoded = held = 0

    def chunks():
        nonlocal read, held
        for _ in range(40):
            read += 44_000
            held = max(held, read - encoded)
            yield "some words, and more. " * 2000

    for ids in KINDS[kind].encode_stream(chunks()):
        encoded += len(KINDS[kind].decode(ids))
    assert encoded == read == 40 * 44_000 and held < 2 * parallel.PART


@every_kind
def test_workers_change_no_id(kind):
    tokenizer = KINDS[kind]
    text = (CORPUS + "<|endoftext|>") * 1200
    assert len(text) > 2 * parallel.PART
    whole = tokenizer.encode(text, "all")
    assert (tokenizer.encode(text, "all", workers=2) == whole).all()
    assert (whole == tokenizer.end_of_text).sum() == (0 if kind == "char" else 2400)  # one is nasty
    texts = ["one", "", "two <|endoftext|>", NASTY]
    for ids, text in zip(tokenizer.encode_batch(texts, workers=2), texts, strict=True):
        assert ids.dtype == tokenizer.dtype
        assert ids.tolist() == tokenizer.encode(text).tolist()


@lossless
def test_special_tokens_are_text_unless_allowed(kind):
    tokenizer = KINDS[kind]
    text = "a<|endoftext|>b"
    assert tokenizer.end_of_text not in tokenizer.encode(text)
    ids = tokenizer.encode(text, allowed_special=["<|endoftext|>"]).tolist()
    assert ids == [*tokenizer.encode("a"), tokenizer.end_of_text, *tokenizer.encode("b")]
    assert tokenizer.decode(ids) == text
    with pytest.raises(TokenizerError, match=r"'<\|eot\|>', which is no special token"):
        tokenizer.encode(text, allowed_special=["<|eot|>"])


def test_the_longest_special_token_wins():
    tokenizer = KINDS["bpe-gpt4"]
    special = tokenizer.special_tokens
    assert tokenizer.encode("<|end|><|end<|endoftext|>", "all").tolist() == [
        special["<|end|>"], special["<|end"], special["<|endoftext|>"]]  # fmt: skip


@every_kind
@pytest.mark.parametrize("ids", [[100_000], [-1], np.array([0, 9999]), [0.5], ["a"]])
def test_ids_out_of_range_or_of_the_wrong_kind(kind, ids):
    for decode in (KINDS[kind].decode, StreamDecoder(KINDS[kind]).feed):
        with pytest.raises(TokenizerError, match="outside the vocabulary of|must be integers"):
            decode(ids)


# Streams of text that a model might write.


@lossless
@given(data=st.data())
def test_text_as_it_is_written(kind, data):
    tokenizer = KINDS[kind]
    any_ids = st.lists(st.integers(0, tokenizer.vocab_size - 1))  # bytes of no character, too
    encoded = (any_text | st.sampled_from([NASTY])).map(lambda s: tokenizer.encode(s).tolist())
    ids = data.draw(any_ids | encoded)
    decoder = StreamDecoder(tokenizer)
    text = ""
    for i, id in enumerate(ids):
        text += decoder.feed(id)
        so_far = tokenizer.decode(ids[: i + 1])
        assert so_far.startswith(text) and len(so_far) - len(text) <= 3  # bytes of one character
    assert text + decoder.flush() == tokenizer.decode(ids)
    assert decoder.flush() == ""


def test_a_character_appears_when_its_last_byte_has_come():
    decoder = StreamDecoder(ByteTokenizer())
    assert [decoder.feed(byte) for byte in "a€😀".encode()] == ["a", "", "", "€", "", "", "", "😀"]
    assert decoder.feed(list("€".encode())[:2]) == "" and decoder.flush() == "\ufffd"
    with pytest.raises(TokenizerError, match="byte 0 .0xe2. is not UTF-8"):
        strict = StreamDecoder(ByteTokenizer(), errors="strict")
        strict.feed(0xE2)
        strict.flush()


def test_bytes_that_are_no_text():
    byte = ByteTokenizer()
    assert byte.decode([0x61, 0xE2, 0x82, 0x62]) == "a\ufffdb"
    assert byte.decode([0x61, 0xE2, 0x82, 0x62], errors="ignore") == "ab"
    with pytest.raises(TokenizerError, match="byte 1 .0xe2. is not UTF-8"):
        byte.decode([0x61, 0xE2, 0x82, 0x62], errors="strict")
    with pytest.raises(TokenizerError, match="errors is 'backslash'"):
        byte.decode([0xE2], errors="backslash")


@given(st.binary() | st.lists(st.sampled_from(b"a\xe2\x82\xac\xed\xa0\x80\xbf\xf0\x9f")).map(bytes))
def test_stray_bytes_are_replaced_as_python_replaces_them(data):
    text = ByteTokenizer().decode(list(data))
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert text == data.decode(errors="replace")
    else:  # what Python would call three stray bytes is a surrogate that some text had
        surrogates = re.compile("[\ud800-\udfff]")
        assert surrogates.sub("\ufffd" * 3, text) == data.decode(errors="replace")


# Words.


def test_words():
    words = WordTokenizer.train("the cat, the  hat\n")
    assert words.words == ["the", "  ", "cat", "hat"]  # by frequency, then code points
    assert words.encode("the cat").tolist() == [256, 32, 258]
    assert words.encode("thé").tolist() == [*"thé".encode()]  # unknown: spelled
    assert WordTokenizer.train("a bb bb ccc", min_frequency=2).words == ["bb"]
    assert WordTokenizer.train(["dddd bb", "bb ccc"], vocab_size=259).words == ["bb", "ccc"]
    with pytest.raises(TokenizerError, match="at least 257"):
        WordTokenizer.train("a", vocab_size=256)


# Names and files.


def test_get_by_name(tmp_path, monkeypatch):
    def texts():
        yield from ["the cat ", "the hat"]

    assert tokenizers.get("char", texts).chars == sorted(set("the cathe hat"))
    assert tokenizers.get("word", texts, 258).words == ["the"]
    assert tokenizers.get("byte").vocab_size == 257
    bpe = tokenizers.get("bpe", texts, 260, pattern="gpt4")
    assert (bpe.vocab_size, bpe.pattern) == (260, "gpt4")
    for name in ("char", "word", "bpe"):
        with pytest.raises(TokenizerError, match=f"{name} tokenizer is trained, and there is no"):
            tokenizers.get(name)
    with pytest.raises(TokenizerError, match="gpt3 is no tokenizer.*did you mean 'gpt2'"):
        tokenizers.get("gpt3")
    with pytest.raises(TokenizerError, match="neither encoder.json and vocab.bpe"):
        tokenizers.get(tmp_path)
    with pytest.raises(TokenizerError, match="vocab_size is for word and bpe; char has none"):
        tokenizers.get("char", texts, 100)
    with pytest.raises(TokenizerError, match="pattern 'gpt5' is unknown; did you mean 'gpt"):
        tokenizers.get("bpe", texts, 260, pattern="gpt5")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"type": "byte", "words": []}, "has no 'words'"),
        ({"type": "word"}, "'words' must be a list"),
        ({"type": "word", "words": ["a", 1]}, "'words' must be a list"),
        ({"type": "word", "words": ["ab", "ab"]}, "'words' must be distinct"),
    ],
)
def test_states_that_are_no_tokenizer(state, message):
    with pytest.raises(TokenizerError, match=message):
        tokenizers.from_dict(state)


# Drawings.


@every_kind
@example(text="")
@given(text=any_text)
@settings(max_examples=30)
def test_show_draws_any_text_with_its_ids(kind, text):
    drawing = KINDS[kind].show(text)
    assert isinstance(drawing, str) and repr(drawing) == str(drawing)
    assert all(c.isprintable() or c == "\n" for c in drawing)
    shown = set(drawing.replace("id ", "").split())
    assert shown >= {str(id) for id in KINDS[kind].encode(text).tolist()}


def test_show_of_what_does_not_merge():
    assert CharTokenizer.train("ab c\n").show("a b\n") == "a  ·  b  \\n\n2  1  3  0"
    assert (
        WordTokenizer.train("the cat").show("the bat") == "the  ·   b   a   t\n257  32  98  97  116"
    )
    assert ByteTokenizer().show("é") == "\\xc3  \\xa9\n195   169"
