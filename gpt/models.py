"""The models that a run can train, by the name that `--model` gives them, and what is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lora, pretrained
from .bigram import Bigram
from .config import Config
from .errors import ConfigError
from .model import GPT
from .patterns import matching

if TYPE_CHECKING:
    from .pretrained import Source


def build_model(config: Config, start: Source | None = None) -> Any:
    """The model that `config.model` names, its weights drawn from the global generator.

    start  what its weights are to begin with instead; it is empty afterwards
    """
    if config.model != "gpt":
        model: Any = Bigram(config.gpt.vocab_size)
    else:
        model = GPT(config.gpt) if start is None else pretrained.load(start).train()
    if config.finetune.lora_rank:
        lora.add(model, config.finetune)
    if config.run.checkpoint_activations:
        model.checkpoint_activations = True
    if config.finetune.freeze:
        freeze(model, config.finetune.freeze)
    return model


def freeze(model: Any, patterns: str) -> None:
    """Stop training the parameters that any of the patterns, with commas between, matches."""
    named = model.state_dict(keep_vars=True)  # a tied matrix under both of its names
    for name in matching("freeze", patterns, named, "parameter"):
        named[name].requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError([f"--freeze {patterns}: leaves nothing to train"])
