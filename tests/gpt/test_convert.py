"""python -m gpt.convert, as a user meets it: what goes in comes out, mistakes are one sentence."""

import json
import pickle
import pickletools
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from peers.gpt2 import GPT2LMHeadModel, course_model, random_gpt2

import tinytensor as tt
from gpt import convert
from gpt.checkpoint import Checkpoint
from gpt.model import GPT
from gpt.tokenizers import CharTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz .,\n"  # 30 characters


@pytest.fixture
def run(monkeypatch, capsys):
    """run("SOURCE", "DEST", ...) -> (exit code, output, errors)"""

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["convert", *map(str, argv)])
        code = convert.main()
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("convert") / "hf"
    random_gpt2().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "letters.txt"
    path.write_text(LETTERS)
    return path


def logits(model, vocab_size=29):
    ids = np.random.default_rng(0).integers(0, vocab_size, (2, 16))
    if isinstance(model, GPT):
        with tt.no_grad():
            return model(tt.tensor(ids), tt.tensor(ids))[0].numpy()
    with torch.no_grad():
        out = model(torch.tensor(ids))
    return getattr(out, "logits", out).numpy()


def test_there_and_back_by_every_format(run, tmp_path, hf, text):
    """hf -> run -> pickle -> run -> hf: the same weights, the same tokenizer, to the last bit."""
    places = [hf, *(tmp_path / name for name in ("run", "m.pkl", "run2", "hf"))]
    for source, dest in zip(places, places[1:]):
        code, out, err = run(source, dest, *(["--tokenizer", text] if source == hf else []))
        assert (code, err) == (0, ""), err
        assert str(dest) in out and "4,356 parameters" in out
    theirs = GPT2LMHeadModel.from_pretrained(hf), GPT2LMHeadModel.from_pretrained(places[-1])
    for p, q in zip(*(model.parameters() for model in theirs), strict=True):
        assert torch.equal(p, q)
    saved = Checkpoint.find(tmp_path / "run2")
    assert saved.tokenizer.decode(saved.tokenizer.encode("a cab.\n")) == "a cab.\n"
    assert (tmp_path / "run2" / "config.toml").exists() and saved.step == 0


def test_a_run_is_written_to_by_default_and_generates(run, repo, tmp_path, hf, text):
    run(hf, tmp_path / "run", "--tokenizer", text)
    done = subprocess.run(
        [sys.executable, "-m", "gpt.generate", tmp_path / "run", "--prompt", "abc",
         "--max-new-tokens", "5"],
        cwd=repo, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and len(done.stdout) > 5, done.stderr


def test_the_courses_model_becomes_a_run(run, monkeypatch, tmp_path, text):
    theirs = course_model(monkeypatch, vocab_size=30)
    with (tmp_path / "model-01.pkl").open("wb") as file:
        pickle.dump(theirs, file)
    code, out, err = run(tmp_path / "model-01.pkl", tmp_path / "run", "--tokenizer", text)
    assert (code, err) == (0, "") and "a model of the course" in out
    saved = Checkpoint.find(tmp_path / "run")
    assert saved.tokenizer.hash == CharTokenizer.train(LETTERS).hash
    ours = logits(GPT.from_pretrained(tmp_path / "run"))
    np.testing.assert_allclose(ours, logits(theirs), rtol=0, atol=1e-5 * np.abs(ours).max())
    code, _, err = run(tmp_path / "run", tmp_path / "hf")
    assert code == 2 and "GPT-2 does not have LayerNorm after each sublayer" in err
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes(run, tmp_path, hf, dtype):
    assert run(hf, tmp_path / "out", "--format", "hf", "--dtype", dtype)[0] == 0
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert size < 4356 * (4 if dtype == "float32" else 2) + 4000
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "out", dtype=getattr(torch, dtype))
    original = GPT2LMHeadModel.from_pretrained(hf).to(getattr(torch, dtype))
    for p, q in zip(again.parameters(), original.parameters(), strict=True):
        assert torch.equal(p, q)


