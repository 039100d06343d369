"""`--init-from`, `--freeze`, `--also-evaluate`, `--format pickle`: what runs begin with and
end in.

Each kind of source, each kind of run stopped and resumed, and each mistake with its answer.
"""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_resume import bytes_of, metrics

from gpt.checkpoint import Checkpoint
from gpt.pretrained import open_source
from gpt.run import read_metrics
from gpt.tokenizers import CharTokenizer

pytestmark = pytest.mark.usefixtures("undrawn")
SHORT = ("--batch-size 4 --max-steps 12 --lr 1e-2 --warmup-steps 3 --grad-accum 2 --eval-every 5 "
         "--eval-batches 2 --log-every 1 --samples 1 --sample-chars 20 --device cpu").split()


@pytest.fixture(scope="module")
def places(tmp_path_factory, cats):
    """A run, and the same model in every format that a run may begin with; other texts beside."""
    import sys

    import torch
    from tiny import TINY

    from gpt import convert, train

    folder = tmp_path_factory.mktemp("places")

    def do(main, *argv):
        before, sys.argv = sys.argv, ["", *map(str, argv)]
        try:
            assert main() == 0
        finally:
            sys.argv = before

    do(train.main, *TINY, "--data", cats, "--out", folder / "run", "--format", "pickle")
    do(convert.main, folder / "run", folder / "hf")
    saved = Checkpoint.find(folder / "run")
    saved.tokenizer.save(folder / "t.json")
    CharTokenizer("xyz").save(folder / "small.json")
    CharTokenizer("".join(map(chr, range(33, 99)))).save(folder / "large.json")
    state = {name: torch.tensor(np.array(a)) for name, a in saved.weights().items()}
    args = {"n_head": 2, "bias": False, "dropout": 0.0}
    torch.save({"model": state, "model_args": args}, folder / "ckpt.pt")
    do(train.main, "--preset", "bigram", "--data", cats, "--max-steps", "2", "--out",
       folder / "bigram", "--eval-batches", "1", "--sample-chars", "0")  # fmt: skip
    (folder / "greek.txt").write_text("αβγδ " * 50)
    lines = [json.dumps({"prompt": "the cat ", "completion": "sat\n"})] * 20
    (folder / "x.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def tune(run, cats):
    """`tune("--init-from", ...)`: a short run, the architecture being the source's."""
    return lambda *argv: run("gpt.train", *SHORT, "--data", cats, *argv)


SOURCES = {
    "run": ["run"], "checkpoint": ["run/checkpoints/000012"], "pickle": ["run/model.pkl"],
    "hf": ["hf", "--tokenizer", "t.json"], "nanogpt": ["ckpt.pt", "--tokenizer", "t.json"],
}  # fmt: skip


@pytest.mark.parametrize("name, flags", SOURCES.items(), ids=SOURCES)
def test_each_source(tune, run, places, tmp_path, name, flags):
    """The first checkpoint is the source to the last bit; settings and tokenizer are its own."""
    source, *more = [places / f if (places / f).exists() else f for f in flags]
    answer = tune("--init-from", source, *more, "--out", tmp_path / "r", "--save-every", "6")
    assert answer.code == 0, answer.err
    first = Checkpoint.find(tmp_path / "r" / "checkpoints" / "000000")
    base = Checkpoint.find(places / "run")
    for key, array in base.weights().items():
        assert np.array_equal(array, first.weights()[key]), key
    assert first.tokenizer.hash == base.tokenizer.hash
    gpt = first.config.gpt
    assert (gpt.n_layer, gpt.n_embd, gpt.block_size) == (1, 16, 16)
    history = read_metrics(tmp_path / "r" / "metrics.jsonl")
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    # what it has become is a source in turn, and its settings can be repeated from its config.toml
    config = tmp_path / "r" / "config.toml"
    again = run("gpt.train", "--config", config, "--out", tmp_path / "s")
    assert again.code == 0, again.err
    assert bytes_of(tmp_path / "r", 12) == bytes_of(tmp_path / "s", 12)
    assert run("gpt.generate", tmp_path / "r", "--max-new-tokens", "3").code == 0


def test_a_shorter_context_has_the_first_positions(tune, places, tmp_path):
    answer = tune("--init-from", places / "run", "--block-size", "9", "--dropout", "0", "--out",
                  tmp_path / "r", "--save-every", "6")  # fmt: skip
    assert answer.code == 0, answer.err
    first = Checkpoint.find(tmp_path / "r" / "checkpoints" / "000000")
    wpe = Checkpoint.find(places / "run").weights()["wpe.weight"]
    assert np.array_equal(first.weights()["wpe.weight"], wpe[:9])
    assert (first.config.gpt.block_size, first.config.gpt.dropout) == (9, 0.0)


def test_frozen_parameters_stay_and_the_others_do_not(tune, places, tmp_path):
    answer = tune("--init-from", places / "run", "--freeze", "lm_head.*, h.0.mlp.c_*", "--out",
                  tmp_path / "r", "--weight-decay", "1")  # fmt: skip
    base = Checkpoint.find(places / "run").weights()
    frozen = {n for n in base if n.startswith(("lm_head", "wte", "h.0.mlp.c_"))}  # wte is tied
    trained = sum(a.size for n, a in base.items() if n not in frozen)
    assert answer.code == 0 and f"of which {trained:,} are trained" in answer.out, answer.err
    for name, array in Checkpoint.find(tmp_path / "r").weights().items():
        assert np.array_equal(array, base[name]) == (name in frozen), name


def test_a_second_text_is_evaluated_beside(tune, places, tmp_path, cats):
    other = tmp_path / "other.txt"
    other.write_text("mat the on sat cat the.\n" * 30)
    argv = ["--init-from", places / "run", "--out"]
    answer = tune(*argv, tmp_path / "r", "--also-evaluate", other)
    assert answer.code == 0 and "other, held out and never learned from" in answer.out, answer.err
    history = read_metrics(tmp_path / "r" / "metrics.jsonl")
    assert all(("also_val_loss" in r) == ("val_loss" in r) for r in history)
    assert history[-1]["final_also_val_loss"] > history[-1]["final_val_loss"]
    assert tune(*argv, tmp_path / "s").code == 0  # and changes nothing
    assert bytes_of(tmp_path / "r", 12) == bytes_of(tmp_path / "s", 12)
    same = tune(*argv, tmp_path / "t", "--also-evaluate", cats)
    last = read_metrics(tmp_path / "t" / "metrics.jsonl")[-1]
    assert same.code == 0 and last["also_val_loss"] == last["val_loss"]
    prompts = tune(*argv, tmp_path / "u", "--also-evaluate", places / "x.jsonl")
    assert prompts.code == 0, prompts.err


def test_the_pickle_is_the_last_checkpoint(places, run):
    path = places / "run" / "model.pkl"
    tree = pickle.loads(path.read_bytes())  # as the course would
    assert tree["step"] == 12 and tree["config"]["n_embd"] == 16
    ours, saved = open_source(path).weights, Checkpoint.find(places / "run").weights()
    for name, weight in ours.items():
        assert np.array_equal(weight.array, saved[name])
    texts = {run("gpt.generate", p, "--prompt", "the", "--max-new-tokens", "9").out
             for p in (path, places / "run", places / "run" / "checkpoints" / "000012")}
    assert len(texts) == 1


KINDS = {
    "lora and averages": ["--init-from", "run", "--lora-rank", "2", "--ema", "0.9",
                          "--dropout", "0.1", "--format", "pickle"],
    "frozen": ["--init-from", "run", "--freeze", "wte.*,wpe.*"],
    "examples": ["--init-from", "run", "--data", "x.jsonl", "--ema", "0.5"],
    "documents": ["--init-from", "bytes", "--data", "prepared", "--document-attention"],
}  # fmt: skip


@pytest.fixture(scope="module")
def more_places(places, cats):
    """With a prepared corpus, and a run on its bytes."""
    import sys

    from tiny import TINY

    from data.prepare.__main__ import main as prepare
    from gpt.train import main as train

    for path in range(6):
        (places / "texts").mkdir(exist_ok=True)
        (places / "texts" / f"{path}.txt").write_text(Path(cats).read_text()[: 300 + path])
    before = sys.argv
    for main, argv in ((prepare, [places / "texts", "--tokenizer", "byte", "--val-fraction", "0.3",
                                  "--out", places / "prepared"]),
                       (train, [*TINY, "--data", cats, "--tokenizer", "byte", "--out",
                                places / "bytes"])):  # fmt: skip
        sys.argv = ["", *map(str, argv)]
        assert main() == 0
    sys.argv = before
    return places


@pytest.mark.parametrize("flags", KINDS.values(), ids=KINDS)
def test_resumed_is_the_whole_run(tune, run, more_places, tmp_path, flags):
    """From the checkpoint in the middle, to the last bit; and the source may be gone."""
    names = ("run", "bytes", "x.jsonl", "prepared")
    source = tmp_path / "source"
    shutil.copytree(more_places / flags[1], source)
    argv = [str(more_places / f) if f in names else f for f in flags]
    argv[1] = str(source)
    whole, part = tmp_path / "whole", tmp_path / "part"
    answer = tune(*argv, "--save-every", "5", "--out", whole)
    assert answer.code == 0, answer.err
    shutil.copytree(whole, part)
    for step in ("000010", "000012"):
        shutil.rmtree(part / "checkpoints" / step)
    shutil.rmtree(source)
    answer = run("gpt.train", "--resume", part)
    assert answer.code == 0 and "resume  after step 5" in answer.out, answer.err
    assert bytes_of(part, 12) == bytes_of(whole, 12) and len(bytes_of(whole, 12)) >= 2
    assert metrics(part) == metrics(whole)
    assert (whole / "model.pkl").exists() == ("--format" in flags)
    if "--format" in flags:
        assert (whole / "model.pkl").read_bytes() == (part / "model.pkl").read_bytes()


FIXED = [("--init-from", "elsewhere"), ("--freeze", "wpe.*"), ("--lora-rank", "3"),
         ("--lora-alpha", "3"), ("--lora-targets", "c_fc"), ("--ema", "0.5"),
         ("--document-attention",), ("--also-evaluate", "tales")]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(places, cats, tmp_path_factory):
    import sys

    from gpt.train import main

    out = tmp_path_factory.mktemp("tuned") / "r"
    before = sys.argv
    sys.argv = ["", *SHORT, "--data", cats, "--init-from", str(places / "run"), "--lora-rank", "2",
                "--ema", "0.9", "--out", str(out)]  # fmt: skip
    assert main() == 0
    sys.argv = before
    return out


@pytest.mark.parametrize("argv", FIXED, ids=lambda argv: argv[0])
def test_what_makes_another_run_is_refused_on_resume(run, tuned, argv):
    answer = run("gpt.train", "--resume", tuned, *argv)
    assert answer.code == 2 and argv[0] in answer.err and "another run" in answer.err


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda p: p.unlink(), "ema.safetensors: is missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"x"), "ema.safetensors: is damaged"),
    ],
)
def test_damaged_averages(run, tuned, tmp_path, damage, words):
    shutil.copytree(tuned, tmp_path / "r")
    damage(tmp_path / "r" / "checkpoints" / "000012" / "ema.safetensors")
    for argv in (["gpt.train", "--resume", tmp_path / "r", "--max-steps", "14"],
                 ["gpt.generate", tmp_path / "r", "--ema"]):  # fmt: skip
        answer = run(*argv)
        assert answer.code == 2 and words in answer.err and "Traceback" not in answer.err


