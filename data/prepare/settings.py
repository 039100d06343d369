"""Every setting of a preparation: what it is, why it is so, and what it may be."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt.options import Group, Parser, option, resolve


@dataclass(frozen=True)
class Content(Group):
    """Content: what decides the bytes; a preparation is continued with the same."""

    tokenizer: str = option(
        "gpt2", "gpt2, byte, or char, word or bpe, trained on this text; or a tokenizer's file"
    )
    vocab_size: int = option(
        0, "tokens that a trained word or bpe has; 0 leaves it to the tokenizer", at_least=0
    )
    pattern: str = option("gpt2", "how a trained bpe splits text into words: as gpt2's or gpt4's",
                          choices=("gpt2", "gpt4"))
    val_fraction: float = option(
        0.0005, "share of the documents held out, chosen by a hash of their text; of a single "
        "document, so much of its end", at_least=0.0, below=1.0,
    )
    fraction: float = option(
        1.0, "share of the documents used, chosen by a hash of text and seed; of a single "
        "document, so much of its beginning", above=0.0,
    )
    seed: int = option(1337, "of that choice, and of the sample that a tokenizer is trained on",
                       at_least=0, below=2**64)
    shard_tokens: int = option(100_000_000, "tokens per shard", at_least=1)

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        if ok("fraction") and self.fraction > 1:
            yield "fraction", "must be at most 1"
        if ok("tokenizer", "pattern") and self.pattern != "gpt2" and self.tokenizer != "bpe":
            yield "pattern", "is for --tokenizer bpe, trained here"


@dataclass(frozen=True)
class Settings(Group):
    """Preparation: where it happens."""

    out: str = option("", "folder to write; empty is prepared/NAME-TOKENIZER")
    workers: int = option(0, "processes that read and encode; 0 is one per core", at_least=0)
    data_dir: str = option("", "where downloads are kept; empty is the user's cache folder")
    skip_bad: bool = option(
        False, "leave out and count what cannot be read; may be added when that ended a run"
    )
    content: Content = Content()

    @property
    def processes(self) -> int:
        return self.workers or os.cpu_count() or 1

    def folder(self, source: str) -> Path:
        name = f"{Path(source).name.split('.')[0]}-{Path(self.content.tokenizer).stem}"
        return Path(self.out or Path("prepared") / name).expanduser()


def from_command_line(argv: Sequence[str] | None = None) -> tuple[str, Settings, str]:
    """(source, settings, the command itself); one ConfigError with every problem in it."""
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(
        Settings, prog="python -m data.prepare", usage="python -m data.prepare NAME|PATH [flags]",
        description="Turn text into token shards. Interrupted, the same command continues.",
    )  # fmt: skip
    parser.add_argument("source", nargs="?", metavar="NAME|PATH",
                        help="a corpus, or a text, an archive or a folder of these")
    space, flags, problems = parser.read(argv)
    if space.source is None:
        problems.append("what is to be prepared? Name a corpus, a file or a folder")
    settings = resolve(Settings, flags, problems)
    return space.source, settings, f"python -m data.prepare {shlex.join(argv)}"
