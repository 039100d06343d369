"""Every setting of a training run: what it is, why it is so, and what it may be.

Values are taken from the defaults below, then a preset (gpt/presets/NAME.toml), then
`--config FILE.toml`, then flags; the later one wins. What a run resolved to is printed and written
to its config.toml, which `--config` reads back.

Needs the standard library alone, so that a wrong flag is answered before anything is loaded.
"""

import json
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError, nearest
from .options import Group, Parser, build, flag_of, groups, option, own_settings, settings, typed

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class GPTConfig(Group):
    """Architecture: by itself GPT-2 small, 124,439,808 parameters; presets are smaller."""

    vocab_size: int = option(
        50257, "symbols the model knows; the tokenizer decides it", at_least=1, flag=False
    )
    block_size: int = option(1024, "context: how many tokens the model sees at once", at_least=1)
    n_layer: int = option(12, "blocks on top of each other: depth", at_least=1)
    n_head: int = option(12, "attention heads per block; they share n_embd equally", at_least=1)
    n_embd: int = option(768, "width of the residual stream", at_least=1)
    dropout: float = option(
        0.0, "share of activations zeroed in training; 0 unless the data is seen many times",
        at_least=0.0, below=1.0,
    )
    bias: bool = option(True, "biases in Linear and LayerNorm, as GPT-2 has; without is as good")
    norm_position: str = option(
        "pre", "LayerNorm before each sublayer (GPT-2: trains stably) or after it (the course)",
        choices=("pre", "post"),
    )
    activation: str = option(
        "gelu_tanh", "of the MLP: GPT-2 uses the tanh form of GELU, the course ReLU",
        choices=("gelu_tanh", "gelu", "relu"),
    )
    tie_weights: bool = option(
        True, "read tokens and write logits with one matrix (GPT-2), or with two (the course)"
    )
    head_bias: bool = option(False, "a bias per token in the output layer, as the course has")
    norm_eps: float = option(
        1e-5, "added to LayerNorm's variance, so that no division is by zero", above=0.0
    )
    init_std: float = option(
        0.02, "spread of the first weights; narrow models learn faster from 0.06", above=0.0
    )
    position_init: str = option(
        "normal", "positions start as noise (GPT-2), or as waves that tell distances at once",
        choices=("normal", "sinusoidal"),
    )

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        if ok("n_head", "n_embd") and self.n_embd % self.n_head:
            divisors = [n for n in range(1, self.n_embd + 1) if self.n_embd % n == 0]
            near = sorted(sorted(divisors, key=lambda n: (abs(n - self.n_head), -n))[:2])
            yield "n_head", (f"must divide n_embd = {self.n_embd}, as "
                             + " or ".join(map(str, near)) + " would")


@dataclass(frozen=True)
class DataConfig(Group):
    """Data: what is read, and how it is cut."""

    data: str = option("tales", "a corpus (tales, oz, dorothy, shakespeare) or a text file's path")
    val_fraction: float = option(
        0.1, "share of the text, from its end, that is never trained on", above=0.0, below=1.0
    )
    n_chars: int = option(
        0, "only so many characters, or so many tales; 0 takes all there is", at_least=0
    )
    data_dir: str = option("", "where downloads are kept; empty is the user's cache folder")
    batch_size: int = option(12, "sequences of block_size tokens per batch", at_least=1)


@dataclass(frozen=True)
class OptimConfig(Group):
    """Optimisation: AdamW, its learning rate over time, and what steadies it."""

    max_steps: int = option(2000, "optimizer steps", at_least=1)
    lr: float = option(1e-3, "peak learning rate; small models bear more than large ones", above=0)
    schedule: str = option(
        "cosine", "after warmup: cosine down to min_lr, or constant at lr",
        choices=("cosine", "constant"),
    )
    min_lr: float = option(1e-4, "where the cosine ends; a tenth of lr is usual", at_least=0.0)
    warmup_steps: int = option(
        100, "steps of linear rise to lr, while Adam's moments are still noise", at_least=0
    )
    beta1: float = option(0.9, "decay of Adam's mean of gradients", at_least=0.0, below=1.0)
    beta2: float = option(
        0.99, "decay of Adam's mean of squares; 0.99 suits few tokens per step, 0.95 many",
        at_least=0.0, below=1.0,
    )
    weight_decay: float = option(
        0.1, "decoupled decay of matrices; biases and gains are left alone", at_least=0.0
    )
    grad_clip: float = option(1.0, "largest global gradient norm; 0 switches it off", at_least=0.0)
    grad_accum: int = option(
        1, "batches whose gradients are averaged into one step: a larger batch in less memory",
        at_least=1,
    )

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        falls = ok("lr", "min_lr", "schedule") and self.schedule == "cosine"
        if falls and self.min_lr > self.lr:
            yield "min_lr", f"must not exceed lr = {self.lr}, unless schedule is 'constant'"
        if ok("warmup_steps", "max_steps") and self.warmup_steps > self.max_steps:
            yield "warmup_steps", f"must not exceed max_steps = {self.max_steps}"


@dataclass(frozen=True)
class EvalConfig(Group):
    """Evaluation: how often, and on how much."""

    eval_every: int = option(250, "steps between evaluations; the last step is always one",
                             at_least=1)
    eval_batches: int = option(
        20, "batches of train and of val; always the same ones, so losses compare", at_least=1
    )
    final_chars: int = option(
        200_000, "held-out text that the last loss is measured on: each character once, with at "
        "least half a block before it", at_least=2,
    )
    log_every: int = option(
        10, "steps between readings of the loss: reading it waits for the device", at_least=1
    )
    samples: int = option(4, "texts written at the end, side by side", at_least=1)
    sample_chars: int = option(600, "characters of each; 0 writes none", at_least=0)
    sample_temperature: float = option(
        0.7, "of these texts; 1 is as the model learned, slips and all, lower is safer",
        at_least=0.0,
    )


