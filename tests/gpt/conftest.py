"""What the tests of commands share: a command in this process, a tiny run, one untrained."""

import importlib
import sys
from typing import NamedTuple

import pytest
from tiny import TEXT, TINY

SMALL_CHARS = "\n abcdeé€.T"


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys):
    """`run("gpt.train", "--lr", "1e-3")`: what the command answers, here and not in a process."""

    def run(module: str, *argv: str) -> Answer:
        main = importlib.import_module(module).main
        monkeypatch.setattr(sys, "argv", [module, *map(str, argv)])
        capsys.readouterr()
        code = main()
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def cats(tmp_path_factory) -> str:
    """The path of a small text."""
    path = tmp_path_factory.mktemp("text") / "cats.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def train(run, cats):
    """`train("--out", folder, ...)`: a tiny run on it; later flags win."""
    return lambda *argv: run("gpt.train", *TINY, "--data", cats, *argv)


@pytest.fixture
def undrawn(monkeypatch):
    """Runs draw no curve, which takes them longer than all else."""
    monkeypatch.setattr("gpt.train.plot", lambda *args, **options: None)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run folder with one checkpoint: a random GPT over SMALL_CHARS that sees 16 characters."""
    import tinytensor as tt
    from gpt import checkpoint
    from gpt.config import Config, GPTConfig
    from gpt.model import GPT
    from gpt.state import build_optimizer
    from gpt.tokenizers import CharTokenizer

    folder = tmp_path_factory.mktemp("run")
    tokenizer = CharTokenizer(SMALL_CHARS)
    gpt = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=8,
                    init_std=0.3)  # fmt: skip
    config = Config(gpt=gpt)
    tt.manual_seed(0)
    model = GPT(gpt)
    (folder / "checkpoints").mkdir()
    optimizer = build_optimizer(model, config.optim)
    checkpoint.save(folder / "checkpoints", 1, model, optimizer, tokenizer, config)
    return folder
