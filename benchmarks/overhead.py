"""What tracking costs: forward and backward of ops so small that the arithmetic is nothing.

    python -m benchmarks.overhead               microseconds per op, forward and backward together
    python tests/peers/overhead.py              the same beside PyTorch, in turn

Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import tinytensor as tt

from .timing import single


def cases(lib: Any) -> dict[str, Callable[[], object]]:
    """By name, a call to time. `lib` is tinytensor, or any module with PyTorch's names."""

    def leaf(*shape: int) -> Any:
        return lib.randn(shape).requires_grad_()

    def binary(f: Callable) -> Callable[[], object]:
        x, y = leaf(), leaf()
        return lambda: f(x, y).backward()

    scalar, row, upstream, a, b = leaf(), leaf(4), lib.ones(4), leaf(1, 1), leaf(1, 1)
    table = {
        "add": binary(lib.add),
        "mul": binary(lib.mul),
        "tanh": lambda: lib.tanh(scalar).backward(),
        "softmax": lambda: lib.softmax(row, 0).backward(upstream),
        "matmul": lambda: lib.matmul(a, b).backward(),
    }
    F = lib.nn.functional
    layers = [lib.nn.Linear(32, 32) for _ in range(3)]
    parameters = [p for layer in layers for p in layer.parameters()]
    x, target = lib.randn(32, 32), lib.randn(32, 32)
    optimizer = lib.optim.SGD(parameters, lr=1e-3)

    def mlp_step() -> None:
        optimizer.zero_grad()
        h = lib.tanh(layers[0](x))
        h = lib.tanh(layers[1](h))
        F.mse_loss(layers[2](h), target).backward()
        optimizer.step()

    table["MLP step, 3 layers, 32 x 32"] = mlp_step
    return table


def main() -> None:
    results = {}
    print(f"{'forward + backward':30} us")
    for name, f in cases(tt).items():
        results[name] = single(f) * 1e6
        print(f"{name:30} {results[name]:6.1f}")
    print(json.dumps({"benchmark": "overhead", "us": results}))


if __name__ == "__main__":
    main()
