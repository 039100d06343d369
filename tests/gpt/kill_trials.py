"""Kill a training run at random moments, resume it each time, compare with one left in peace.

    python tests/gpt/kill_trials.py 60

A run that saves every few steps is killed (SIGKILL: no handler runs) so many times in all, at
moments spread evenly over its life: start, steps, evaluations, saving, pruning, ending. Whenever
it comes to its end, it starts again. After every death each checkpoint that is there must be whole,
and none that was there and was to be kept may be gone; in the end weights, moments and metrics must
be those of the run that nobody killed. Prints what is wrong, and exits with 1.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gpt.checkpoint import Checkpoint, CheckpointError, saved_steps  # noqa: E402
from gpt.run import read_metrics  # noqa: E402

STEPS, EVERY, KEEP = 40, 3, 3
ARGV = (f"--n-layer 1 --n-head 2 --n-embd 32 --block-size 16 --batch-size 4 --max-steps {STEPS} "
        f"--lr 1e-2 --warmup-steps 5 --dropout 0.1 --grad-accum 2 --eval-every 7 --eval-batches 2 "
        f"--log-every 2 --samples 1 --sample-chars 20 --sample-every 10 --save-every {EVERY} "
        f"--keep {KEEP} --skip-spikes 6 --device cpu").split()


def start(*argv: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "gpt.train", *argv], cwd=ROOT, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def trials(count: int, folder: Path, seed: int = 0) -> list[str]:
    """Everything that went wrong in `count` kills; runs are kept in `folder`."""
    random.seed(seed)
    text, whole, part = folder / "text.txt", folder / "whole", folder / "part"
    text.write_text("the cat sat on the mat.\nthe dog sat on the log.\n" * 60)
    new = [*ARGV, "--data", str(text), "--out"]
    began = time.monotonic()
    peace = start(*new, str(whole))
    _, errors = peace.communicate()
    life = time.monotonic() - began
    wrong = [errors] if peace.returncode else []
    kills = runs = 0
    while kills < count and not wrong:
        runs += 1
        shutil.rmtree(part, ignore_errors=True)
        while True:  # one run, killed until it ends or enough are
            before = saved_steps(part / "checkpoints") if (part / "checkpoints").exists() else []
            resume = (part / "config.toml").exists()
            if not resume:
                shutil.rmtree(part, ignore_errors=True)  # killed before it had a name
            process = start("--resume", str(part)) if resume else start(*new, str(part))
            try:
                _, errors = process.communicate(
                    timeout=random.uniform(0, 1.1 * life) if kills < count else None
                )
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
                wrong += damage(part, before)
                continue
            if process.returncode:
                wrong.append(f"kill {kills}: exit code {process.returncode}: {errors}")
            break
        if not wrong:
            wrong += differences(whole, part)
    print(f"{kills} kills of {runs} runs that take {life:.1f} s: {len(wrong)} faults")
    return wrong


def damage(part: Path, before: list[int]) -> list[str]:
    """What a death has done to checkpoints: nothing, if all is well."""
    checkpoints = part / "checkpoints"
    steps = saved_steps(checkpoints) if checkpoints.exists() else []
    wrong = [f"checkpoint {before[-1]} is gone, {steps} are there"] if before and (
        not steps or steps[-1] < before[-1]) else []  # fmt: skip
    for step in steps:
        try:
            saved = Checkpoint(checkpoints / f"{step:06d}")
            saved.weights(), saved.optimizer_state()
        except CheckpointError as error:
            wrong.append(str(error))
    return wrong


def differences(whole: Path, part: Path) -> list[str]:
    """Where a run that was killed and resumed is not the one left in peace."""
    wrong = []
    for name in ("model.safetensors", "optimizer.safetensors"):
        a, b = ((run / "checkpoints" / f"{STEPS:06d}" / name).read_bytes() for run in (whole, part))
        if a != b:
            wrong.append(f"{name} differs")
    a, b = ([{k: v for k, v in r.items() if k != "tokens_per_s"}
             for r in read_metrics(run / "metrics.jsonl")] for run in (whole, part))  # fmt: skip
    wrong += [f"metrics differ: {x} {y}" for x, y in zip(a, b) if x != y]
    wrong += ["metrics differ in number"] * (len(a) != len(b))
    if saved_steps(whole / "checkpoints") != saved_steps(part / "checkpoints"):
        wrong.append("other checkpoints are kept")
    return wrong


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = trials(int(sys.argv[1]) if len(sys.argv) > 1 else 60, Path(folder))
    print(*found, sep="\n")
    raise SystemExit(bool(found))
