"""`python -m gpt.generate`: prompts from everywhere, output as text and JSON, mistakes by name."""

import json
import subprocess
import sys

import pytest

import tinytensor as tt
from gpt import generate
from gpt.config import GPTConfig
from gpt.generate import load_model
from gpt.model import GPT

KEYS = {"prompt", "sample", "seed", "text", "ids", "logprobs", "finish_reason", "model", "timings"}


@pytest.fixture
def write(small_run, monkeypatch, capsys):
    """write(*flags, stdin=bytes) -> (exit code, stdout, stderr), in this process."""

    def call(*flags, stdin=b"", folder=small_run):
        class Piped:
            class buffer:
                read = staticmethod(lambda: stdin)

        monkeypatch.setattr(sys, "argv", ["generate", str(folder), *flags])
        monkeypatch.setattr(sys, "stdin", Piped)
        code = generate.main()
        return (code, *capsys.readouterr())

    return call


def test_a_prompt_is_continued(write):
    code, out, _ = write("--prompt", "ab", "--max-new-tokens", "20", "--seed", "5")
    assert code == 0 and out.startswith("ab") and len(out) == 2 + 20 + 1
    again = write("--prompt", "ab", "--max-new-tokens", "20", "--seed", "5", "--stream")[1]
    assert again == out != write("--prompt", "ab", "--max-new-tokens", "20")[1]


def test_prompts_come_from_flags_files_lines_and_pipes(write, tmp_path):
    flags = ("--max-new-tokens", "5", "--temperature", "0")
    _, both, _ = write(*flags, "--prompt", "ab", "--prompt", "Te€")
    ab, te = (write(*flags, "--prompt", p)[1] for p in ("ab", "Te€"))
    assert both == f"{ab}---\n{te}"
    file = tmp_path / "prompts.txt"
    file.write_text("ab\n\nTe€\n", "utf-8")
    assert write(*flags, "--file", str(file), "--lines")[1] == both
    assert write(*flags, "--stdin", "--lines", stdin=b"ab\nTe\xe2\x82\xac")[1] == both
    assert write(*flags, "--stdin", stdin=b"ab\n")[1] == ab  # the newline is echo's
    new = write(*flags)[1]
    assert new == write(*flags, "--prompt", "")[1] == write(*flags, "--prompt", "\n")[1][1:]


def test_json_is_one_object_per_text(write, small_run):
    flags = ("--prompt", "a", "--prompt", "é", "--num-samples", "3", "--max-new-tokens", "6")
    _, out, _ = write("--json", "--logprobs", "2", "--stop", "€", *flags)
    records = [json.loads(line) for line in out.splitlines()]
    order = [(r["prompt"], r["sample"]) for r in records]
    assert order == [(p, i) for p in "aé" for i in range(3)]
    tokenizer = load_model(str(small_run), "cpu")[1]
    for r in records:
        assert r.keys() == KEYS and r["seed"] == 1337
        assert r["model"] == f"{small_run.name} at step 1"
        whole = tokenizer.decode(r["ids"])
        stopped = r["finish_reason"] == "stop"
        assert (r["text"] + "€" if stopped else r["text"]) == whole
        assert stopped or (r["finish_reason"], len(r["ids"])) == ("length", 6)
        assert [x["id"] for x in r["logprobs"]] == r["ids"]
        assert all(len(x["top"]) == 2 and x["logprob"] <= x["top"][0]["logprob"] <= 0
                   for x in r["logprobs"])  # fmt: skip
        assert r["timings"]["tokens"] == len(r["ids"]) and r["timings"]["seconds"] > 0
    assert any(r["finish_reason"] == "stop" for r in records)  # else the test says nothing of it
    plain = [json.loads(line) for line in write("--json", *flags)[1].splitlines()]
    assert plain[0]["logprobs"] is None


def test_logprobs_are_shown(write):
    _, out, _ = write("--prompt", "a", "--max-new-tokens", "3", "--logprobs", "2")
    table = out.splitlines()[-3:]
    assert all(row.split()[0].startswith("-") and row.count("'") >= 4 for row in table)


@pytest.mark.parametrize(
    "flags, stdin, words",
    [
        (["--prompt", "abX"], b"", ["--prompt: ", "'X'", "position 2"]),
        (["--prompt", "a", "--prompt", "bX"], b"", ["--prompt 2: ", "'X'", "position 1"]),
        (["--stdin", "--lines"], b"a\nbX\n\nY",
         ["--stdin line 2: ", "'X'", "--stdin line 4: ", "'Y'"]),
        (["--stdin"], b"ab\nc\xff", ["--stdin: is not UTF-8", "0xff", "position 4", "line 2"]),
        (["--stdin", "--lines"], b"\n\n", ["--stdin: has no line"]),
        (["--prompt", "\udcff"], b"", ["--prompt: is not UTF-8"]),
        (["--file", "no/such"], b"", ["--file no/such: No such file"]),
        (["--prompt", "a", "--stdin", "--file", "x"], b"",
         ["--prompt and --file and --stdin: name one"]),
        (["--lines", "--json", "--stream", "--top-p", "2", "--max-new-tokens", "0",
          "--temprature", "1"],
         b"", ["--lines: needs", "--json and --stream", "--top-p 2.0: must be at most 1",
               "--max-new-tokens 0: must be at least 1", "did you mean '--temperature'"]),
        (["--logprobs", "-1", "--seed", "x"], b"", ["--logprobs -1", "--seed x"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_all_at_once(write, flags, stdin, words):
    code, out, err = write(*flags, stdin=stdin)
    assert (code, out) == (2, "")
    assert all(word in err for word in words), err


def test_a_folder_that_is_no_model_is_named(write, tmp_path):
    code, _, err = write(folder=tmp_path)
    assert code == 2 and str(tmp_path) in err
    code, _, err = write(folder=tmp_path / "gone")
    assert code == 2 and "gone: there is no such" in err


def test_a_gpt2_folder_is_read(write, tmp_path, shared_data):
    """With GPT-2's own tokenizer, whose vocabulary is smaller than this model's."""
    tt.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50304, block_size=32, n_layer=1, n_head=2, n_embd=8))
    model.save_pretrained(tmp_path)
    code, _, err = write("--prompt", "Hello", folder=tmp_path)
    assert code == 2 and "has no tokenizer" in err
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / name).write_bytes((shared_data / "gpt2_bpe" / name).read_bytes())
    flags = ("--prompt", "Hello wörld", "--max-new-tokens", "40")
    code, out, _ = write(*flags, "--json", folder=tmp_path)
    record = json.loads(out)
    assert code == 0 and record["prompt"] == "Hello wörld" and max(record["ids"]) < 50257
    streamed = write(*flags, "--stream", folder=tmp_path)[1]
    assert streamed == "Hello wörld" + record["text"] + "\n"


def test_a_reader_that_has_seen_enough_ends_it_quietly(repo, small_run):
    flags = ["--stream", "--max-new-tokens", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt.generate", str(small_run), *flags],
        cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141
