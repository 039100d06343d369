"""Train a model on text: `python -m gpt.train --help`.

Batches and learning rate are functions of the seed and the step, weights and dropout of the seed:
the same command gives the same run, and `--resume RUN` goes on with it as if nothing had happened.
What it does not do: use more than one device.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter

import tinytensor as tt
from tinytensor import nn

from . import checkpoint, crash, finetune, loggers, pretrained, report, samples, source
from .checkpoint import Checkpoint, CheckpointError
from .config import CommandLine, Config
from .errors import UserError, command
from .evaluate import evaluate
from .interrupt import Interrupt
from .plan import Plan, fitted
from .plot import plot
from .progress import Progress
from .resume import reopen
from .run import Run, check_out
from .schedule import learning_rate
from .state import TrainingState

DRAWN_EVERY = 30  # seconds between drawings of the curve


@command
def main() -> int:
    asked = CommandLine(sys.argv[1:])
    if asked.resume is None or asked.help:
        config, start = finetune.start(asked)
        return Training(config, start=start, auto_batch=asked.auto_batch).run()
    run, saved, config = reopen(asked)
    with run:
        return Training(config, run, saved).run()


class Training:
    """One run, from text to a trained model. Everything is checked before the first step."""

    def __init__(
        self, config: Config, run: Run | None = None, saved: Checkpoint | None = None,
        start: pretrained.Source | None = None, auto_batch: bool = False,
    ):  # fmt: skip
        """`run`: a folder to go on in; `saved`: what to go on from, else from the beginning.

        `start`: what --init-from names, for a new run; `auto_batch`: the batch is to be fitted.
        """
        if run is None:
            check_out(config.run.out)
        loggers.check(config.run.log_to)
        self.device = tt.backend.resolve(config.run.device)
        self.also: source.Source | None = None
        known = saved or start
        self.source = source.load(config, known.tokenizer if known else None)
        config = source.settled(config, self.source)
        if auto_batch:
            config = fitted(config, self.device)
        self.config = config
        self.plan = Plan(config, self.device)
        self.plan.check()
        self.batches = self.source.batches(config, "train", "train")
        self.exams = {"eval_train_loss": self.source.batches(config, "train"),
                      "val_loss": self.source.batches(config, "val")}  # fmt: skip
        if config.eval.also_evaluate:
            self.also = source.also(config, self.source.tokenizer)
            self.exams["also_val_loss"] = self.also.batches(plainly(config), "val")
        self.state = TrainingState.new(config, self.source.tokenizer, self.device, start)
        self.state.data_hash = self.source.hash
        self.model, self.optimizer, self.guard = (
            self.state.model, self.state.optimizer, self.state.guard
        )  # fmt: skip
        self.warnings: list[str] = []
        if saved is not None:
            self.state.restore(saved)
            self.warnings = self.state.differences(saved)
        self.counts = self.source.counts()
        self.folder = run or Run.create(config)
        if run is not None:
            run.begin(config, saved.state if saved else None)
        self.out_of_patience = self.impatient(self.val_losses())
        self.drawn = -math.inf

    def run(self) -> int:
        """Train to the last step, to the end of patience or to Ctrl-C; return the exit code."""
        with self.folder, self.failures():
            with Progress(self.config.optim.max_steps, self.state.step) as show:
                with Interrupt() as stop:
                    show.print(report.introduction(self))
                    self.loop(show, stop)
                    saved = self.save()
                    self.draw()
            if not self.over():
                print(report.stopped(self, saved))
                return 128 + stop.asked
            with self.state.averaged():
                print(report.conclusion(self))
        return 0

    def loop(self, show: Progress, stop: Interrupt) -> None:
        """Step after step, each followed by what is due: reading, evaluation, texts, a checkpoint.

        The order matters: a checkpoint of a step has the metrics of that step in it.
        """
        config, state, steps = self.config, self.state, self.config.optim.max_steps
        batch = config.data.batch_size * config.optim.grad_accum * self.batches.block_size
        if not self.folder.history:
            self.folder.log(0, **self.examine(show))
            if config.run.save_every:
                self.save()
        unread, seconds = 0, 0.0  # since the last reading: steps, time
        while not self.over() and not stop.asked:
            start = perf_counter()
            lr = learning_rate(state.step, config.optim)
            rng = tt.default_generator.get_state()
            loss, norm = self.step(state.step, lr)
            if self.guard.why:
                self.left_out(show, rng)
            done = state.step = state.step + 1
            unread += 1
            show.step(done)
            exam_due = done % config.eval.eval_every == 0 or done == steps
            due = exam_due or done == 1 or done % config.eval.log_every == 0
            if due:  # reading a number waits for the device
                metrics = {"train_loss": loss.item(), "lr": lr, "grad_norm": norm.item()}
            seconds += perf_counter() - start
            if due:
                metrics["tokens_per_s"] = round(unread * batch / seconds)
                unread, seconds = 0, 0.0
                show.update(done, **metrics)
                metrics["skipped"] = self.guard.skipped
                if exam_due:
                    metrics |= self.examine(show)
                self.folder.log(done, **metrics)
            if config.eval.sample_every and done % config.eval.sample_every == 0:
                with state.averaged():
                    samples.write(state, self.source, self.folder)
            if self.save_due(exam_due):
                self.save()

    def step(self, step: int, lr: float) -> tuple[tt.Tensor, tt.Tensor]:
        """One optimizer step, unless the guard forbids it; its loss and gradient norm, unread."""
        accum, clip = self.config.optim.grad_accum, self.config.optim.grad_clip
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        total = self.state.gradients(self.batches.batch(step * accum + i) for i in range(accum))
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        if self.guard.allows(total, norm):
            if clip:  # in the optimizer's own pass over the gradients
                self.optimizer.grad_scale = ((norm + 1e-6) / clip).clamp(min=1)
            self.optimizer.step()
            if self.state.ema:
                self.state.ema.update(step + 1)
        return total, norm

    def over(self) -> bool:
        """Whether the run has come to its end, by its number of steps or by its patience."""
        return self.state.step >= self.config.optim.max_steps or self.out_of_patience

    def impatient(self, losses: Mapping[int, float]) -> bool:
        """Whether the evaluations since the best are as many as patience allows."""
        since = list(losses).index(best(losses)) if losses else 0
        return 0 < self.config.eval.patience <= len(losses) - 1 - since

    def val_losses(self) -> dict[int, float]:
        """By step, in order; NaN, which a record has as null, is as bad as can be."""
        history = [r for r in self.folder.history if "val_loss" in r]
        return {r["step"]: math.inf if r["val_loss"] is None else r["val_loss"] for r in history}

    def examine(self, show: Progress) -> dict[str, float]:
        """Losses on the batches that stay the same, printed beside the floor."""
        with self.state.averaged():
            count = self.config.eval.eval_batches
            losses = {name: evaluate(self.model, batches, count, self.device)
                      for name, batches in self.exams.items()}  # fmt: skip
            show.print(report.exam(self, **losses))
            seen = self.val_losses() | {self.state.step: losses["val_loss"]}
            self.out_of_patience = self.impatient(seen)
            if self.over():
                losses["final_val_loss"] = self.final_loss()
                if self.also:
                    losses["final_also_val_loss"] = self.final_loss(self.also)
        if not self.source.by_char:
            losses["val_bits_per_byte"] = (
                losses["val_loss"] / self.source.bytes_per_token / math.log(2)
            )  # fmt: skip
        return losses

    def final_loss(self, of: source.Source | None = None) -> float:
        """Of the text held out, each token once; or of the one of --also-evaluate."""
        if of is not None:
            return of.final_loss(self.model, plainly(self.config), self.device)
        return self.source.final_loss(self.model, self.config, self.device)

    def left_out(self, show: Progress, rng: tuple[int, int]) -> None:
        """Say that the step is not taken; stop where that happens again and again."""
        step = self.state.step + 1
        show.print(f"step {step:>6}   left out: {self.guard.why}")
        if self.guard.exhausted:
            kept = crash.dump(self.state, self.folder, self.batches, rng)
            raise UserError(
                f"step {step}: {self.guard.why}; {self.guard.in_a_row} steps in a row were left "
                "out: lower --lr, raise --warmup-steps, or set --grad-clip\n"
                f"the state before it and its batch are kept: python -m gpt.replay {kept}"
            )

    def save_due(self, examined: bool) -> bool:
        """Whether this step is to be kept: its turn, or the best so far where that is asked for."""
        every = self.config.run.save_every
        wanted = self.config.run.keep or self.config.eval.patience
        if every and self.state.step % every == 0:
            return True
        return bool(examined and wanted and best(self.val_losses()) == self.state.step)

    def save(self) -> Path:
        """A checkpoint; those that are no longer to be kept go, and now and then comes a curve."""
        path = self.state.save(self.folder)
        if self.config.run.format == "pickle":
            self.state.save_pickle(self.folder.path / "model.pkl")
        if self.config.run.keep:
            checkpoint.prune(self.folder.checkpoints, self.config.run.keep, self.val_losses())
        if monotonic() - self.drawn > DRAWN_EVERY:
            self.draw()
        return path

    def draw(self) -> None:
        """The curve so far."""
        plot(
            self.folder.history,
            self.folder.path / "loss.png",
            title=f"{self.config.model} on {self.source.name}",
            levels={f"{count.n}-gram": count.loss for count in self.counts},
            floor=self.source.floor,
            per=self.source.chars_per_token,
        )
        self.drawn = monotonic()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """A file that cannot be written, or too little memory, ends the run with what to do."""
        try:
            yield
        except BrokenPipeError:  # who was told has gone; gpt.errors knows what to answer
            raise
        except MemoryError as error:
            raise self.plan.refusal(str(error) or "no more is to be had") from error
        except (OSError, CheckpointError) as error:
            what = str(error)
            if isinstance(error, OSError):
                what = f"{error.filename or self.folder.path}: {error.strerror}"
            steps = checkpoint.saved_steps(self.folder.checkpoints)
            last = f"step {steps[-1]} is saved" if steps else "no step was saved"
            raise UserError(f"{what}\nstopped after step {self.state.step}; {last}; go on with: "
                            f"{self.folder.resume}") from error


def plainly(config: Config) -> Config:
    """For a text beside the one of the run: its documents are not told apart."""
    return replace(config, data=replace(config.data, document_attention=False))


def best(losses: Mapping[int, float]) -> int:
    """The step of the lowest loss, the first of equals."""
    return min(losses, key=losses.__getitem__)


if __name__ == "__main__":
    raise SystemExit(main())
