"""Texts that a model writes while it trains and at the end, kept in the run folder."""

import math

from data import tales

from . import completion
from .run import Run
from .sampling import Sampler
from .source import Source
from .state import TrainingState


def write(state: TrainingState, source: Source, run: Run) -> list[str]:
    """Samples into the run folder; the first of them, and the grammar's judgement on tales.

    They are drawn from numbers of their own: the run's stream stays where it is.
    """
    config = state.config.eval
    if not config.sample_chars:
        return []
    (texts,) = completion.write(
        state.model, state.tokenizer, [completion.encode(state.tokenizer, source.start)],
        Sampler(temperature=config.sample_temperature),
        max_new_tokens=math.ceil(config.sample_chars / source.chars_per_token),
        samples=range(config.samples), seed=state.config.run.seed,
    )  # fmt: skip
    for number, text in enumerate(texts, 1):
        run.sample(f"{state.step:06d}-{number}", text.text)
    lines = [texts[0].text.strip(), ""]
    if source.name == "tales":  # stories that the end of a sample cuts off are not judged
        END = tales.END
        whole = [t.text[: t.text.rfind(END) + len(END)] for t in texts if END in t.text]
        report = tales.check("".join(whole))
        lines += [f"Of {config.samples} such samples at temperature {config.sample_temperature}, "
                  f"{report}", ""]  # fmt: skip
    return lines
