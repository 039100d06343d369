"""CUDA graphs, under PyTorch's names: a GPU's work is recorded once, then launched whole.

    g = tt.cuda.CUDAGraph()
    with tt.cuda.graph(g):           # nothing runs yet: kernels and their arguments are noted
        loss = step(x, y)
    x.copy_(...)                     # the inputs of the next launch
    g.replay()                       # `loss` now holds its result

A launch costs some microseconds, however many kernels are in it. What is recorded are addresses and
numbers, so: shapes and branches are those of the capture; inputs stay in the same tensors, whose
contents may change; and nothing inside may read a value of the GPU or upload one. Every kernel
should have run before the capture, since compiling and loading are no part of it.

Random numbers go on: a launch draws from tt.default_generator what the captured code would draw.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from .backend import cupy
from .errors import DeviceError
from .random import default_generator


class CUDAGraph:
    """Captured work, and the memory that it needs. See the module's head, and `graph`.

    raises  DeviceError if there is nothing to replay, or if captures are nested
    """

    _capturing = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was captured, and give its memory back."""
        self._launchable: Any = None
        self._pool: Any = None
        self._base: Any = None
        self._blocks = 0  # of random words that a launch draws

    def capture_begin(self) -> None:
        if CUDAGraph._capturing:
            raise DeviceError("a CUDA graph is being captured already: captures do not nest")
        module = cupy()
        self.reset()
        self._device = module.cuda.Device()
        # What is made in a capture is never given back to others: launches write there
        self._pool = module.cuda.MemoryPool()
        self._ends = ExitStack()
        self._ends.enter_context(module.cuda.using_allocator(self._pool.malloc))
        self._base = module.zeros(2, np.uint64)
        self._rng = default_generator.get_state()
        default_generator.base = self._base
        default_generator.set_state((0, 0))
        self._stream = module.cuda.Stream()  # the default one cannot be captured
        self._ends.enter_context(self._stream)
        self._stream.begin_capture()
        CUDAGraph._capturing = True

    def capture_end(self) -> None:
        CUDAGraph._capturing = False
        self._blocks = default_generator.block
        default_generator.base = None
        default_generator.set_state(self._rng)
        try:
            self._launchable = self._stream.end_capture()
        finally:
            self._ends.close()

    def replay(self) -> None:
        """Launch the work on the current stream of its device."""
        if self._launchable is None:
            raise DeviceError("this CUDA graph is empty: capture something, `with graph(g):`")
        with self._device:
            if self._blocks:
                for i, n in enumerate(default_generator.get_state()):
                    self._base[i : i + 1].fill(np.uint64(n))  # a kernel's argument: nothing waits
                default_generator.block += self._blocks
            self._launchable.launch()


class graph:
    """`with graph(g):` what is done inside is captured in the CUDAGraph g, and not done.

    On the current device: for another, `with tt.cuda.device(1), tt.cuda.graph(g):`
    """

    def __init__(self, cuda_graph: CUDAGraph):
        self.cuda_graph = cuda_graph

    def __enter__(self) -> None:
        self.cuda_graph.capture_begin()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.cuda_graph.capture_end()
            return
        try:
            self.cuda_graph.capture_end()
        except Exception:  # a capture that was broken off; why is in `error`
            pass
        self.cuda_graph.reset()


def is_current_stream_capturing() -> bool:
    return CUDAGraph._capturing
