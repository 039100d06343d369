"""GPT-2's own vocabulary, by our BPE and by tiktoken: the same ids, one for one."""

import random
import sys
import unicodedata
from dataclasses import replace

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import NASTY, any_text
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

from data.batches import split
from gpt import tokenizers
from gpt.tokenizers import TokenizerError, files


@pytest.fixture(scope="session")
def folder(shared_data):
    return shared_data / "gpt2_bpe"


@pytest.fixture(scope="session")
def judge(folder):
    """tiktoken, with its own pattern and its own reading of the files."""
    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    special = {"<|endoftext|>": 50256}
    return tiktoken.Encoding("judge", pat_str=r50k_pat_str, mergeable_ranks=ranks,
                             special_tokens=special)  # fmt: skip


@pytest.fixture(scope="session", params=["ours", "tiktoken"])
def gpt2(request, folder):
    tokenizer = files.from_folder(folder, tiktoken=request.param == "tiktoken")
    assert bool(tokenizer._tiktoken) == (request.param == "tiktoken")
    return tokenizer


def test_what_it_is(gpt2):
    assert gpt2.encode("Hello, world!").tolist() == [15496, 11, 995, 0]
    assert (gpt2.vocab_size, gpt2.end_of_text, gpt2.dtype) == (50257, 50256, "uint16")
    assert gpt2.encode("<|endoftext|>", "all").tolist() == [50256]
    assert gpt2.hash.startswith("0f067b68fcf86a00")  # checkpoints hold it


def test_tinyshakespeare(gpt2, judge, shared_data):
    text = (shared_data / "shakespeare/tinyshakespeare.txt").read_text()
    train, val = (gpt2.encode(part) for part in split(text, 0.1))
    assert (len(train), len(val)) == (301_966, 36_059)
    assert train.tolist() + val.tolist() == [
        id for part in split(text, 0.1) for id in judge.encode_ordinary(part)
    ]


def fuzz_corpus(n, seed=0):
    """Texts of one script or many, of words, blanks, signs and digits in any order."""
    pick = random.Random(seed)
    assigned = [c for c in map(chr, range(0x20000)) if unicodedata.category(c) not in ("Cn", "Cs")]
    for _ in range(n):
        start = pick.randrange(len(assigned))
        script = assigned[start : start + pick.choice([1, 30, 300])]
        sources = [
            script,
            assigned,
            NASTY,
            "'stldmrve ST",
            " \n\t\r",
            "0123456789",
            "the of and ing",
        ]
        chosen = pick.sample(sources, pick.randint(1, 3))
        text = "".join(pick.choice(pick.choice(chosen)) for _ in range(pick.randint(0, 200)))
        yield text.encode("utf-8", "ignore").decode()  # tiktoken loses lone surrogates


def test_a_fuzz_corpus(gpt2, judge):
    for text in fuzz_corpus(2000):
        assert gpt2.encode(text).tolist() == judge.encode_ordinary(text)


@given(
    st.text() | st.text(st.sampled_from(NASTY)).map(lambda s: s.encode("utf-8", "ignore").decode())
)
def test_ids_are_those_of_tiktoken(gpt2, judge, text):
    assert gpt2.encode(text).tolist() == judge.encode_ordinary(text)


@given(any_text)
@settings(max_examples=50)
def test_text_comes_back(gpt2, text):
    assert gpt2.decode(gpt2.encode(text)) == text


@given(st.lists(st.integers(0, 50256)))
def test_any_ids_decode_as_tiktoken_decodes_them(gpt2, judge, ids):
    data = judge.decode_bytes(ids)
    assert gpt2._bytes(ids) == data
    if b"\xed" not in data:  # else it may be a lone surrogate, which comes back as it was
        assert gpt2.decode(ids) == data.decode(errors="replace")


def test_where_tiktoken_gives_up_ours_goes_on(gpt2):
    for text in (" " * 2_000_000 + "a", "\ud83d and more"):
        assert gpt2.decode(gpt2.encode(text)) == text


def test_without_tiktoken(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    tokenizer = tokenizers.get(folder)
    assert tokenizer._tiktoken is None
    assert tokenizer.encode("Hello, world!").tolist() == [15496, 11, 995, 0]


def test_a_checkpoint_gives_it_back_whole(gpt2):
    again = tokenizers.from_dict(gpt2.to_dict())
    assert again.hash == gpt2.hash and again._tiktoken  # fast again, as tiktoken is installed
    assert (again.encode(NASTY) == gpt2.encode(NASTY)).all()


def test_by_name_it_is_fetched_and_checked(folder, tmp_path, monkeypatch):
    """From a mirror, where the first is not to be had; then from the cache, without the web."""
    monkeypatch.setattr("data.download.cache_folder", lambda: tmp_path / "cache")
    offline = tuple(replace(file, urls=("http://localhost:9/" + file.file,)) for file in files.GPT2)
    monkeypatch.setattr(files, "GPT2", offline)
    with pytest.raises(TokenizerError) as error:
        tokenizers.get("gpt2")
    assert "cannot download gpt2/encoder.json" in str(error.value)
    assert "give the folder that has encoder.json and vocab.bpe" in str(error.value)
    (tmp_path / "cache/gpt2").mkdir(parents=True, exist_ok=True)
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / "cache/gpt2" / name).write_bytes((folder / name).read_bytes())
    assert tokenizers.get("gpt2").encode("Hello, world!").tolist() == [15496, 11, 995, 0]
    (tmp_path / "cache/gpt2/vocab.bpe").write_text("#version: 0.2\n")
    with pytest.raises(TokenizerError, match="vocab.bpe is not the .* meant here"):
        tokenizers.get("gpt2")


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ("{", "", "vocab.json or merges.txt is damaged"),
        ("[]", "", "vocab.json is not an object of ids"),
        ("{}", "#version: 0.2\na\n", "merges.txt: merge 'a' is not two"),
        ("{}", "", "vocab.json and merges.txt do not fit: token .* has no id"),
    ],
)
def test_damaged_files(tmp_path, vocabulary, merges, message):
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(TokenizerError, match=message):
        tokenizers.get(tmp_path)
