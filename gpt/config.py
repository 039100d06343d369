"""Every setting of a training run: what it is, why it is so, and what it may be.

Values are taken from the defaults below, then a preset (gpt/presets/NAME.toml), then
`--config FILE.toml`, then flags; the later one wins. What a run resolved to is printed and written
to its config.toml, which `--config` reads back. A resumed run starts from its own settings instead
of the first two, and only those marked `resumable` may differ: the others would make it another.

Needs the standard library alone, so that a wrong flag is answered before anything is loaded.
"""

import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import ConfigError, nearest
from .options import Group, Parser, build, flag_of, groups, option, own_settings, settings, typed

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class GPTConfig(Group):
    """Architecture: by itself GPT-2 small, 124,439,808 parameters; presets are smaller."""

    vocab_size: int = option(
        50257, "tokens the model knows: bpe and word are trained to have so many, other tokenizers "
        "decide for themselves", at_least=1,
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
            divisors = [n for n in range(1, min(self.n_embd, 9999) + 1) if self.n_embd % n == 0]
            near = sorted(sorted(divisors, key=lambda n: (abs(n - self.n_head), -n))[:2])
            yield "n_head", (f"must divide n_embd = {self.n_embd}, as "
                             + " or ".join(map(str, near)) + " would")


@dataclass(frozen=True)
class DataConfig(Group):
    """Data: what is read, and how it is cut."""

    data: str = option(
        "tales", "a corpus (tales, oz, dorothy, shakespeare), a text file's path, a folder that "
        "data.prepare made, or a .jsonl of prompts and completions", resumable=True,
    )
    tokenizer: str = option(
        "auto", "char, word, byte, bpe, gpt2, or the path of one that was saved; auto is that of "
        "prepared data, and char for a text"
    )
    val_fraction: float = option(
        0.1, "share of the text, from its end, that is never trained on", above=0.0, below=1.0
    )
    n_chars: int = option(
        0, "only so many characters, or so many tales; 0 takes all there is", at_least=0
    )
    data_dir: str = option("", "where downloads are kept; empty is the user's cache folder",
                           resumable=True)
    batch_size: int = option(
        12, "sequences of block_size tokens per batch; auto: as many as fit in memory, of those "
        "that a step has, and the rest by --grad-accum", at_least=1,
    )
    document_attention: bool = option(
        False, "no token sees another document than its own, and positions restart with each: for "
        "a folder that data.prepare made"
    )


@dataclass(frozen=True)
class OptimConfig(Group):
    """Optimisation: AdamW, its learning rate over time, and what steadies it."""

    max_steps: int = option(2000, "optimizer steps", at_least=1, resumable=True)
    lr: float = option(1e-3, "peak learning rate; small models bear more than large ones", above=0)
    schedule: str = option(
        "cosine", "after warmup: cosine down to min_lr, or constant at lr",
        choices=("cosine", "constant"),
    )
    min_lr: float = option(1e-4, "where the cosine ends; a tenth of lr is usual", at_least=0.0)
    decay_steps: int = option(
        0, "the step at which the cosine ends, for a run that may go on for more; 0 is max_steps",
        at_least=0,
    )
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
    skip_spikes: float = option(
        0.0, "leave out a step whose loss lies so many standard deviations above the recent ones; "
        "0 never does", at_least=0.0,
    )
    ema: float = option(
        0.0, "decay of an average of the weights, as 0.999, which evaluations and samples are then "
        "of; 0 keeps none", at_least=0.0, below=1.0,
    )
    max_skipped: int = option(
        10, "steps left out in a row, for a spike or a number that is not finite, before the run "
        "stops and keeps what is needed to repeat the last of them", at_least=0, resumable=True,
    )

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        falls = ok("lr", "min_lr", "schedule") and self.schedule == "cosine"
        if falls and self.min_lr > self.lr:
            yield "min_lr", f"must not exceed lr = {self.lr}, unless schedule is 'constant'"
        if ok("warmup_steps", "max_steps") and self.warmup_steps > self.max_steps:
            yield "warmup_steps", f"must not exceed max_steps = {self.max_steps}"
        if ok("warmup_steps", "decay_steps") and 0 < self.decay_steps < self.warmup_steps:
            yield "decay_steps", f"must not be below warmup_steps = {self.warmup_steps}"


@dataclass(frozen=True)
class EvalConfig(Group):
    """Evaluation: how often, and on how much."""

    eval_every: int = option(250, "steps between evaluations; the last step is always one",
                             at_least=1, resumable=True)
    eval_batches: int = option(
        20, "batches of train and of val; always the same ones, so losses compare", at_least=1
    )
    also_evaluate: str = option(
        "", "a second corpus or text, never learned from, whose loss is reported beside val's: "
        "what fine-tuning forgets"
    )
    final_chars: int = option(
        200_000, "held-out text that the last loss is measured on: each character (token) once, "
        "with at least half a block before it", at_least=2, resumable=True,
    )
    log_every: int = option(
        10, "steps between readings of the loss: reading it waits for the device", at_least=1,
        resumable=True,
    )
    patience: int = option(
        0, "evaluations in a row without a better val loss after which the run stops; 0 never does",
        at_least=0, resumable=True,
    )
    samples: int = option(4, "texts written at the end, side by side", at_least=1, resumable=True)
    sample_every: int = option(0, "steps between such texts; 0 writes them at the end only",
                               at_least=0, resumable=True)
    sample_chars: int = option(600, "characters of each; 0 writes none", at_least=0, resumable=True)
    sample_temperature: float = option(
        0.7, "of these texts; 1 is as the model learned, slips and all, lower is safer",
        at_least=0.0, resumable=True,
    )


@dataclass(frozen=True)
class RunConfig(Group):
    """Run: where it happens and where it is kept."""

    out: str = option("", "run folder; empty takes the next free runs/PRESET, runs/PRESET-2, ...")
    device: str = option(
        "auto", "cpu, cuda, cuda:N, or auto: cuda where it works, else cpu",
        pattern=r"auto|cpu|cuda(:\d+)?", expected="cpu, cuda, cuda:N or auto", resumable=True,
    )
    dtype: str = option(
        "float32", "what matrix products are of: tf32, bfloat16, or float16, whose loss is scaled; "
        "those on CUDA alone, where they are several times faster. Weights stay float32",
        choices=("float32", "tf32", "bfloat16", "float16"),
    )
    graph: bool = option(
        True, "on CUDA, capture a step as one graph and launch that: the same numbers, without the "
        "time Python takes. Not with --document-attention", resumable=True,
    )
    seed: int = option(1337, "of weights, batches, dropout and samples: same seed, same run",
                       at_least=0, below=2**64)
    checkpoint_activations: bool = option(
        False, "keep the input of each block alone and compute the rest again in backward: the "
        "same numbers, in less memory and a third more time", resumable=True,
    )
    save_every: int = option(0, "steps between checkpoints; 0 saves at the end only", at_least=0,
                             resumable=True)
    keep: int = option(
        0, "checkpoints to keep: the last so many, and the one of best val loss, which is then "
        "saved whenever there is one; 0 keeps all", at_least=0, resumable=True,
    )
    format: str = option(
        "folder", "of what is kept: a checkpoint's folder, or beside it, with pickle, the last "
        "model in one file, RUN/model.pkl", choices=("folder", "pickle"), resumable=True,
    )
    log_to: str = option(
        "", "beside metrics.jsonl and metrics.csv: tensorboard, wandb, or both with a comma",
        pattern=r"((tensorboard|wandb)(,(tensorboard|wandb))*)?", expected="tensorboard, "
        "wandb, or both with a comma between", resumable=True,
    )


@dataclass(frozen=True)
class FinetuneConfig(Group):
    """Fine-tuning: weights to begin with, and which of them may change; docs/finetuning.md."""

    init_from: str = option(
        "", "begin with the weights, settings and tokenizer of a run, a checkpoint, a folder with "
        "GPT-2's files, or a file"
    )
    freeze: str = option(
        "", "parameters that stay as they are, by name: patterns such as 'wte.*,h.[0-3].*'"
    )
    lora_rank: int = option(
        0, "train low-rank additions to Linear layers instead of the weights; 0 trains the "
        "weights", at_least=0,
    )
    lora_alpha: float = option(16.0, "additions count alpha / rank times", above=0.0)
    lora_targets: str = option("c_attn,c_proj,c_fc", "layers that get one: names or patterns")

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        if ok("lora_rank") and self.lora_rank and not self.init_from:
            yield "lora_rank", "needs --init-from: the weights it adds to are not trained"


@dataclass(frozen=True)
class Config(Group):
    """Start: what the other settings build on."""

    preset: str = option("tales", "settings to start from: a file in gpt/presets/")
    model: str = option("gpt", "gpt, or the bigram table it is held against",
                        choices=("gpt", "bigram"))
    gpt: GPTConfig = GPTConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    eval: EvalConfig = EvalConfig()
    run: RunConfig = RunConfig()

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        if None in (self.finetune, self.run, self.data):  # has problems of its own
            return
        needing = {"--init-from": self.finetune.init_from, "--format pickle":
                   self.run.format == "pickle", "--document-attention":
                   self.data.document_attention, "--checkpoint-activations":
                   self.run.checkpoint_activations}  # fmt: skip
        if ok("model") and self.model != "gpt" and any(needing.values()):
            flags = ", ".join(flag for flag, given in needing.items() if given)
            yield "model", f"must be gpt, which {flags} is for"


class CommandLine:
    """What `python -m COMMAND ARGV` asks for; `problems` are reported with those found later."""

    def __init__(self, argv: Sequence[str], command: str = "gpt.train"):
        self.command = command
        space, flags, self.problems = parser().read(argv)
        files: dict[str, Any] = {}
        self.origin = {name: f"{flag_of(name)} {{}}" for name in flags}
        if space.config is not None:
            files = read_toml(Path(space.config), self.problems)
            self.origin = {n: f"{space.config}: {n} = {{}}" for n in files} | self.origin
        self.given = files | flags
        self.resume: str | None = space.resume
        self.auto_batch = self.given.get("batch_size") == "auto"
        if self.auto_batch:  # what a step has is the preset's, and is kept
            del self.given["batch_size"]
        self.help: bool = space.help

    def config(self) -> Config:
        """The settings of a new run; one ConfigError with every problem in it."""
        try:
            values = read_preset(self.given.get("preset", Config.preset)) | self.given
        except ConfigError as error:
            raise ConfigError(self.problems + error.problems) from error
        if self.help:
            parser(values, self.command).print_help()
            raise SystemExit(0)
        problems = []
        if values.get("tokenizer") == "bpe" and "vocab_size" not in values:
            problems.append("--tokenizer bpe: needs --vocab-size, the number of tokens to train: "
                            "1024 suits a book")
        return self._build(values, problems)

    def resumed(self, saved: Config) -> Config:
        """The settings of a run that goes on: its own, but for those that may change.

        max_steps may, and the cosine still ends where it did: what the run has learned so far is
        what a longer one would have learned by then.
        """
        old, known = values_of(saved), settings(Config)
        changed = [name for name, value in self.given.items() if value != old[name]]
        fixed = [
            f"{self.origin[name].format(self.given[name])}: the run has {old[name]!r}, and with "
            "another value it would be another run"
            for name in changed if not known[name].metadata.get("resumable")
        ]  # fmt: skip
        if self.auto_batch:
            fixed.append(f"--batch-size auto: the run has {saved.data.batch_size}, and goes on "
                         "with that")  # fmt: skip
        if fixed:
            free = [flag_of(name) for name, f in known.items() if f.metadata.get("resumable")]
            fixed.append(f"--resume can change {', '.join(free)}")
        config = self._build(old | self.given, fixed)
        if config.optim.max_steps != saved.optim.max_steps and not saved.optim.decay_steps:
            ends = replace(config.optim, decay_steps=saved.optim.max_steps)
            config = replace(config, optim=ends)
        return config

    def _build(self, values: Mapping[str, Any], problems: Sequence[str]) -> Config:
        found = [*self.problems, *problems]
        try:
            config = build(Config, values, self.origin)
        except ConfigError as error:
            found += error.problems
        if found:
            raise ConfigError(found)
        return config


def from_command_line(argv: Sequence[str] | None = None) -> Config:
    """The settings of the new run that `python -m gpt.train ARGV` asks for."""
    return CommandLine(sys.argv[1:] if argv is None else argv).config()


def parser(shown: Mapping[str, Any] | None = None, command: str = "gpt.train") -> Parser:
    """The flags of gpt.train and gpt.plan; help shows the values in `shown` as defaults."""
    what = {"gpt.train": "Train a model on text.",
            "gpt.plan": "What gpt.train with these flags would cost."}[command]  # fmt: skip
    p = Parser(Config, shown, add_help=False,
               usage=f"python -m {command} [--preset NAME] [--data NAME|FILE] [flags]",
               description=f"{what} Later wins: preset, --config file, flags.")
    p.add_argument("-h", "--help", action="store_true",
                   help="show this, with the defaults of --preset, and exit")
    p.add_argument("--config", metavar="FILE", help="settings in TOML, such as a run's config.toml")
    p.add_argument("--resume", metavar="RUN", help="go on with an interrupted run, bit for bit; "
                   "flags that would make it another run are refused")
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


def values_of(config: Config) -> dict[str, Any]:
    """All settings, flat."""
    parts = [config, *(getattr(config, name) for name in groups(Config))]
    return {key: getattr(part, key) for part in parts for key in own_settings(type(part))}
