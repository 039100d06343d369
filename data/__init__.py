"""Corpora: one recipe each, text read with care, batches that are a pure function of the step.

    corpus = data.load("tales")                  # or "oz", "shakespeare", "my/own.txt"
    corpus.train, corpus.val, corpus.floor       # two texts; nats per character, where known
    batches = data.Batches(tokens, block_size=64, batch_size=12, seed=1337)
    x, y = batches.batch(step)                   # int64 (B, T): windows and what follows them
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from data.batches import Batches, split
from data.corpus import Corpus, Floor, Options, from_text
from data.errors import DataError
from data.prepared import open_prepared
from data.reading import Newlines, read_text

__all__ = [
    "Batches", "Corpus", "DataError", "Floor", "files", "load", "names", "open_prepared",
    "read_text", "split",
]  # fmt: skip


def names() -> list[str]:
    """The corpora known by name, the default first."""
    from data.recipes import RECIPES

    return list(RECIPES)


def load(
    name_or_path: str | Path,
    *,
    val_fraction: float = Options.val_fraction,
    n_chars: int | None = None,
    seed: int = Options.seed,
    newlines: Newlines = Options.newlines,
    data_dir: str | Path | None = None,
    fraction: float = Options.fraction,
) -> Corpus:
    """A corpus by name (`data.names()`), or any text file by its path; a name wins over a file.

    val_fraction: the share held out, the end of the text; for tales, stories of its own.
    n_chars: only the first so many characters; for tales, how many to generate.
    seed: of generated corpora. newlines: "lf" or "keep", see `read_text`.
    data_dir: where downloads are kept, see `download.cache_folder`.
    fraction: how much of a corpus in many files, see `recipes.openwebtext`.

    Raises DataError: unknown name, unreadable or too short text, failed download; and for an
    archive or a corpus too large for memory, which `python -m data.prepare` makes tokens of.
    """
    from data.recipes import RECIPES

    options = Options(val_fraction, n_chars, seed, newlines, data_dir, fraction)
    name = str(name_or_path)
    if name in RECIPES:
        return RECIPES[name].corpus(options)
    path = _existing(name)
    return from_text(path.stem, read_text(path, options.newlines), str(path), options)


def files(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    fraction: float = Options.fraction,
) -> list[Path]:
    """The files of a corpus, verified, downloaded if need be; or the path itself, which exists.

    Files and folders are for `data.archives`. A generated corpus has none: []. Raises DataError.
    """
    from data.recipes import RECIPES

    name = str(name_or_path)
    if name in RECIPES:
        made = RECIPES[name].files
        return made(Options(data_dir=data_dir, fraction=fraction)) if made else []
    return [_existing(name)]


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    close = get_close_matches(name.lower(), names(), n=1)
    raise DataError(
        f"{name!r} is neither a corpus nor a file"
        + (f"; did you mean {close[0]!r}? " if close else ". ")
        + f"Corpora are {', '.join(names())}; the path of any UTF-8 text file works too"
    )