@dataclass(frozen=True)
class RunConfig(Group):
    """Run: where it happens and where it is kept."""

    out: str = option("", "run folder; empty takes the next free runs/PRESET, runs/PRESET-2, ...")
    device: str = option(
        "auto", "cpu, cuda, cuda:N, or auto: cuda where it works, else cpu",
        pattern=r"auto|cpu|cuda(:\d+)?", expected="cpu, cuda, cuda:N or auto",
    )
    seed: int = option(1337, "of weights, batches, dropout and samples: same seed, same run",
                       at_least=0, below=2**64)
    save_every: int = option(0, "steps between checkpoints; 0 saves at the end only", at_least=0)


@dataclass(frozen=True)
class Config(Group):
    """Start: what the other settings build on."""

    preset: str = option("tales", "settings to start from: a file in gpt/presets/")
    model: str = option("gpt", "gpt, or the bigram table it is held against",
                        choices=("gpt", "bigram"))
    gpt: GPTConfig = GPTConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    eval: EvalConfig = EvalConfig()
    run: RunConfig = RunConfig()


def from_command_line(argv: Sequence[str] | None = None) -> Config:
    """What `python -m gpt.train ARGV` asks for; one ConfigError with every problem in it."""
    argv = sys.argv[1:] if argv is None else argv
    space, flags, problems = parser().read(argv)
    files, origin = {}, {name: f"{flag_of(name)} {{}}" for name in flags}
    if space.config is not None:
        files = read_toml(Path(space.config), problems)
        origin = {name: f"{space.config}: {name} = {{}}" for name in files} | origin
    preset = flags.get("preset", files.get("preset", Config.preset))
    try:
        values = read_preset(preset) | files | flags
        if space.help:
            parser(values).print_help()
            raise SystemExit(0)
        config = build(Config, values, origin)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return config


def parser(shown: Mapping[str, Any] | None = None) -> Parser:
    """The flags of `python -m gpt.train`; help shows the values in `shown` as defaults."""
    p = Parser(Config, shown, add_help=False,
               usage="python -m gpt.train [--preset NAME] [--data NAME|FILE] [flags]",
               description="Train a model on text. Later wins: preset, --config file, flags.")
    p.add_argument("-h", "--help", action="store_true",
                   help="show this, with the defaults of --preset, and exit")
    p.add_argument("--config", metavar="FILE", help="settings in TOML, such as a run's config.toml")
    return p


def read_preset(name: str) -> dict[str, Any]:
    """The settings of gpt/presets/NAME.toml, flat."""
    names = [path.stem for path in PRESETS.glob("*.toml")]
    if name not in names:
        raise ConfigError([f"--preset {name}: there is no such preset{nearest(str(name), names)}"])
    problems: list[str] = []
    values = read_toml(PRESETS / f"{name}.toml", problems)
    if problems:
        raise ConfigError(problems)
    return values | {"preset": name}


def read_toml(path: Path, problems: list[str]) -> dict[str, Any]:
    """Settings in a TOML file, flat; what cannot be used is added to `problems`."""
    try:
        return flat(tomllib.loads(path.read_text("utf-8")), str(path), problems)
    except OSError as error:
        problems.append(f"--config {path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"--config {path}: not TOML: {error}")
    return {}


def flat(tables: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Settings by name, from their groups' tables (`[optim]`) or the top: names are unique."""
    known = settings(Config)
    values: dict[str, Any] = {}

    def take(name: str, value: Any, allowed: Mapping[str, Any], table: str) -> None:
        if name in allowed:
            values[name] = typed(value, known[name])
        else:
            problems.append(f"{where}: unknown setting {table}{name}{nearest(name, allowed)}")

    for name, value in tables.items():
        if name in groups(Config) and isinstance(value, dict):
            for inner, setting in value.items():
                take(inner, setting, own_settings(groups(Config)[name]), f"{name}.")
        elif isinstance(value, dict):
            problems.append(f"{where}: unknown table [{name}]{nearest(name, groups(Config))}")
        else:
            take(name, value, known, "")
    return values


def from_dict(tables: Mapping[str, Any], where: str) -> Config:
    """The configuration that `dataclasses.asdict` made a dict of; ConfigError names `where`."""
    problems: list[str] = []
    values = flat(tables, where, problems)
    if problems:
        raise ConfigError(problems)
    return build(Config, values, {name: f"{where}: {name} = {{}}" for name in values})


def summary(config: Config) -> str:
    """All settings, a paragraph per group: what a person reads before a run."""
    lines = [f"preset  {config.preset}, model {config.model}"]
    for name, group in groups(Config).items():
        values = {key: getattr(getattr(config, name), key) for key in own_settings(group)}
        text = ", ".join(f"{k} {v}" for k, v in values.items() if v != "")
        lines.append(textwrap.fill(f"{name:<8}{text}", 88, subsequent_indent=" " * 8))
    return "\n".join(lines)


def to_toml(config: Config) -> str:
    """The whole configuration as TOML, each setting with its reason; `--config` reads it back."""
    lines: list[str] = []
    for name, part in {"": config, **{g: getattr(config, g) for g in groups(Config)}}.items():
        if name:
            lines += ["", f"[{name}]"]
        for key, f in own_settings(type(part)).items():
            setting = f"{key} = {literal(getattr(part, key))}"
            lines.append(f"{setting:<24} # {f.metadata['why']}")
    return "\n".join(lines) + "\n"


def literal(value: bool | int | float | str) -> str:
    """A value in TOML. JSON's strings are TOML's but for DEL, which TOML wants escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower()
