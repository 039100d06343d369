"""Random indices read and written beside PyTorch's: ints, slices, None, ..., masks, index arrays.

`python tests/tinytensor/test_index_programs.py 100000` runs as many as it is told.
"""

import sys

import numpy as np
import pytest

import tinytensor as tt

torch = pytest.importorskip("torch")


def random_index(rng, shape):
    """An index of a tensor of this shape, mostly a good one; arrays as PyTorch's tensors."""
    parts, d, dots = [], 0, False
    while d < len(shape) and rng.random() < 0.9:
        n = shape[d]
        kind = rng.choice(["int", "slice", "slice", "none", "dots", "array", "mask", "mask 2d"])
        if kind == "int":
            parts.append(int(rng.integers(-n - 1, n + 1)))
        elif kind == "slice":
            ends = [None if rng.random() < 0.4 else int(rng.integers(-n - 2, n + 3)) for _ in "ab"]
            parts.append(slice(*ends, None if rng.random() < 0.6 else int(rng.integers(1, 3))))
        elif kind == "array":
            size = [(), (2,), (1, 2), (2, 2), (3,), (0,)][rng.integers(6)]
            parts.append(torch.tensor(rng.integers(-n, n, size=size)))
        elif kind == "mask":
            parts.append(torch.tensor(rng.random(n) < 0.5))
        elif kind == "mask 2d" and d + 1 < len(shape):
            parts.append(torch.tensor(rng.random(shape[d : d + 2]) < 0.5))
            d += 1
        else:  # takes no dim, or any number of them
            if kind == "dots" and not dots:
                parts.append(...)
                dots = True
                d += int(rng.integers(0, len(shape) - d + 1))
            else:
                parts.append(None)
            continue
        d += 1
    return tuple(parts)


def outcome(f):
    try:
        return f(), None
    except Exception as error:
        return None, error


def written(x, index, value):
    y = x * 1
    y[index] = value
    (y * y).sum().backward()
    return y.detach(), x.grad


def read(x, index):
    y = x[index]
    (y * y).sum().backward()
    return y.detach(), x.grad


def check(seed):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=rng.integers(1, 5, size=rng.integers(1, 5)))
    index = random_index(rng, data.shape)
    mine = tuple(tt.from_numpy(p.numpy()) if isinstance(p, torch.Tensor) else p for p in index)
    for f, *more in ((read,), (written, 2.5)):
        theirs, expected = outcome(
            lambda: f(torch.tensor(data, requires_grad=True), index, *more)  # noqa: B023
        )
        ours, got = outcome(lambda: f(tt.tensor(data, requires_grad=True), mine, *more))  # noqa: B023
        what = f"seed {seed}: {f.__name__} {data.shape}[{index}]: {expected!r}, {got!r}"
        assert (expected is None) == (got is None), what
        if expected is not None:
            assert isinstance(got, type(expected)) and isinstance(got, tt.errors.TinyTensorError), (
                what
            )
            continue
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-12, err_msg=what)


def test_random_indices():
    for seed in range(1500):
        check(seed)


@pytest.mark.parametrize(
    "index", ["0, :, i", "i, :, 0", ":, 0, i", "i, 0, :", "t, :, i", "0, None, i", "0, ..., i, :0"]
)
def test_ints_beside_arrays_apply_first(index):
    """NumPy broadcasts them with the arrays, and puts the result's dims elsewhere."""
    results = []
    for m in (torch, tt):
        x, i, t = m.arange(24.0).reshape(2, 3, 4), m.tensor([1, 0]), m.tensor(1)
        results.append(eval(f"x[{index}]", {"x": x, "i": i, "t": t}))
    assert tuple(results[1].shape) == tuple(results[0].shape)
    assert results[1].tolist() == results[0].tolist()


def test_a_tensor_of_one_int_gives_a_view():
    x = tt.zeros(3, 2)
    x[tt.tensor(1)].fill_(5)
    assert x.tolist() == [[0, 0], [5, 5], [0, 0]]


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        check(number)
    print(f"{sys.argv[1]} indices read and written as in PyTorch")
