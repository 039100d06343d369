"""What the steps of a run change: all is in a checkpoint, so a resumed run goes on bit for bit.

Weights and their average, the optimizer's moments, the scale of float16's loss, the place in the
stream of random numbers, the guard's counts, the number of steps done, which batches and learning
rates follow from, and the metrics so far.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinytensor as tt
from data.batches import IGNORED
from tinytensor import optim
from tinytensor.errors import TinyTensorError

from . import checkpoint, ema, lora, pickled
from .checkpoint import STATE, Checkpoint, CheckpointError
from .config import Config, OptimConfig
from .documents import loss_of
from .ema import EMA
from .guard import Guard
from .models import build_model
from .packing import arrays_of
from .precision import Precision
from .pretrained import Source
from .run import Run
from .tokenizers import Tokenizer


def build_optimizer(model: Any, config: OptimConfig) -> optim.AdamW:
    """AdamW that decays matrices only: shrinking a bias or a gain regularises nothing."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
    )


@dataclass
class TrainingState:
    config: Config
    tokenizer: Tokenizer
    model: Any
    optimizer: optim.AdamW
    guard: Guard
    precision: Precision
    scaler: tt.amp.GradScaler | None = None
    ema: EMA | None = None
    step: int = 0  # steps done
    data_hash: str = ""  # of what is learned from; empty where that does not matter

    @classmethod
    def new(
        cls, config: Config, tokenizer: Tokenizer, device: Any, start: Source | None = None
    ) -> TrainingState:
        """The state before the first step: a function of the settings and of `start` alone.

        start  what --init-from names; a state that is restored needs none
        """
        precision = Precision(config.run.dtype, device)
        tt.manual_seed(config.run.seed)
        model = build_model(config, start).to(device)
        averages = EMA(model, config.optim.ema) if config.optim.ema else None
        return cls(config, tokenizer, model, build_optimizer(model, config.optim),
                   Guard(config.optim), precision, precision.scaler(), averages)  # fmt: skip

    def gradients(self, batches: Iterable[tuple[np.ndarray, ...]]) -> tt.Tensor:
        """Those of the mean loss over the targets of `batches`, see loss_of; the loss, unread."""
        batches = list(batches)
        targets = [np.count_nonzero(y != IGNORED) for _, y, *_ in batches]
        parts = [sum(targets) / count for count in targets if count]  # else a mean of nothing
        return self.accumulate([b for b, count in zip(batches, targets) if count], parts)

    def accumulate(self, batches: Sequence[tuple], parts: Sequence[float]) -> tt.Tensor:
        """Gradients of the sum of loss_of each batch over its number in `parts`; it, unread."""
        device = next(iter(self.model.parameters())).device
        self.optimizer.zero_grad()
        total = tt.zeros((), device=device)
        with self.precision.computing():  # also backward, so that weights are cast once for all
            for batch, part in zip(batches, parts, strict=True):
                loss = loss_of(self.model, batch, device) / part
                (self.scaler.scale(loss) if self.scaler else loss).backward()
                total = total + loss.detach()
        return total

    def save(self, run: Run, folder: Path | None = None, **more: Any) -> Path:
        """A checkpoint of it in the run's folder, or in another."""
        more = {"rng": tt.default_generator.get_state()} | more
        if self.ema:
            more["files"] = {ema.FILE: arrays_of(self.ema.mean)} | more.get("files", {})
        return checkpoint.save(
            folder or run.checkpoints, self.step, self.model, self.optimizer, self.tokenizer,
            self.config, batch=self.step * self.config.optim.grad_accum, data_hash=self.data_hash,
            guard=self.guard.state_dict(), machine=machine(self.model), run_id=run.id,
            scaler=self.scaler.state_dict() if self.scaler else None, history=run.history, **more,
        )  # fmt: skip

    def save_pickle(self, path: Path) -> None:
        """The model alone in one file, in place of what was there: see gpt/pickled.py."""
        weights = lora.merged(arrays_of(self.model.state_dict()), self.config.finetune)
        pickled.save_model(path, self.config.gpt, weights, self.tokenizer, step=self.step)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """As the model is looked at: with its averaged weights, if it keeps any, in its dtype."""
        with self.ema.applied() if self.ema else nullcontext(), self.precision.computing():
            yield

    def restore(self, saved: Checkpoint, finite: bool = True) -> None:
        """Take over a checkpoint, or say what about it cannot be."""
        self.check(saved)
        saved.load_into(self.model, finite)
        try:
            self.optimizer.load_state_dict(saved.optimizer_state(finite))
            for group in self.optimizer.param_groups:
                self.optimizer.check(group)
            self.guard.load_state_dict(saved.state["guard"])
            if self.scaler:
                self.scaler.load_state_dict(saved.state["scaler"])
            if self.ema:
                self.ema.load(saved.arrays(ema.FILE, finite))
            if not all(0 <= s.get("step", 0) <= saved.step for s in self.optimizer.state.values()):
                raise ValueError("the optimizer has made more steps than the run")
            seed, block = map(int, saved.state["rng"])
            if not (0 <= seed < 2**64 and 0 <= block < 2**64):
                raise ValueError(f"rng is {seed, block}")
            tt.default_generator.set_state((seed, block))
        except (TinyTensorError, LookupError, TypeError, ValueError, AttributeError,
                OverflowError) as error:  # fmt: skip
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{saved.path}: is not the state of this training: {type(error).__name__}: {reason}"
            ) from error
        self.step = saved.step

    def check(self, saved: Checkpoint) -> None:
        """Whether a run can go on from a checkpoint: the same data, a sound history."""
        state, where = saved.state, saved.path / STATE
        history = state.get("history")
        sound = isinstance(history, list) and all(
            isinstance(r, dict) and type(r.get("step")) is int and r["step"] <= saved.step
            and all(isinstance(v, int | float | None) for v in r.values()) for r in history
        )
        if not sound or saved.step < 0 or not isinstance(state.get("run_id"), str):
            raise CheckpointError(f"{where}: is damaged: its history is not that of a run")
        if self.data_hash and state.get("data_hash") != self.data_hash:
            raise CheckpointError(
                f"--data {self.config.data.data}: is not what this run has learned from until now: "
                "its contents differ"
            )

    def differences(self, saved: Checkpoint) -> list[str]:
        """Why the run may not go on bit for bit: sums are rounded in the order they are made in."""
        then, now = saved.state.get("machine"), machine(self.model)
        then = then if isinstance(then, dict) else {}
        return [f"{name} was {then.get(name)}, now it is {value}"
                for name, value in now.items() if then.get(name) != value]  # fmt: skip


def machine(model: Any) -> dict[str, Any]:
    """What bits depend on beside the settings."""
    device = next(iter(model.parameters())).device
    return {"device": device.type, "threads": tt.get_num_threads(), "numpy": np.__version__,
            "processor": platform.machine()}  # fmt: skip
