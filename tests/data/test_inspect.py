"""data.inspect: what it says of corpora whose every number is known."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import tar

from data import inspect_measure
from data.archives import Document
from data.errors import DataError
from data.inspect import Inspecting, from_command_line, inspect, main
from data.inspect_measure import Measure, Repeats
from gpt.errors import ConfigError

QUICK = Inspecting(tokenizer="byte,char")


def test_the_course_file(shared_data, tmp_path):
    found = inspect(shared_data / "oz" / "dorothy_and_the_wizard.txt", QUICK)
    assert (found["bytes"], found["documents"], len(found["symbols"])) == (237_730, 1, 81)
    assert found["characters"] == 237_730 and found["ignored"] == {"byte-order marks": 1}
    assert found["odd"]["carriage return"]["\r"] == found["symbols"]["\r"] == 5_422
    assert found["sample_is_all"] and found["lengths"]["longest"] == 237_730


def test_ngrams_and_tokens_of_shakespeare(shared_data):
    from gpt.ngram import count_models
    from gpt.tokenizers import CharTokenizer

    path = shared_data / "shakespeare" / "tinyshakespeare.txt"
    found = inspect(path, Inspecting(tokenizer="char,byte," + str(shared_data / "gpt2_bpe")))
    assert found["sample_bytes"] == found["bytes"] == 1_115_394
    ids = CharTokenizer.train(path.read_text()).encode(path.read_text())
    expected = count_models(ids[:1_003_854], ids[1_003_854:], 65, (1, 2, 3, 4, 5))
    assert [row["nats_per_character"] for row in found["ngrams"]] == [
        pytest.approx(m.loss, abs=1e-4) for m in expected
    ]
    assert found["tokenizers"]["char"]["tokens_per_byte"] == 1
    gpt2 = found["tokenizers"][str(shared_data / "gpt2_bpe")]
    assert gpt2["tokens_per_byte"] == pytest.approx(36_059 / 111_540, abs=1e-4)
    assert 0.3 < found["compression"]["lzma"] < found["compression"]["zlib"] < 0.5


def test_the_openwebtext_sample(shared_data):
    found = inspect(shared_data / "openwebtext", Inspecting(tokenizer="none"))
    assert found["documents"] == 200 and not found["skipped"] and found["tokenizers"] == {}
    assert "\0" not in found["symbols"]


def test_what_is_odd_is_named(tmp_path):
    odd = {"\ufeff": "byte-order mark", "\r": "carriage return", "\u200b": "zero width",
           "\ue000": "private use", "\ufffd": "replacement", "\x07": "control",
           "\u00a0": "no-break", "\u2028": "line or paragraph", "\u200f": "direction",
           "\u0378": "unassigned"}  # fmt: skip
    path = tmp_path / "odd.txt"
    path.write_bytes(("a" + "b".join(odd) + "e\u0301").encode())
    found = inspect(path, QUICK)
    assert sum(len(chars) for chars in found["odd"].values()) == len(odd)
    for char, kind in odd.items():
        assert [k for k, chars in found["odd"].items() if char in chars][0].startswith(kind)
    assert found["not_nfc"] == 1


def test_duplicates(tmp_path):
    documents = {f"{i}.txt": f"line one\nnumber {i % 7}\n".encode() for i in range(20)}
    path = tmp_path / "x.tar"
    path.write_bytes(tar(documents | {"bad.txt": b"\xff"}))
    found = inspect(path, QUICK)
    assert (found["documents"], found["duplicate_documents"]) == (20, 13)
    assert (found["lines"], found["duplicate_lines"]) == (40, 32)
    assert found["skipped"] == 1 and "bad.txt is not valid UTF-8" in found["skipped_reasons"][0]


@given(st.lists(st.sampled_from("ab \n"), max_size=80), st.data())
@settings(max_examples=25)
def test_pieces_make_the_document(texts, data):
    """A document in pieces is measured as the whole one is."""
    text = "".join(texts) + "\nä\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=5)))
    whole, parts = Measure(1 << 20), Measure(1 << 20)
    whole.add(Document("x", text))
    for start, end in zip([0, *cuts], [*cuts, len(text)]):
        parts.add(Document("x", text[start:end], more=end < len(text)))
    assert whole.result() == parts.result()
    assert whole.result()["symbols"] == Counter(text)


def test_more_than_can_be_remembered_is_estimated(monkeypatch):
    monkeypatch.setattr(inspect_measure, "MAX_HASHES", 4096)
    repeats = Repeats()
    for i in range(60_000):
        repeats.add([str(i % 20_000).encode()])
    assert repeats.one_in >= 8 and len(repeats.hashes) < 4096
    assert repeats.count() == pytest.approx(40_000, rel=0.1)


def test_a_sample_is_fair_and_no_larger_than_asked():
    measure = Measure(10_000)
    for i in range(2000):
        measure.add(Document("x", f"{i:04} " * 20))
    text = measure.sample.text()
    places = [int(line[:4]) for line in text.split("\n")]
    assert len(text) <= 10_200 and not measure.sample.whole and places == sorted(places)
    assert 80 < len(places) <= 100 and 700 < sum(places) / len(places) < 1300
    one = Measure(1000)
    one.add(Document("x", "ä" * 5000))
    assert len(one.sample.text()) == 500 and not one.sample.whole


def test_the_command(tmp_path, repo):
    path = tmp_path / "mine.jsonl"
    rows = [{"text": f"[b]Tale {i}[/b]\n" * 9} for i in range(50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = [sys.executable, "-m", "data.inspect", str(path), "--json", "--tokenizer", "byte"]
    done = subprocess.run(run, cwd=repo, text=True, capture_output=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["documents"] == 50 and found["lines"] == 450
    for words in ("Odd characters", "repeated lines", "nats per character", "per byte", "["):
        assert words in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["nothere.txt"], "'nothere.txt' is neither a corpus nor a file"),
        ([], "name a file, a folder or a corpus"),
        (["x", "--sample-mb", "0"], "--sample-mb 0: must be at least 1"),
        (["x", "--tokeniser", "byte"], "unknown flag --tokeniser; did you mean '--tokenizer'"),
    ],
)
def test_mistakes_end_with_one_sentence(monkeypatch, capsys, arguments, fault):
    monkeypatch.setattr(sys, "argv", ["inspect", *arguments])
    assert main() == 2
    error = capsys.readouterr().err
    assert fault in error and "Traceback" not in error


def test_a_corpus_without_text_is_a_mistake(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(tar({"1.txt": b"\xff", "2.txt": b""}))
    with pytest.raises(DataError, match="holds no text; x.tar/1.txt is not valid UTF-8"):
        inspect(path, QUICK)
    path.write_bytes(tar({"1.txt": b"text " * 10}))
    with pytest.raises(DataError, match="bpf: bpf is no tokenizer.*did you mean 'bpe'"):
        inspect(path, Inspecting(tokenizer="bpf"))
    with pytest.raises(ConfigError):
        from_command_line([])


def test_tales_need_no_file():
    found = inspect("tales", Inspecting(tokenizer="none", sample_mb=1))
    assert found["documents"] == 2 and found["characters"] > 1_000_000
