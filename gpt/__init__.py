"""Language models on tinytensor, and the commands that train them and read from them.

Names load when first used: `python -m gpt.doctor` must run where the engine cannot.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt.bigram import Bigram as Bigram
    from gpt.config import GPTConfig as GPTConfig
    from gpt.model import GPT as GPT

_HOME = {"GPT": "gpt.model", "Bigram": "gpt.bigram", "GPTConfig": "gpt.config"}
__all__ = ["GPT", "Bigram", "GPTConfig"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'gpt' has no attribute {name!r}")
