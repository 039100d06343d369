"""Texts that a model writes while it trains and at the end, kept in the run folder."""

import tinytensor as tt
from data import tales

from .generate import complete
from .run import Run
from .source import Source
from .state import TrainingState


def write(state: TrainingState, source: Source, run: Run) -> list[str]:
    """Samples into the run folder; the first of them, and the grammar's judgement on tales.

    They are drawn from numbers of their own: the run's stream is where it was.
    """
    config = state.config.eval
    if not config.sample_chars:
        return []
    samples = complete(
        state.model, state.tokenizer, source.start, config.sample_chars, config.samples,
        temperature=config.sample_temperature, generator=tt.Generator(state.config.run.seed),
    )  # fmt: skip
    for number, sample in enumerate(samples, 1):
        run.sample(f"{state.step:06d}-{number}", sample)
    lines = [samples[0].strip(), ""]
    if source.name == "tales":  # stories that the end of a sample cuts off are not judged
        whole = [s[: s.rfind(tales.END) + len(tales.END)] for s in samples if tales.END in s]
        report = tales.check("".join(whole))
        lines += [f"Of {config.samples} such samples at temperature {config.sample_temperature}, "
                  f"{report}", ""]  # fmt: skip
    return lines
