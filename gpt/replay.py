"""Repeat the step that stopped a run: `python -m gpt.replay RUN/crash/NNNNNN`.

Prints the loss and the gradient norm, bit for bit those of the run, then which op was the first to
make a number that is not finite, and which gradients have any.
"""

import argparse

import numpy as np

import tinytensor as tt
from tinytensor.errors import NonFiniteError
from tinytensor.nn.utils import get_total_norm

from .checkpoint import Checkpoint, CheckpointError
from .crash import BATCH, PARTS
from .errors import command
from .state import TrainingState


@command
def main() -> int:
    parser = argparse.ArgumentParser("python -m gpt.replay", description=(__doc__ or "")[:69])
    parser.add_argument("crash", metavar="RUN/crash/NNNNNN", help="what the run that stopped named")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or auto (auto)")
    args = parser.parse_args()
    saved = Checkpoint.find(args.crash)
    if BATCH not in saved.state["sha256"]:
        raise CheckpointError(f"{saved.path}: is a checkpoint, not a crash: it has no {BATCH}")
    state = TrainingState.new(saved.config, saved.tokenizer, tt.backend.resolve(args.device))
    state.restore(saved, finite=False)
    ids = saved.arrays(BATCH)
    batch = list(zip(*(ids[name] for name in PARTS if name in ids)))
    print(f"step {saved.step + 1}: {saved.state.get('why')}")
    print(f"batch   {ids['x'].shape[0]} x {ids['x'].shape[1:]}, it begins "
          f"{state.tokenizer.decode(ids['x'][0, 0, :60])!r}")  # fmt: skip

    loss = state.gradients(batch)
    norm = get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None])
    if state.scaler:
        norm = norm / state.scaler.get_scale()
    print(f"again   loss {loss.item():.9g}, gradient norm {norm.item():.9g}")
    for name, p in state.model.named_parameters():
        for what, t in (("weight", p), ("gradient", p.grad)):
            bad = 0 if t is None else int((~np.isfinite(t.detach().numpy(force=True))).sum())
            if bad:
                print(f"        {name}: {bad:,} of {p.numel():,} in its {what} are not finite")
    tt.default_generator.set_state(saved.state["rng"])
    try:
        with tt.detect_anomaly():
            state.gradients(batch)
        print("first   none: every number in this step is finite")
    except NonFiniteError as error:
        print(f"first   {error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
