"""BPE: merges in Hugging Face's order, ids as Hugging Face gives them, however long a piece is."""

import json
import random
import re
from collections import Counter

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from texts import NASTY, any_text
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from gpt import tokenizers
from gpt.tokenizers import BPETokenizer, TokenizerError, bpe, patterns
from gpt.tokenizers.merges import learn_merges

# As published: OpenAI's gpt-2/encoder.py, and tiktoken's cl100k_base of 2022.
PUBLISHED = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
both_patterns = pytest.mark.parametrize("pattern", PUBLISHED)


def hugging_face(texts, vocab_size, pattern="gpt2", min_frequency=0):
    tokenizer = Tokenizer(models.BPE())
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(PUBLISHED[pattern]), "isolated")
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if pattern == "gpt2"
        else pre_tokenizers.Sequence([split, bytes_only])
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges_of(tokenizer):
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.to_dict()["merges"]
    return [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def no_surrogates(text):
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


@pytest.fixture(scope="session")
def corpora(shared_data):
    def read(name):
        return (shared_data / name).read_text(encoding="utf-8")

    oz = read("oz/dorothy_and_the_wizard.txt")
    return {
        "oz": oz,
        "shakespeare": read("shakespeare/tinyshakespeare.txt")[:150_000],
        "emoji and CJK": "".join(random.Random(0).choices(NASTY + oz[:300], k=20_000)),
    }


@both_patterns
@pytest.mark.parametrize("vocab_size", [300, 1024, 100_000])  # the last: until no pair is left
@pytest.mark.parametrize("name", ["oz", "shakespeare", "emoji and CJK"])
def test_merges_in_the_order_of_hugging_face(corpora, name, vocab_size, pattern):
    text = no_surrogates(corpora[name])
    ours = BPETokenizer.train(text, vocab_size, pattern, special_tokens=())
    theirs = hugging_face([text], vocab_size, pattern)
    assert merges_of(ours) == merges_of(theirs)
    assert ours.vocab_size == theirs.get_vocab_size() and len(ours.merges) > 40
    assert ours.encode(text).tolist() == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


@settings(max_examples=200)
@example(texts=["aaaaaaaaaa", "aaaa aaa aa"], min_frequency=0, pattern="gpt2")
@given(
    texts=st.lists(st.text("ab ") | st.text("abcde'1 \n")),
    min_frequency=st.sampled_from([0, 2, 3]),
    pattern=st.sampled_from(list(PUBLISHED)),
)
def test_small_texts_full_of_ties_and_runs(texts, min_frequency, pattern):
    ours = BPETokenizer.train(texts, 340, pattern, (), min_frequency or 1)
    theirs = merges_of(hugging_face(texts, 340, pattern, min_frequency))
    assert merges_of(ours) == theirs


def slow_merges(words, n_tokens):
    """The definition: count all pairs anew, take the most frequent, the smallest of ties."""
    from gpt.tokenizers.alphabet import BYTES

    tokens = [bytes([byte]) for byte in BYTES]
    split = {word: [BYTES.index(byte) for byte in word.encode()] for word in words}
    merges = []
    while len(tokens) < n_tokens:
        counts = Counter()
        for word, ids in split.items():
            for pair in zip(ids, ids[1:]):
                counts[pair] += words[word]
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        assert b"".join(merges[-1]) not in tokens  # no token is made twice
        new = len(tokens)
        tokens.append(b"".join(merges[-1]))
        for ids in split.values():
            for i in range(len(ids) - 1):
                if tuple(ids[i : i + 2]) == pair:
                    ids[i : i + 2] = [new]
    return merges


@settings(max_examples=200)
@example(words={"aaaaaaaaaaaaa": 3, "aaaaab": 2, "baaa": 9})
@given(words=st.dictionaries(st.text("ab", min_size=1) | st.text("abcé", min_size=1),
                             st.integers(1, 200)))  # fmt: skip
def test_merges_by_the_definition(words):
    assert learn_merges(words, 300) == slow_merges(words, 300)


def test_texts_are_trained_on_apart_and_by_many_processes(monkeypatch):
    joined, apart = BPETokenizer.train("abab"), BPETokenizer.train(["ab", "ab"])
    assert (len(joined.merges), len(apart.merges)) == (2, 1)
    monkeypatch.setattr(patterns, "TOGETHER", 1000)
    texts = [NASTY, "x", "", *["the cat sat on the hat " * 50] * 9]
    assert BPETokenizer.train(texts, 400).hash == BPETokenizer.train(texts, 400, workers=2).hash


# Splitting.


@both_patterns
@given(text=any_text | st.text("'sStTlLvVeErR 12.\n\r\t\u017f\u00a0é") | st.text("1٢²Ⅻ,"))
def test_pieces_are_those_of_the_published_pattern(text, pattern):
    assert patterns.split(text, pattern) == regex.findall(PUBLISHED[pattern], text)
    assert "".join(patterns.split(text, "word")) == text


def test_every_character_is_of_the_same_kind_for_hugging_face():
    """A sample of all planes; characters newer than either library's Unicode would differ."""
    chars = [chr(i) for i in range(0x3000) if not 0xD800 <= i < 0xE000]
    text = "".join(f"a{c}1{c} {c}b{c}{c}\n" for c in chars if c.isprintable() or c.isspace())
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    pieces, start = [], 0
    for _, (start, end) in theirs:
        pieces.append(text[start:end])
    assert patterns.split(text, "gpt2") == pieces


@pytest.mark.parametrize("pattern", patterns.PATTERNS)
@given(
    before=any_text | st.text("'s1. \n\té_²\u200d"), after=any_text | st.text("'s1. \n\té_²\u200d")
)
@settings(max_examples=300)
def test_a_cut_changes_no_piece_whatever_follows(before, after, pattern):
    cut = patterns.last_cut(before)
    assert 0 <= cut < max(1, len(before))
    text = before + after
    parts = patterns.split(text[:cut], pattern) + patterns.split(text[cut:], pattern)
    assert parts == patterns.split(text, pattern)


# Encoding.


@pytest.fixture(scope="session")
def shakespeare(corpora):
    return BPETokenizer.train(corpora["shakespeare"], 1000)


@given(seed=st.integers(0, 99), alphabet=st.sampled_from(["a", "ab", "thearison", "éa日"]),
       length=st.integers(0, 400))  # fmt: skip
def test_long_pieces_merge_as_short_ones_do(shakespeare, seed, alphabet, length):
    data = "".join(random.Random(seed).choices(alphabet, k=length)).encode()
    assert shakespeare._merge_many(data).tolist() == shakespeare._merge(data)


@example("abcabc")
@given(st.text("abc"))
def test_also_where_two_merges_of_a_file_spell_one_token(text):
    """As Hugging Face does it: the lowest merge first, the leftmost if there are several."""
    merges = ["b c", "a b", "ab c", "abc a", "a bc", "abc abc"]  # abc + a, before a + bc is done
    ours = BPETokenizer(bpe.parse_merges(merges), special_tokens=())
    vocabulary = {bpe.to_printable(token): id for token, id in ours.ids.items()}
    pairs = [tuple(merge.split()) for merge in merges]
    theirs = Tokenizer(models.BPE(vocabulary, pairs)).encode(text).ids
    assert ours._merge_many(text.encode()).tolist() == ours._merge(text.encode()) == theirs


def lines(size=3_000_000):
    pick = random.Random(1).choices
    yield "one letter", "a" * size
    yield "letters", "".join(pick("etaoinshrdlu", k=size))
    size //= 10  # what would be quadratic takes minutes even so
    yield "pieces of 5,000", ("".join(pick("etaoinshrdlu", k=4999)) + "1") * (size // 5000)
    yield "blanks", " " * size
    yield "signs", "".join(pick("!?.-", k=size))
    yield "Chinese", "".join(map(chr, pick(range(0x4E00, 0x9000), k=size // 3)))


@pytest.mark.parametrize("name", [name for name, _ in lines(9)])
def test_a_line_of_3_mb_without_a_space(shakespeare, name):
    line = dict(lines())[name]
    ids = shakespeare.encode(line)
    assert shakespeare.decode(ids) == line
    part = shakespeare.encode(line[:3000])  # the same merges as where a heap does them
    n = len(part) - 50
    assert (ids[:n] == part[:n]).all()


def test_what_is_remembered_is_bounded(shakespeare, monkeypatch):
    monkeypatch.setattr("gpt.tokenizers.pieces.REMEMBERED", 10)
    text = " ".join(map(str, range(100)))
    assert shakespeare.decode(shakespeare.encode(text)) == text
    assert len(shakespeare._known) <= 10


# Files and mistakes.


def test_the_file_can_be_read_by_people(tmp_path):
    tokenizer = BPETokenizer.train("the the", 259)
    assert tokenizer.to_dict() == {"type": "bpe", "pattern": "gpt2", "ids": None,
        "special_tokens": {"<|endoftext|>": 258}, "merges": ["h e", "t he"]}  # fmt: skip
    assert tokenizer.hash.startswith("048ee03843426d5f")  # checkpoints hold it


@both_patterns
def test_files_of_hugging_face(tmp_path, corpora, pattern):
    theirs = hugging_face([corpora["oz"]], 500, pattern)
    theirs.add_special_tokens(["<|endoftext|>", "<pad>"])
    theirs.model.save(str(tmp_path))
    ours = tokenizers.get(tmp_path)
    assert ours.encode("The wizard.").tolist() == theirs.encode("The wizard.").ids
    # a vocabulary whose special tokens come first, so that all ids differ from the usual
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    shifted = {"<s>": 0, "<|endoftext|>": 1} | {token: i + 2 for token, i in vocabulary.items()}
    (tmp_path / "vocab.json").write_text(json.dumps(shifted))
    moved = tokenizers.get(tmp_path)
    assert moved.special_tokens == {"<s>": 0, "<|endoftext|>": 1} and moved.end_of_text == 1
    assert (moved.encode(NASTY) == ours.encode(NASTY) + 2).all()
    again = tokenizers.from_dict(json.loads(json.dumps(moved.to_dict())))
    assert again.hash == moved.hash and (again.encode(NASTY) == moved.encode(NASTY)).all()


GOOD = {"type": "bpe", "pattern": "gpt2", "special_tokens": {}, "merges": ["a b"], "ids": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pattern": None}, "'pattern' must be"),
        ({"pattern": "gpt5"}, "pattern 'gpt5' is unknown"),
        ({"special_tokens": None}, "'special_tokens' must be"),
        ({"special_tokens": {"x": "1"}}, "'special_tokens' must be"),
        ({"special_tokens": {"x": 258}}, "ids must be 0, 1, 2, ...: 257"),
        ({"special_tokens": {"x": 5}}, "ids must be 0, 1, 2, ...: 5"),
        ({"merges": None}, "'merges' must be"),
        ({"merges": ["ab"]}, "merge 'ab' is not two byte-level tokens"),
        ({"merges": ["a b c"]}, "merge 'a b c' is not two"),
        ({"merges": ["a 日"]}, "merge 'a 日' is not two"),
        ({"merges": ["a bc"]}, "merge 0 joins b'bc', which no merge before made"),
        ({"ids": [1]}, "'ids' must be null or"),
        ({"ids": {"日": 1}}, "character '日' stands for no byte"),
        ({"ids": {"a": 0}}, "has no id"),
    ],
)
def test_states_that_are_no_tokenizer(change, message):
    tokenizers.from_dict(GOOD)
    with pytest.raises(TokenizerError, match=message):
        tokenizers.from_dict(GOOD | change)


def test_mistakes_in_training():
    with pytest.raises(TokenizerError, match="vocab_size is 256: it must be at least 257"):
        BPETokenizer.train("abc", 256)
    with pytest.raises(TokenizerError, match="min_frequency is 0"):
        BPETokenizer.train("abc", 300, min_frequency=0)
    with pytest.raises(TokenizerError, match="pattern 'gpt-4' is unknown; did you mean 'gpt4'"):
        BPETokenizer.train("abc", 300, "gpt-4")
    assert BPETokenizer.train("", 300).vocab_size == 257


def test_show_draws_each_merge():
    tokenizer = BPETokenizer.train("low low lower lowest newer wider wide", 300)
    assert (
        tokenizer.show("lower 日")
        == """\
2 pieces: lower  ·日

lower
  l  o  w  e  r
  └──┘  l + o = lo   merge 0, id 256
  lo  w  e  r
  └───┘  lo + w = low   merge 1, id 257
  low  e  r
       └──┘  e + r = er   merge 2, id 258
  low  er
  257  258

·日
  ·    \\xe6  \\x97  \\xa5
  220  162   245   98"""
    )