def test_gpt2s_tokenizer_travels(run, shared_data, tmp_path):
    """encoder.json and vocab.bpe become vocab.json and merges.txt, and transformers reads them."""
    from gpt import tokenizers

    if not hasattr(tokenizers, "get"):
        pytest.skip("gpt.tokenizers has no get")
    random_gpt2(vocab_size=50257, n_embd=4, n_head=1, n_layer=1).save_pretrained(tmp_path / "hf")
    code, _, err = run(tmp_path / "hf", tmp_path / "run", "--tokenizer", shared_data / "gpt2_bpe")
    assert code == 0, err
    assert run(tmp_path / "run", tmp_path / "out")[0] == 0
    from transformers import GPT2Tokenizer

    theirs, ours = GPT2Tokenizer.from_pretrained(tmp_path / "out"), tokenizers.get(tmp_path / "out")
    for line in ("Hello, world!", "naïve café — 東京 🙂\n\n  x = 1"):
        assert theirs.encode(line) == ours.encode(line).tolist()
    assert theirs.encode("Hello, world!") == [15496, 11, 995, 0]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 50256


def test_nothing_is_overwritten(run, tmp_path, hf):
    (tmp_path / "file.pkl").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine")
    for dest in ("file.pkl", "full"):
        code, _, err = run(hf, tmp_path / dest)
        assert code == 2 and "is there already, and nothing is overwritten" in err
    assert (tmp_path / "file.pkl").read_text() == (tmp_path / "full" / "a").read_text() == "mine"


MISTAKES = {
    "nothing": ([], "name what to convert, and to what"),
    "no dest": (["HF"], "name what to convert, and to what"),
    "no source": (["gone", "DEST"], "gone: there is no such file or folder"),
    "no parent": (["HF", "DEST/a/b"], "there is no such folder; make it first"),
    "no tokenizer": (["HF", "DEST"], "has no tokenizer, and a run needs one"),
    "format": (["HF", "DEST", "--format", "onnx"], "--format onnx: must be one of auto, hf, run"),
    "dtype": (["HF", "DEST", "--dtype", "int8"], "--dtype int8: must be one of float32, float16"),
    "run dtype": (["HF", "DEST", "--format", "run", "--dtype", "float16", "--tokenizer", "TEXT"],
                  "--dtype float16: a run keeps float32"),
    "pickle dtype": (["HF", "DEST.pkl", "--dtype", "bfloat16"], "NumPy, and so a pickle, has none"),
    "heads": (["HF", "DEST", "--n-head", "5"], "n_head = 5: must divide n_embd = 12"),
    "norm": (["HF", "DEST", "--norm-position", "mid"], "--norm-position mid: must be pre or post"),
    "vocabulary": (["HF", "DEST", "--tokenizer", "LARGE"],
                   "has 40 tokens, the model's vocabulary 31"),
    "tokenizer": (["HF", "DEST", "--tokenizer", "gone.json"], "gone.json cannot be read"),
    "flag": (["HF", "DEST", "--dtyp", "float16"], "unknown flag --dtyp; did you mean '--dtype'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_sentence_and_exit_code_2(run, tmp_path, hf, text, name):
    large = tmp_path / "large.txt"
    large.write_text("".join(map(chr, range(0x41, 0x41 + 40))))
    names = {"HF": hf, "TEXT": text, "LARGE": large}
    argv, words = MISTAKES[name]
    argv = [names.get(a, str(a).replace("DEST", str(tmp_path / "dest"))) for a in argv]
    code, out, err = run(*argv)
    assert code == 2 and out == "" and words in err, err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert not (tmp_path / "dest").exists()


def test_malicious_files_are_refused_as_a_command_answers(run, tmp_path):
    mark = tmp_path / "pwned"
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
    code, _, err = run(tmp_path / "model.pkl", tmp_path / "dest")
    assert code == 2 and not mark.exists()
    assert "model.pkl: refuses os.system" in err and len(err.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there os.system is nt.system")
def test_docs_pickle_md_tells_the_truth(run, repo, tmp_path, monkeypatch):
    page = (repo / "docs" / "pickle.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(page.split("```python\n")[1].split("```")[0], {"__name__": "page"})
    data = (tmp_path / "model-01.pkl").read_bytes()
    written = {f"{at:5}: {op.name}" for op, _, at in pickletools.genops(data)}
    for line in page.splitlines():
        if (m := re.match(r"( *\d+: )\S+ +([A-Z_\d]+)", line)) and m[2].isupper():
            assert m[1] + m[2] in written, line
    code, _, err = run("model-01.pkl", "dest")
    assert code == 2 and err in page


def test_help_names_every_flag(repo):
    out = subprocess.run([sys.executable, "-m", "gpt.convert", "--help"], cwd=repo,
                         capture_output=True, text=True, check=True).stdout  # fmt: skip
    for flag in ("--format", "--dtype", "--tokenizer", "--n-head", "SOURCE", "DEST"):
        assert flag in out
