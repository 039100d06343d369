"""Continue a prompt with a trained model: `python -m gpt.generate RUN --prompt TEXT`."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ConfigError, UserError, command
from .options import Group, Parser, build, flag_of, option


@dataclass(frozen=True)
class Sampling(Group):
    """Sampling: what is continued, and how the next token is chosen."""

    prompt: str = option("\n", "text to continue")
    max_new_tokens: int = option(500, "how much to write", at_least=1)
    temperature: float = option(
        1.0, "1 is as the model learned; lower is safer, 0 always takes the likeliest", at_least=0.0
    )
    top_k: int = option(0, "choose among the k likeliest only; 0 is among all", at_least=0)
    num_samples: int = option(1, "continuations of the prompt", at_least=1)
    seed: int = option(1337, "same seed, same text", at_least=0, below=2**64)
    device: str = option(
        "auto", "cpu, cuda, cuda:N, or auto: cuda where it works, else cpu",
        pattern=r"auto|cpu|cuda(:\d+)?", expected="cpu, cuda, cuda:N or auto",
    )


@command
def main() -> int:
    run, sampling = from_command_line(sys.argv[1:])

    import tinytensor as tt

    from .checkpoint import Checkpoint
    from .models import build_model

    device = tt.backend.resolve(sampling.device)
    saved = Checkpoint.find(run)
    saved.tokenizer.encode(sampling.prompt)  # an unknown character is answered before any loading
    model = build_model(saved.config).to(device)
    model.load_state_dict({name: tt.tensor(w) for name, w in saved.weights().items()})
    tt.manual_seed(sampling.seed)
    texts = complete(model, saved.tokenizer, sampling.prompt, sampling.max_new_tokens,
                     sampling.num_samples, temperature=sampling.temperature,
                     top_k=sampling.top_k or None)  # fmt: skip
    print("\n---\n".join(sampling.prompt + text for text in texts))
    return 0


def from_command_line(argv: list[str]) -> tuple[str, Sampling]:
    """The run and the settings that `python -m gpt.generate ARGV` asks for, or all problems."""
    parser = Parser(Sampling, usage="python -m gpt.generate RUN [--prompt TEXT] [flags]",
                    description="Continue a prompt with the last checkpoint of a run.")
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder, or one checkpoint")
    space, values, problems = parser.read(argv)
    if space.run is None:
        problems.append("name a run folder: python -m gpt.generate runs/tales")
    try:
        sampling = build(Sampling, values, {name: f"{flag_of(name)} {{}}" for name in values})
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return space.run, sampling


def complete(
    model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, count: int = 1, **options: Any
) -> list[str]:
    """`count` continuations of a prompt, which they do not repeat; options as model.generate's.

    They are written side by side, in one batch: many cost little more than one.
    """
    import tinytensor as tt

    ids = tokenizer.encode(prompt)
    if not len(ids):
        raise UserError("--prompt: is empty; one character at least is needed to go on from")
    device = next(iter(model.parameters())).device
    idx = tt.tensor(np.tile(ids.astype(np.int64), (count, 1)), device=device)  # (B, T)
    written = model.generate(idx, max_new_tokens, **options).cpu().numpy()[:, len(ids):]
    return [tokenizer.decode(row) for row in written]


if __name__ == "__main__":
    raise SystemExit(main())
