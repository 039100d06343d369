"""From logits to the next token. Small functions on arrays of logits (V,), each with its formula.

All of it runs on the host, in NumPy and float64: the same logits and seed give the same token on
every device. Order as in Hugging Face's transformers: repetition penalty, temperature, top-k,
top-p, min-p; each cut sees what the one before it left.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinytensor import Generator
from tinytensor.random import uniform

from .errors import UserError
from .options import Group, option

STREAM = 2**32  # blocks of random numbers between one sample's stream and the next's


@dataclass(frozen=True)
class Sampler(Group):
    """Sampling: how the next token is chosen."""

    temperature: float = option(
        1.0, "1 is as the model learned; lower is safer, 0 always takes the likeliest", at_least=0.0
    )
    top_k: int = option(0, "choose among the k likeliest only; 0 is among all", at_least=0)
    top_p: float = option(
        1.0, "choose among the likeliest that together have this probability (nucleus)", above=0.0
    )
    min_p: float = option(
        0.0, "leave out tokens with less than this share of the likeliest one's probability",
        at_least=0.0,
    )  # fmt: skip
    repetition_penalty: float = option(
        1.0, "above 1 makes what the text has already said less likely (CTRL used 1.2)", above=0.0
    )

    def rules(self, ok: Callable[..., bool]) -> Iterator[tuple[str, str]]:
        for name in ("top_p", "min_p"):
            if ok(name) and getattr(self, name) > 1:
                yield name, "must be at most 1"

    def choose(self, logits: np.ndarray, seen: Sequence[int], generator: Generator) -> int:
        """The next token, given logits (V,) and the tokens that the text has already."""
        if not math.isfinite(logits.max()):  # NaN is the largest of all
            raise UserError("the model's output is not finite: did its training diverge?")
        if self.repetition_penalty != 1:
            logits = penalize(logits, seen, self.repetition_penalty)
        if self.temperature == 0:
            return int(logits.argmax())
        return pick(self.probabilities(logits), draw(generator))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """What tokens are drawn with, (V,) float64: by temperature (not 0) and the cuts."""
        logits = logits.astype(np.float64) / self.temperature
        if 0 < self.top_k < len(logits):
            logits = top_k(logits, self.top_k)
        if self.top_p < 1:
            logits = top_p(logits, self.top_p)
        if self.min_p > 0:
            logits = min_p(logits, self.min_p)
        return softmax(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """p_i = e^l_i / sum of e^l"""
    e = np.exp(logits - logits.max())
    return e / e.sum()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """ln p_i = l_i - ln sum of e^l, in float64"""
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def penalize(logits: np.ndarray, seen: Sequence[int], penalty: float) -> np.ndarray:
    """l_i / penalty where l_i > 0, l_i * penalty where not, for every token i in `seen`, once.

    Keskar et al. 2019 (CTRL), section 4.1; the sign as transformers has it, so that a penalty
    above 1 never makes a token likelier.
    """
    out, tokens = logits.copy(), np.asarray(seen)
    of = out[tokens]
    out[tokens] = np.where(of > 0, of / penalty, of * penalty)
    return out


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """-inf but for the k largest (Fan et al. 2018, section 5.4). What ties with the k-th stays."""
    return np.where(logits >= np.partition(logits, -k)[-k], logits, -np.inf)


def top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """-inf but for the fewest of the likeliest whose probabilities reach p together.

    Holtzman et al. 2020, section 3.1. At least one stays, and what ties with the last one kept.
    """
    falling = np.sort(logits)[::-1]
    total = np.cumsum(softmax(falling))
    last = min(int(np.searchsorted(total, p)), len(logits) - 1)  # the first to reach p
    return np.where(logits >= falling[last], logits, -np.inf)


def min_p(logits: np.ndarray, share: float) -> np.ndarray:
    """-inf where p_i < share * max of p (Nguyen et al. 2024): l_i < max of l + ln share."""
    return np.where(logits >= logits.max() + math.log(share), logits, -np.inf)


def pick(probabilities: np.ndarray, u: float) -> int:
    """The token at u in [0, 1) when all are laid side by side in order of their ids."""
    edges = np.cumsum(probabilities)
    at = min(u * edges[-1], np.nextafter(edges[-1], 0))  # rounding must not reach the end
    return int(np.searchsorted(edges, at, side="right"))


def stream(seed: int, sample: int) -> Generator:
    """The random numbers of one sample: a stretch of the seed's stream that no other sample uses.

    So sample i is the same text however many others are drawn beside it.
    """
    generator = Generator(seed)
    generator.block = sample * STREAM
    return generator


def draw(generator: Generator) -> float:
    """A number in [0, 1), 53 bits of it."""
    return float(uniform(np, generator.reserve(1), (), np.float64))
