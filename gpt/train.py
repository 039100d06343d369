"""Train a model on text: `python -m gpt.train --help`.

Batches and learning rate are functions of the seed and the step, weights and dropout of the seed:
the same command gives the same run. What it does not do: resume, or use more than one device.
"""

import math
import shlex
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import data
import tinytensor as tt
from data import Batches, tales
from tinytensor import nn, optim

from . import checkpoint
from .config import Config, OptimConfig, from_command_line, summary
from .errors import UserError, command
from .evaluate import evaluate, evaluate_text, standing
from .generate import complete
from .interrupt import Interrupt
from .models import build_model
from .ngram import count_models
from .plot import plot
from .progress import Progress, quantity
from .run import Run, check_out
from .schedule import learning_rate
from .tokenizers import CharTokenizer


@command
def main() -> int:
    return Training(from_command_line()).run()


def build_optimizer(model: Any, config: OptimConfig) -> optim.AdamW:
    """AdamW that decays matrices only: shrinking a bias or a gain regularises nothing."""
    parameters = list(model.parameters())
    return optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
    )


class Training:
    """One run, from text to a trained model. Everything is checked before the first step."""

    def __init__(self, config: Config):
        check_out(config.run.out)
        self.device = tt.backend.resolve(config.run.device)
        self.corpus = data.load(
            config.data.data,
            val_fraction=config.data.val_fraction,
            n_chars=config.data.n_chars or None,
            data_dir=config.data.data_dir or None,
        )
        self.floor = self.corpus.floor.val if self.corpus.floor else None
        self.tokenizer = CharTokenizer.train(self.corpus.text)
        vocab_size = self.tokenizer.vocab_size
        self.config = config = replace(config, gpt=replace(config.gpt, vocab_size=vocab_size))
        train = self.tokenizer.encode(self.corpus.train)
        val = self.tokenizer.encode(self.corpus.val)

        def batches(tokens: np.ndarray, name: str, stream: Any = "eval") -> Batches:
            return Batches(tokens, config.gpt.block_size, config.data.batch_size, config.run.seed,
                           stream=stream, name=name)  # fmt: skip

        self.final_text = val[: config.eval.final_chars]
        self.batches = batches(train, "the training text", "train")
        self.exams = {"eval_train_loss": batches(train, "the training text"),
                      "val_loss": batches(val, "the validation text")}  # fmt: skip
        tt.manual_seed(config.run.seed)
        self.model = build_model(config).to(self.device)
        self.optimizer = build_optimizer(self.model, config.optim)
        self.counts = count_models(train, val, vocab_size)
        self.folder = Run.create(config)

    def run(self) -> int:
        """Train to the last step or to Ctrl-C; return the exit code."""
        config, steps = self.config, self.config.optim.max_steps
        batch = config.data.batch_size * config.optim.grad_accum * config.gpt.block_size
        with Progress(steps) as show, Interrupt() as stop:
            show.print(self.introduction())
            self.folder.log(0, **self.examine(show, 0))
            done, unread, seconds = 0, 0, 0.0  # steps done; since the last reading: steps, time
            while done < steps and not stop.asked:
                start = perf_counter()
                lr = learning_rate(done, config.optim)
                loss, norm = self.step(done, lr)
                done, unread = done + 1, unread + 1
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
                    if not math.isfinite(metrics["train_loss"]):
                        raise UserError(f"the loss is {metrics['train_loss']} at step {done}: "
                                        "lower --lr, raise --warmup-steps, or set --grad-clip")
                    if exam_due:
                        metrics |= self.examine(show, done)
                    self.folder.log(done, **metrics)
                if config.run.save_every and done % config.run.save_every == 0:
                    self.save(done)
            saved = self.save(done)
        if stop.asked:
            show.print(f"Stopped after step {done} of {steps}; saved {saved}")
            return 128 + stop.asked
        show.print(self.conclusion(done))
        return 0

    def step(self, step: int, lr: float) -> tuple[tt.Tensor, tt.Tensor]:
        """One optimizer step; the loss and the gradient norm stay on the device, unread."""
        accum, clip = self.config.optim.grad_accum, self.config.optim.grad_clip
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        total = tt.zeros((), device=self.device)
        for i in range(accum):
            ids = self.batches.batch(step * accum + i)
            x, y = (tt.tensor(a, device=self.device) for a in ids)  # (B, T)
            loss = self.model.loss(x, y) / accum
            loss.backward()
            total = total + loss.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip or math.inf)
        self.optimizer.step()
        return total, norm

    def examine(self, show: Progress, step: int) -> dict[str, float]:
        """Losses on the batches that stay the same, printed beside the floor."""
        losses = {name: evaluate(self.model, batches, self.config.eval.eval_batches, self.device)
                  for name, batches in self.exams.items()}  # fmt: skip
        train, val = losses["eval_train_loss"], losses["val_loss"]
        beaten = [count.n for count in self.counts if val < count.loss]
        show.print(
            f"step {step:>6}   train {train:.4f}   val {val:.4f} ({val / math.log(2):.3f} bits)"
            + (f"   beats the {max(beaten)}-gram" if beaten else "")
            + (f"   {val - self.floor:.3f} above the floor" if self.floor is not None else "")
        )
        if step == self.config.optim.max_steps:
            losses["final_val_loss"] = evaluate_text(
                self.model, self.final_text, self.config.gpt.block_size,
                self.config.data.batch_size, self.device,
            )  # fmt: skip
        return losses

    def save(self, step: int) -> Path:
        """A checkpoint, and the curve so far."""
        path = checkpoint.save(self.folder.checkpoints, step, self.model, self.optimizer,
                               self.tokenizer, self.config,
                               rng=tt.default_generator.get_state())  # fmt: skip
        plot(
            self.folder.history,
            self.folder.path / "loss.png",
            title=f"{self.config.model} on {self.corpus.name}",
            levels={f"{count.n}-gram": count.loss for count in self.counts},
            floor=self.floor,
        )
        return path

    def introduction(self) -> str:
        """What is about to happen, and what it is to be held against."""
        config, corpus = self.config, self.corpus
        parameters = sum(p.numel() for p in self.model.parameters())
        marks = [f"{count.n}-gram {count.loss:.3f}" for count in self.counts]
        if self.floor is not None:
            marks.append(f"floor {self.floor:.3f}")
        return "\n".join([
            summary(config),
            "",
            f"data    {corpus.name}: {len(corpus.train):,} characters to learn from, "
            f"{len(corpus.val):,} held out, {config.gpt.vocab_size} distinct",
            f"model   {config.model}: {quantity(parameters)} parameters on {self.device}",
            f"marks   {', '.join(marks)} nats/char on the text held out",
            f"folder  {self.folder.path}",
            "",
        ])  # fmt: skip

    def conclusion(self, step: int) -> str:
        """What was learned: a sample, the table of losses, the distance to the floor."""
        val = self.folder.history[-1]["final_val_loss"]
        table = standing({f"this {self.config.model}": val}, self.counts, self.floor)
        lines = ["", *self.write(step), table, "",
                 f"Each of {len(self.final_text) - 1:,} held-out characters counts once, read with "
                 f"{self.config.gpt.block_size // 2} or more before it.", ""]  # fmt: skip
        if self.floor is not None:
            lines += [f"val {val:.3f}, floor {self.floor:.3f} nats/char: "
                      f"{val - self.floor:.3f} above the floor", ""]  # fmt: skip
        word = shlex.quote((self.corpus.train.split() or ["\n"])[0])
        return "\n".join([*lines, f"Kept in {self.folder.path}; go on with",
                          f"  python -m gpt.generate {self.folder.path} --prompt {word}"])

    def write(self, step: int) -> list[str]:
        """Samples into the run folder; the first of them, and the grammar's judgement on tales."""
        chars, count = self.config.eval.sample_chars, self.config.eval.samples
        if not chars:
            return []
        text = self.corpus.train
        starts = ("\n\n", "\n", text[0])  # what comes before a beginning: the first that is there
        prompt = next(start for start in starts if start in text)
        tt.manual_seed(self.config.run.seed)
        temperature = self.config.eval.sample_temperature
        samples = complete(
            self.model, self.tokenizer, prompt, chars, count, temperature=temperature
        )
        for number, sample in enumerate(samples, 1):
            self.folder.sample(f"{step:06d}-{number}", sample)
        lines = [samples[0].strip(), ""]
        if self.corpus.name == "tales":  # stories that the end of a sample cuts off are not judged
            whole = [s[: s.rfind(tales.END) + len(tales.END)] for s in samples if tales.END in s]
            report = tales.check("".join(whole))
            lines += [f"Of {count} such samples at temperature {temperature}, {report}", ""]
        return lines


if __name__ == "__main__":
    raise SystemExit(main())
