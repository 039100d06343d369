"""Convert models between formats: `python -m gpt.convert SOURCE DEST [--format hf|run|pickle]`."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import ConfigError, UserError, command
from .options import Group, Parser, option, resolve


@dataclass(frozen=True)
class Conversion(Group):
    """Conversion: what is written, and what the source does not say of itself."""

    format: str = option(
        "auto", "of DEST: hf is a Hugging Face folder, run is for gpt.generate and gpt.train, "
        "pickle is one file. auto: pickle if DEST ends in .pkl, else hf of a run, run of others",
        choices=("auto", "hf", "run", "pickle"),
    )
    dtype: str = option("float32", "of the stored weights; half the bytes, fewer digits",
                        choices=("float32", "float16", "bfloat16"))
    tokenizer: str = option(
        "", "where the source has none: its JSON, a folder with vocab.json and merges.txt, or a "
        ".txt whose characters are the vocabulary, as in the course",
    )
    n_head: int = option(0, "attention heads, where the source does not say; 0: it does",
                         at_least=0)
    norm_position: str = option(
        "", "pre or post, where LayerNorm is in a model of the course: post in the course, pre in "
        "the lecture it is after", pattern="|pre|post", expected="pre or post",
    )
    activation: str = option(
        "", "gelu_tanh, gelu or relu, where the source does not say",
        pattern="|gelu_tanh|gelu|relu", expected="gelu_tanh, gelu or relu",
    )
    ema: bool = option(False, "of a run that was trained with --ema, the averaged weights")
    allow_non_finite: bool = option(False, "convert weights that are NaN or infinite, too")

    def changes(self) -> dict[str, Any]:
        """The settings of the model that were given."""
        given = {"n_head": self.n_head, "norm_position": self.norm_position,
                 "activation": self.activation}  # fmt: skip
        return {name: value for name, value in given.items() if value}


@command
def main() -> int:
    paths, conversion = from_command_line(sys.argv[1:])
    source, dest = (Path(path).expanduser() for path in paths)
    free(dest)

    from .pretrained import load, open_source

    found = open_source(source, conversion.ema, **conversion.changes())
    if conversion.tokenizer:
        found.tokenizer = read_tokenizer(Path(conversion.tokenizer).expanduser(), found.config)
    kind = conversion.format
    if kind == "auto":
        is_run = found.kind.endswith("of a run")
        kind = "pickle" if dest.suffix in (".pkl", ".pickle") else "hf" if is_run else "run"
    check(kind, conversion, found, dest)
    model = load(found, allow_non_finite=conversion.allow_non_finite)
    WRITERS[kind](model, dest, found, conversion)
    count = sum(p.numel() for p in model.parameters())
    print(f"{source} ({found.kind}, {count:,} parameters) -> {dest} ({kind}, {conversion.dtype})")
    return 0


def from_command_line(argv: list[str]) -> tuple[tuple[str, str], Conversion]:
    """SOURCE, DEST and the settings that `python -m gpt.convert ARGV` asks for."""
    parser = Parser(Conversion, usage="python -m gpt.convert SOURCE DEST [flags]",
                    description="Convert a model: runs, Hugging Face folders, nanoGPT's and the "
                    "course's files, OpenAI's checkpoints. Nothing in them is executed.")
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="a folder or a file")
    parser.add_argument("dest", nargs="?", metavar="DEST", help="a new folder or file")
    space, values, problems = parser.read(argv)
    if space.source is None or space.dest is None:
        problems.append("name what to convert, and to what: python -m gpt.convert runs/tales gpt2")
    return (space.source, space.dest), resolve(Conversion, values, problems)


def free(dest: Path) -> None:
    """Nothing is overwritten, and that is said before anything is read."""
    if dest.is_dir() and not any(dest.iterdir()):
        return
    if dest.exists():
        raise UserError(f"{dest}: is there already, and nothing is overwritten; name another")
    if not dest.parent.is_dir():
        raise UserError(f"{dest.parent}: there is no such folder; make it first")


def check(kind: str, conversion: Conversion, found: Any, dest: Path) -> None:
    """What the format cannot hold, before the weights are read."""
    problems = []
    if kind == "run" and conversion.dtype != "float32":
        problems.append(f"--dtype {conversion.dtype}: a run keeps float32")
    if kind == "run" and found.tokenizer is None:
        problems.append(f"--tokenizer: {found.path} has no tokenizer, and a run needs one: name "
                        "its JSON, its folder, or the text it was trained on")  # fmt: skip
    if kind == "pickle" and conversion.dtype == "bfloat16":
        problems.append("--dtype bfloat16: NumPy, and so a pickle, has none; use --format hf")
    if kind == "pickle" and dest.is_dir():
        problems.append(f"{dest}: is a folder, and a pickle is a file")
    if problems:
        raise ConfigError(problems)


def read_tokenizer(path: Path, config: Any) -> Any:
    from . import tokenizers
    from .pretrained import check_vocabulary

    if path.is_dir():
        tokenizer = tokenizers.get(path)
    elif path.suffix == ".txt":
        from data.reading import read_text

        tokenizer = tokenizers.CharTokenizer.train(read_text(path))
    else:
        tokenizer = tokenizers.load(path)
    check_vocabulary(tokenizer, config, str(path))
    return tokenizer


# ------------------------------------------------------------------------------ writing


def write_hf(model: Any, dest: Path, found: Any, conversion: Conversion) -> None:
    model.save_pretrained(dest, tokenizer=found.tokenizer, dtype=conversion.dtype)


def write_pickle(model: Any, dest: Path, found: Any, conversion: Conversion) -> None:
    from .pickled import save_model

    weights = {name: p.numpy(force=True).astype(conversion.dtype, copy=False)
               for name, p in model.named_parameters()}  # fmt: skip
    save_model(dest, model.config, weights, found.tokenizer)


def write_run(model: Any, dest: Path, found: Any, conversion: Conversion) -> None:
    """A run of no steps: gpt.generate reads it, gpt.train --init-from starts from it."""
    import tinytensor as tt

    from . import checkpoint
    from .config import Config
    from .config_text import to_toml

    config = replace(Config(), gpt=model.config)
    config = replace(config, run=replace(config.run, out=str(dest)))
    (dest / "checkpoints").mkdir(parents=True)
    (dest / "config.toml").write_text(to_toml(config), "utf-8")
    optimizer = tt.optim.AdamW(model.parameters())
    checkpoint.save(dest / "checkpoints", 0, model, optimizer, found.tokenizer, config)


WRITERS = {"hf": write_hf, "run": write_run, "pickle": write_pickle}


if __name__ == "__main__":
    raise SystemExit(main())
