"""Ctrl-C and SIGTERM as a question that the loop answers after its step, not as an exception."""

import signal
from types import FrameType
from typing import Any


class Interrupt:
    """`with Interrupt() as stop:` and `if stop.asked: save, leave`. A second Ctrl-C is final."""

    def __init__(self) -> None:
        self.asked: int = 0  # the signal's number, once there was one

    def __enter__(self) -> "Interrupt":
        self.before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = number
