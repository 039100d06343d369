"""What a corpus is: `python -m data.inspect PATH|NAME` reads all of it and shows it in a table.

Every byte is read once, as a stream; compression, tokenizers and n-grams are tried on a sample.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
from data import archives
from data.archives import Document
from data.errors import DataError
from data.inspect_measure import Measure
from gpt.errors import command
from gpt.options import Group, Parser, option, resolve

MB = 1 << 20


@dataclass(frozen=True)
class Inspecting(Group):
    """Inspecting: what is read, and what is tried on a sample of it."""

    tokenizer: str = option(
        "all", "tokenizers to compare: names (char,word,byte,bpe,gpt2) or files, with commas; "
        "all, or none"
    )  # fmt: skip
    vocab_size: int = option(1024, "tokens of the bpe that is trained on the sample", at_least=257)
    sample_mb: int = option(
        4, "MB of documents for compression, tokenizers and n-grams (40 MB of memory each)",
        at_least=1,
    )  # fmt: skip
    field: str = option("text", "field of JSON lines, column of parquet")
    fraction: float = option(1.0, "the first share of openwebtext's files", above=0.0)
    data_dir: str = option("", "where downloads are kept; empty is the user's cache folder")
    json: bool = option(False, "print one line of JSON last")


def inspect(path: str | Path, settings: Inspecting | None = None) -> dict[str, Any]:
    """Everything that the command shows, as plain values.

    What cannot be read is left out and counted under "skipped". Raises DataError where nothing
    can, and for a path that is neither a file nor a folder nor a corpus.
    """
    from data import inspect_models as models

    settings = settings or Inspecting()
    report = archives.Report()
    measure = Measure(settings.sample_mb * MB)
    for document in documents(path, settings, report):
        measure.add(document)
    if not measure.n_chars:
        raise DataError("; ".join([f"{path} holds no text", *report.reasons[:3]]))
    sample = measure.sample.text()
    return {
        "path": str(path),
        **measure.result(),
        "skipped": report.skipped,
        "skipped_reasons": report.reasons,
        "ignored": dict(report.ignored),
        "sample_bytes": len(sample.encode()),
        "sample_is_all": measure.sample.whole,
        "compression": models.compression(sample),
        "tokenizers": models.tokenizers(sample, names(settings.tokenizer), settings.vocab_size),
        "ngrams": models.ngrams(sample),
    }


def documents(
    path: str | Path, settings: Inspecting, report: archives.Report
) -> Iterator[Document]:
    """Every document, line ends as they are, with progress on a terminal."""
    options = archives.Options(skip_bad=True, newlines="keep", field=settings.field)
    paths = data.files(path, data_dir=settings.data_dir or None, fraction=settings.fraction)
    if not paths:  # generated
        corpus = data.load(path)
        yield from (Document(corpus.name, text) for text in (corpus.train, corpus.val))
    with progress() as advance:
        for part in paths:
            for unit in archives.units(part, options=options, report=report):
                for document in archives.documents(unit, report=report):
                    yield document
                    advance(len(document.text))


@contextmanager
def progress() -> Iterator[Callable[[int], None]]:
    """Characters so far and per second, on a terminal; silence in logs and pipes."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    columns = ("read", bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeElapsedColumn())
    with bars.Progress(*columns, console=console, transient=True,
                       disable=not console.is_terminal) as bar:  # fmt: skip
        task = bar.add_task("", total=None)
        yield lambda n: bar.advance(task, n)


def names(tokenizer: str) -> list[str]:
    """The tokenizers that --tokenizer asks for."""
    if tokenizer == "none":
        return []
    if tokenizer == "all":
        from gpt.tokenizers import NAMES

        return list(NAMES)
    return [name.strip() for name in tokenizer.split(",") if name.strip()]


@command
def main() -> int:
    path, settings = from_command_line(sys.argv[1:])
    found = inspect(path, settings)
    from data.inspect_table import show

    show(found)
    if settings.json:
        print(json.dumps(found))
    return 0


def from_command_line(argv: list[str]) -> tuple[str, Inspecting]:
    """The path and the settings that `python -m data.inspect ARGV` asks for, or all problems."""
    parser = Parser(Inspecting, usage="python -m data.inspect PATH|NAME [flags]",
                    description="Show what a corpus is: a file, a folder, an archive or a name "
                    f"({', '.join(data.names())}).")  # fmt: skip
    parser.add_argument("path", nargs="?", metavar="PATH", help="what to look at")
    space, values, problems = parser.read(argv)
    if space.path is None:
        problems.append("name a file, a folder or a corpus: python -m data.inspect my/texts")
    return space.path, resolve(Inspecting, values, problems)


if __name__ == "__main__":
    raise SystemExit(main())
