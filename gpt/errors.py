"""A user's mistakes, and how a command answers them: one clear sentence each, exit code 2."""

import functools
import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches

# Mistakes that other packages name; looked up where loaded, so that this module needs none of them.
MISTAKES = {"data.errors": ["DataError"], "tinytensor.errors": ["DeviceError", "CheckpointError"]}


class UserError(Exception):
    """Something the user can fix. The message says what is wrong and what to do."""


class ConfigError(UserError, ValueError):
    """One or more settings that cannot be used, all reported together."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the whole list when nothing is close."""
    names = sorted(names)
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine or a GPU had no more: MemoryError, or what CUDA's libraries say."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY",
                                          "CUBLAS_STATUS_ALLOC_FAILED"))  # fmt: skip


def is_mistake(error: Exception) -> bool:
    """Whether the user can fix it: if not, it is a bug and deserves its traceback."""
    loaded = [(sys.modules.get(module), names) for module, names in MISTAKES.items()]
    known = [getattr(module, name) for module, names in loaded if module for name in names]
    return isinstance(error, (UserError, *known))


def command(main: Callable[[], int | None]) -> Callable[[], int]:
    """Wrap a command's main: the user's mistakes become clear sentences and exit code 2."""

    @functools.wraps(main)
    def run() -> int:
        try:
            code = main() or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141  # as a shell reports a program that SIGPIPE ended
        except KeyboardInterrupt:
            say("interrupted")
            return 130
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package in {"", "tinytensor", "gpt", "data"}:
                raise  # ours: a bug, not something to install
            say(f"{package} is not installed: run pip install -e '.[train]', or make train")
            return 2
        except Exception as error:
            if out_of_memory(error):
                say(f"out of memory: {error or 'no more is to be had'}; lower --batch-size "
                    "(--grad-accum keeps the tokens of a step), --block-size, or the model's size")
                return 2
            if not is_mistake(error):
                raise
            for line in str(error).splitlines():
                say(line)
            return 2

    return run


def say(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
