"""CharTokenizer: every text comes back, unknown characters are named, files say what they are."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt import tokenizers
from gpt.tokenizers import CharTokenizer, TokenizerError, UnknownCharacter

# Anything a Python string can hold: lone surrogates too, which chance alone would hardly draw.
any_text = st.text(st.characters() | st.characters(categories=["Cs"]))


@given(text=any_text.filter(len))
def test_round_trip_in_code_point_order(text):
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text
    assert tokenizer.chars == sorted(set(text))
    assert ids.tolist() == [tokenizer.chars.index(c) for c in text]  # the slow definition
    assert tokenizer.vocab_size == len(tokenizer.chars) == len(tokenizer.token_bytes)
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert b"".join(tokenizer.token_bytes[i] for i in ids) == text.encode()


@example(text="\ud83d\ude00", unk=None)  # two surrogates that JSON must not fuse into one emoji
@given(text=any_text.filter(len), unk=st.none() | any_text.filter(lambda s: len(s) == 1))
def test_save_and_load(text, unk, tmp_path_factory):
    tokenizer = CharTokenizer.train(text, unk)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(path)
    for again in (tokenizers.load(path), CharTokenizer.load(path)):
        assert again.to_dict() == tokenizer.to_dict() and again.hash == tokenizer.hash
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()


@given(known=any_text.filter(len), text=any_text, unk=any_text.filter(lambda s: len(s) == 1))
def test_unk_stands_for_every_unknown_character(known, text, unk):
    tokenizer = CharTokenizer.train(known, unk)
    expected = "".join(c if c in known else unk for c in text)
    assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_ids_are_as_small_as_can_be():
    for size, dtype in [(1, np.uint8), (256, np.uint8), (257, np.uint16), (70_000, np.uint32)]:
        text = "".join(chr(0x10000 + i) for i in range(size))
        assert CharTokenizer.train(text).encode(text).dtype == dtype


def test_an_unknown_character_is_named_with_its_place_and_the_remedy():
    tokenizer = CharTokenizer.train("abc\n")
    with pytest.raises(UnknownCharacter) as error:
        tokenizer.encode("ab\nca€e €")
    message = str(error.value)
    assert (error.value.char, error.value.position) == ("€", 5)
    assert "'€' (EURO SIGN, U+20AC) at position 5 (line 2, column 3)" in message
    assert "nor are 2 others" in message and r"Known: '\nabc'" in message
    with pytest.raises(UnknownCharacter, match="U\\+0000") as error:  # below, not above, the known
        tokenizer.encode("\0")


@given(text=st.text("ab\n€"))
def test_the_first_unknown_is_the_one_named(text):
    tokenizer = CharTokenizer.train("ab\n")
    if "€" not in text:
        tokenizer.encode(text)
    else:
        with pytest.raises(UnknownCharacter) as error:
            tokenizer.encode(text)
        before = text[: text.index("€")].split("\n")
        place = f"(line {len(before)}, column {len(before[-1]) + 1})"
        assert error.value.position == text.index("€") and place in str(error.value)


def test_workers_name_an_unknown_character_as_one_process_does():
    tokenizer, text = CharTokenizer.train("ab\n"), "ab\n" * 200_000 + "é"
    with pytest.raises(UnknownCharacter) as alone:
        tokenizer.encode(text)
    with pytest.raises(UnknownCharacter) as together:
        tokenizer.encode(text, workers=2)
    with pytest.raises(UnknownCharacter) as batch:
        tokenizer.encode_batch(["a", text], workers=2)
    assert str(alone.value) == str(together.value) == str(batch.value)
    assert together.value.position == batch.value.position == 600_000


@pytest.mark.parametrize("ids", [[3], [-1], np.array([0, 300]), [0.5], ["a"]])
def test_ids_out_of_range_or_of_the_wrong_kind(ids):
    with pytest.raises(TokenizerError, match="outside the vocabulary of 3|must be integers"):
        CharTokenizer.train("abc").decode(ids)


def test_nothing_to_encode_or_decode():
    tokenizer = CharTokenizer.train("abc")
    assert len(tokenizer.encode("")) == 0 and tokenizer.decode([]) == ""
    assert tokenizer.decode(1) == "b"


def test_mistakes_in_training():
    with pytest.raises(TokenizerError, match="the text is empty"):
        CharTokenizer.train("")
    with pytest.raises(TokenizerError, match="unk is '<unk>'"):
        CharTokenizer.train("abc", unk="<unk>")


def test_the_hash_tells_vocabularies_apart_and_lasts():
    hashes = {CharTokenizer(*args).hash for args in [("ab",), ("abc",), ("abc", "c"), ("abc", "d")]}
    assert len(hashes) == 4
    assert CharTokenizer("ab").hash == CharTokenizer("bbaab").hash
    assert CharTokenizer("ab").hash.startswith("5f1b697b22e82781")  # checkpoints hold it


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is not JSON"),
        ("[1]", "type None is unknown"),
        ('{"type": "bpe3"}', "type 'bpe3' is unknown; there are char"),
        ('{"type": ["char"]}', "is unknown"),
        ('{"type": "char"}', "'chars' must be a list"),
        ('{"type": "char", "chars": "abc"}', "'chars' must be a list"),
        ('{"type": "char", "chars": ["a", "bc"]}', "'chars' must be a list"),
        ('{"type": "char", "chars": ["b", "a"]}', "distinct and in code point order"),
        ('{"type": "char", "chars": ["a", "a"]}', "distinct and in code point order"),
        ('{"type": "char", "chars": []}', "at least one character"),
        ('{"type": "char", "chars": ["a"], "unk": 3}', "'unk' must be"),
        ('{"type": "char", "chars": ["a"], "unk": "b"}', "distinct and in code point order"),
    ],
)
def test_files_that_are_no_tokenizer(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(TokenizerError, match=message) as error:
        tokenizers.load(path)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(TokenizerError, match="cannot be read"):
        tokenizers.load(tmp_path / "none.json")


def test_the_file_can_be_read_by_people(tmp_path):
    CharTokenizer.train("b\na€").save(tmp_path / "t.json")
    state = json.loads((tmp_path / "t.json").read_text())
    assert state == {"type": "char", "unk": None, "chars": ["\n", "a", "b", "€"]}