MISTAKES = [
    ("--init-from GONE", "--init-from {d}/gone: there is no such file or folder"),
    ("--init-from TEXT", "--init-from"),
    ("--init-from BIGRAM", "is a bigram model, not a GPT"),
    ("--init-from RUN --n-layer 2", "--n-layer 2: --init-from {d}/run has 1"),
    ("--init-from RUN --n-embd 32 --n-head 4", "--n-head 4: --init-from {d}/run has 2"),
    ("--init-from RUN --vocab-size 99", "--vocab-size 99: --init-from {d}/run has 15"),
    ("--init-from RUN --no-tie-weights", "--init-from {d}/run has True"),
    ("--init-from RUN --activation relu", "--activation relu: --init-from {d}/run has gelu_tanh"),
    ("--init-from RUN --block-size 17", "--block-size 17: --init-from {d}/run has 16, and its "
     "weights are for that: name no more"),
    ("--init-from RUN --tokenizer byte", "--tokenizer byte: {d}/run comes with another"),
    ("--init-from RUN --tokenizer SMALL", "comes with another"),
    ("--init-from HF", "--tokenizer auto: --init-from {d}/hf has no tokenizer with it"),
    ("--init-from HF --tokenizer char", "--tokenizer char: --init-from {d}/hf has no tokenizer"),
    ("--init-from HF --tokenizer LARGE", "has 66 tokens, the model's vocabulary 15"),
    ("--init-from RUN --model bigram", "--model bigram: must be gpt, which --init-from is for"),
    ("--init-from RUN --data GREEK", "'α'"),
    ("--init-from RUN --data PREPARED", "was prepared with another tokenizer than the model's"),
    ("--init-from RUN --also-evaluate GREEK", "--also-evaluate {d}/greek.txt"),
    ("--init-from RUN --also-evaluate GONE", "--also-evaluate"),
    ("--init-from RUN --freeze wtf.*", "--freeze wtf.*: matches no parameter of the model"),
    ("--init-from RUN --freeze *", "--freeze *: leaves nothing to train"),
    ("--init-from RUN --freeze ,", "--freeze ',': names no parameter"),
    ("--init-from RUN --freeze wte.*,h.7.*", "--freeze h.7.*: matches no parameter"),
    ("--init-from RUN --lora-rank -1", "--lora-rank -1: must be at least 0"),
    ("--init-from RUN --lora-rank 17", "--lora-rank 17: must not exceed 16"),
    ("--init-from RUN --lora-rank 2 --lora-alpha 0", "--lora-alpha 0.0: must be above 0"),
    ("--init-from RUN --lora-rank 2 --lora-targets mlp", "--lora-targets mlp: matches no layer"),
    ("--lora-rank 2", "--lora-rank 2: needs --init-from"),
    ("--ema 1", "--ema 1.0: must be below 1"),
    ("--ema -0.1", "--ema -0.1: must be at least 0"),
    ("--document-attention", "--document-attention: it is not known where the documents"),
    ("--document-attention --data EXAMPLES", "--document-attention: an example"),
    ("--format zip", "--format zip: must be one of folder, pickle"),
    ("--format pickle --model bigram", "must be gpt, which --format pickle is for"),
    ("--batch-size most", "--batch-size most: must be a whole number"),
    ("--resume RUN --init-from RUN", "another run"),
]  # fmt: skip


@pytest.mark.parametrize("argv, words", MISTAKES, ids=[argv for argv, _ in MISTAKES])
def test_mistakes(tune, more_places, tmp_path, monkeypatch, argv, words):
    d = more_places
    monkeypatch.chdir(tmp_path)
    names = {"RUN": "run", "HF": "hf", "GONE": "gone", "BIGRAM": "bigram", "GREEK": "greek.txt",
             "SMALL": "small.json", "LARGE": "large.json", "PREPARED": "prepared",
             "EXAMPLES": "x.jsonl", "TEXT": "greek.txt"}  # fmt: skip
    words = words.format(d=d)
    argv = [str(d / names[a]) if a in names else a for a in argv.split()]
    answer = tune("--out", "r", *argv)
    assert answer.code == 2 and words in answer.err, answer.err
    assert all(line.startswith("error: ") for line in answer.err.splitlines())
    assert not list(tmp_path.iterdir())
