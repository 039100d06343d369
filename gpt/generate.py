"""Continue prompts with a trained model: `python -m gpt.generate RUN|FOLDER --prompt TEXT`."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .completion import Completion, complete, encode, write
from .errors import ConfigError, UserError, command
from .options import Group, Parser, option, resolve
from .sampling import Sampler

if TYPE_CHECKING:
    from .precision import Precision

__all__ = ["complete", "load_model", "main"]

T = TypeVar("T")


@dataclass(frozen=True)
class Common(Group):
    """Common: what gpt.chat has, too."""

    seed: int = option(1337, "same seed, same text; sample i does not depend on --num-samples",
                       at_least=0, below=2**64)
    device: str = option(
        "auto", "cpu, cuda, cuda:N, or auto: cuda where it works, else cpu",
        pattern=r"auto|cpu|cuda(:\d+)?", expected="cpu, cuda, cuda:N or auto",
    )
    dtype: str = option(
        "auto", "what products are computed in: float32, tf32, bfloat16 or float16; auto is what "
        "the run was trained in, and float32 on a CPU",
        choices=("auto", "float32", "tf32", "bfloat16", "float16"),
    )
    ema: bool = option(False, "with the averaged weights of a run that was trained with --ema")
    sampler: Sampler = Sampler()


@dataclass(frozen=True)
class Writing(Common):
    """Writing: how much, how often, and where."""

    max_new_tokens: int = option(500, "tokens to write at most", at_least=1)
    num_samples: int = option(1, "continuations of each prompt", at_least=1)
    logprobs: int = option(
        0, "show each token's log probability, and so many of the likeliest in its place",
        at_least=0,
    )


@command
def main() -> int:
    space, writing = from_command_line(sys.argv[1:])
    prompts = list(read_prompts(space))
    precision = precision_of(space.run, writing)
    model, tokenizer, name = load_model(space.run, writing.device, writing.ema)
    ids = encode_all(tokenizer, prompts)
    show = Printer(space, name, writing)
    with precision.computing():
        write_all(model, tokenizer, prompts, ids, space, writing, show)
    return 0


def write_all(
    model: Any, tokenizer: Any, prompts: Any, ids: Any, space: Namespace, writing: Writing,
    show: "Printer",
) -> None:  # fmt: skip
    if show.streaming:
        for (_, prompt), one in zip(prompts, ids):
            for sample in range(writing.num_samples):
                show.begin(prompt)
                show.end(prompt, sample, go_on(model, tokenizer, [one], [sample], space, writing,
                                               show.piece)[0][0])  # fmt: skip
    else:
        done = go_on(model, tokenizer, ids, range(writing.num_samples), space, writing)
        for (_, prompt), texts in zip(prompts, done):
            for sample, text in enumerate(texts):
                show.begin(prompt)
                show.piece(text.text)
                show.end(prompt, sample, text)


def go_on(
    model: Any, tokenizer: Any, ids: Any, samples: Any, space: Namespace, w: Writing,
    show: Any = None,
) -> list[list[Completion]]:  # fmt: skip
    return write(model, tokenizer, ids, w.sampler, max_new_tokens=w.max_new_tokens,
                 samples=samples, seed=w.seed, stops=stops_of(space), alternatives=w.logprobs,
                 show=show)  # fmt: skip


def load_model(path: str, device: str, averaged: bool = False) -> tuple[Any, Any, str]:
    """(model, its tokenizer, its name) from a run, a checkpoint or a folder of GPT-2's kind.

    averaged  with the weights that a run's --ema kept

    Raises CheckpointError or PretrainedError for what is none of them, or damaged.
    """
    import tinytensor as tt

    from .checkpoint import Checkpoint
    from .models import build_model
    from .pretrained import is_run, load, open_source

    where = str(tt.backend.resolve(device))
    folder = Path(path).expanduser()
    if not is_run(folder):
        source = open_source(folder, averaged)
        if source.tokenizer is None:
            raise UserError(f"{path}: has no tokenizer: put vocab.json and merges.txt beside the "
                            "weights, as they came with the model")  # fmt: skip
        return load(source, where), source.tokenizer, f"{folder.name}, {source.kind}"
    saved = Checkpoint.find(folder)
    model = build_model(saved.config).to(where)
    saved.load_into(model, averaged=averaged)
    return model, saved.tokenizer, f"{folder.name} at step {saved.step}"


def precision_of(path: str, asked: Common) -> "Precision":
    """What --dtype stands for, with the model at `path`."""
    import tinytensor as tt

    from .checkpoint import Checkpoint
    from .precision import Precision
    from .pretrained import is_run

    device, dtype = tt.backend.resolve(asked.device), asked.dtype
    if dtype == "auto":
        folder, dtype = Path(path).expanduser(), "float32"
        if device.type == "cuda" and is_run(folder):
            dtype = Checkpoint.find(folder).config.run.dtype
    return Precision(dtype, device)


# ------------------------------------------------------------------------------ what is asked


def from_command_line(argv: list[str]) -> tuple[Namespace, Writing]:
    """What `python -m gpt.generate ARGV` asks for, or all problems at once."""
    parser = Parser(Writing, usage="python -m gpt.generate RUN|FOLDER [--prompt TEXT] [flags]",
                    description="Continue prompts with a run's last checkpoint or a GPT-2 folder.")
    add_model_arguments(parser)
    prompts = parser.add_argument_group("Prompts", "what is continued; nothing: a new text")
    prompts.add_argument("--prompt", action="append", metavar="TEXT",
                         help="text to continue; may be given several times")
    prompts.add_argument("--file", metavar="FILE", help="continue what a file holds")
    prompts.add_argument("--stdin", action="store_true", help="continue what is piped in")
    prompts.add_argument("--lines", action="store_true",
                         help="each line of --file or --stdin is a prompt of its own")
    output = parser.add_argument_group("Output", "what is printed")
    output.add_argument("--stream", action="store_true", default=None,
                        help="print as it is written, one text after the other; on by itself for "
                        "one text on a terminal")
    output.add_argument("--no-stream", dest="stream", action="store_false",
                        help="print when all is written")
    output.add_argument("--json", action="store_true",
                        help="one JSON object per text: prompt, sample, seed, text, ids, logprobs, "
                        "finish_reason, model, timings")
    space, values, problems = parser.read(argv)
    if space.run is None:
        problems.append("name a run or a folder: python -m gpt.generate runs/tales")
    sources = [flag for flag, given in (("--prompt", space.prompt), ("--file", space.file),
                                        ("--stdin", space.stdin)) if given]  # fmt: skip
    if len(sources) > 1:
        problems.append(f"{' and '.join(sources)}: name one source of prompts")
    if space.lines and not (space.file or space.stdin):
        problems.append("--lines: needs --file or --stdin")
    if space.json and space.stream:
        problems.append("--json and --stream: JSON is printed when a text is finished; leave one "
                        "of them out")
    return space, resolve(Writing, values, problems)


def add_model_arguments(parser: Parser) -> None:
    """Flags that gpt.chat has, too."""
    parser.add_argument("run", nargs="?", metavar="RUN|FOLDER",
                        help="a run folder, one checkpoint, or a folder with GPT-2's files")
    parser.add_argument("--stop", action="append", metavar="TEXT", default=[],
                        help=r"end before this text; \n is a newline; may be given several times")


def stops_of(space: Namespace) -> list[str]:
    return [stop.replace("\\n", "\n") for stop in space.stop]


def read_prompts(space: Namespace) -> Iterator[tuple[str, str]]:
    """(where it comes from, prompt). A newline at the very end of a file is the editor's."""
    if not (space.file or space.stdin):
        many = len(space.prompt or [""]) > 1
        for i, prompt in enumerate(space.prompt or [""], 1):
            yield f"--prompt {i}" if many else "--prompt", prompt
        return
    where = f"--file {space.file}" if space.file else "--stdin"
    try:
        data = Path(space.file).expanduser().read_bytes() if space.file else sys.stdin.buffer.read()
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from error
    text = utf8(data, where)
    if not space.lines:
        yield where, text.removesuffix("\n")
        return
    lines = [(f"{where} line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line]
    if not lines:
        raise UserError(f"{where}: has no line with a prompt in it")
    yield from lines


def utf8(data: bytes, where: str) -> str:
    """Bytes as text; a UserError says where they are not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{where}: is not UTF-8: byte 0x{data[error.start]:02x} at position {error.start:,} "
            f"(line {line:,}); convert it first, for example with iconv -t utf-8"
        ) from None


def encode_all(tokenizer: Any, prompts: list[tuple[str, str]]) -> list[list[int]]:
    """The ids of all prompts, or what is wrong with each."""
    ids, problems = [], []
    for where, prompt in prompts:
        try:
            prompt.encode("utf-8")  # an argument that was no UTF-8 holds lone surrogates
            ids.append(encode(tokenizer, prompt))
        except UnicodeEncodeError as error:
            problems.append(f"{where}: is not UTF-8 at position {error.start}")
        except UserError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise ConfigError(problems)
    return ids


# ------------------------------------------------------------------------------ what is printed


class Printer:
    """Texts to standard output, each begun, printed in pieces and ended: plain, or as JSON."""

    def __init__(self, space: Namespace, name: str, writing: Writing):
        self.json, self.name, self.writing = space.json, name, writing
        one = writing.num_samples == 1 and len(space.prompt or [""]) == 1 and not space.lines
        self.streaming = not space.json and (
            sys.stdout.isatty() and one if space.stream is None else space.stream
        )
        self.first = True

    def begin(self, prompt: str) -> None:
        if not self.json:
            self.piece(prompt if self.first else f"---\n{prompt}")
        self.first = False

    def piece(self, text: str) -> None:
        if not self.json:
            sys.stdout.write(text)
            if self.streaming:
                sys.stdout.flush()

    def end(self, prompt: str, sample: int, text: Completion) -> None:
        if self.json:
            print(json.dumps(self.record(prompt, sample, text), ensure_ascii=False))
            return
        print()
        if self.writing.logprobs:
            print(table(text.logprobs))

    def record(self, prompt: str, sample: int, text: Completion) -> dict[str, Any]:
        return {
            "prompt": prompt,
            "sample": sample,
            "seed": self.writing.seed,
            "text": text.text,
            "ids": text.ids,
            "logprobs": text.logprobs if self.writing.logprobs else None,
            "finish_reason": text.finish_reason,
            "model": self.name,
            "timings": {"seconds": round(text.seconds, 4), "tokens": len(text.ids),
                        "tokens_per_s": round(len(text.ids) / text.seconds, 2)},
        }  # fmt: skip


def table(logprobs: list[dict[str, Any]]) -> str:
    """A line per token: its log probability, and the likeliest in its place."""
    rows = [f"\n{'ln p':>8}  token, and the likeliest in its place"]
    for one in logprobs:
        others = "  ".join(f"{t['token']!r} {t['logprob']:.3f}" for t in one["top"])
        rows.append(f"{one['logprob']:8.3f}  {one['token']!r:12}  {others}")
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
