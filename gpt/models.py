"""The models that a run can train, by the name that `--model` gives them."""

from typing import Any

from .bigram import Bigram
from .config import Config
from .model import GPT


def build_model(config: Config) -> Any:
    """The model that `config.model` names, its weights drawn from the global generator."""
    return GPT(config.gpt) if config.model == "gpt" else Bigram(config.gpt.vocab_size)
