"""What the tests of commands share: a command in this process, and a tiny run."""

import importlib
import sys
from typing import NamedTuple

import pytest
from tiny import TEXT, TINY


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
