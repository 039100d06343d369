"""Messages: the op, the arguments by name, their shapes, and the fix. Classes: PyTorch's.

(The classes over PyTorch's own error inputs are compared in test_opinfo.)
"""

import subprocess
import sys

import numpy as np
import pytest
from samples import samples
from test_registry import OPS, run, tensors

import tinytensor as tt
from tinytensor.autograd import Variable
from tinytensor.errors import (
    ArgumentError,
    DimError,
    DtypeError,
    GraphError,
    RangeError,
    ShapeError,
    TinyTensorError,
)  # fmt: skip

F = tt.nn.functional


def ones(*shape, dtype=None):
    return tt.ones(shape, dtype=dtype)


@pytest.mark.parametrize(
    "act, kind, message",
    [
        (
            lambda: ones(4, 3) @ ones(5, 2),
            ShapeError,
            "matmul: x (4, 3) and y (5, 2): the last axis of x is 3, the first of y is 5",
        ),
        (
            lambda: ones(2, 4, 3) @ ones(2, 5, 2),
            ShapeError,
            "matmul: x (2, 4, 3) and y (2, 5, 2): the last axis of x is 3, the last but one of y "
            "is 5",
        ),
        (
            lambda: ones(2, 2) @ ones(2, 2, dtype=tt.float64),
            DtypeError,
            "matmul: x is float32 and y is float64: cast one with .to(dtype)",
        ),
        (lambda: ones() @ ones(2), ShapeError, "at least 1 dimension: use x * y for numbers"),
        (
            lambda: ones(2, 3) + ones(4, 3),
            ShapeError,
            "add: x (2, 3) and y (4, 3) do not broadcast: at dim -2 the sizes are 2 and 4; they "
            "must be equal, or one of them 1",
        ),
        (lambda: tt.add(ones(2), "3"), ArgumentError, "add: y must be a Tensor, got str"),
        (lambda: tt.add([1.0], ones(1)), ArgumentError, "x must be a Tensor, got list: wrap it in"),
        (lambda: tt.exp([1.0]), ArgumentError, "exp: x must be a Tensor, got list"),
        (lambda: ones(2, 3).sum(2), DimError, "dim 2 is out of range: 2 dimensions are"),
        (lambda: ones(2, 3).softmax(-3), DimError, "dim -3 is out of range"),
        (lambda: ones(2, 3).transpose(0, 2), DimError, "transpose: x (2, 3)"),
        (lambda: ones(2, 3).reshape(4, 2), ShapeError, "reshape: x (2, 3) has 6 elements, (4, 2)"),
        (lambda: ones(2, 3).view(-1, -1), ShapeError, "at most one size may be -1"),
        (lambda: ones(2, 3).t().view(6), ShapeError, "use .reshape(...) or .contiguous().view"),
        (lambda: ones(2, 3).permute(0, 0), ShapeError, "must name each of them once"),
        (lambda: ones(2, 3).expand(3, 3), ShapeError, "only dimensions of size 1 can grow"),
        (lambda: tt.cat([ones(2, 3), ones(2, 4)]), ShapeError, "tensors[1] (2, 4) and tensors[0]"),
        (lambda: tt.cat([]), ShapeError, "the list of tensors is empty"),
        (lambda: tt.cat(ones(2)), ArgumentError, "cat([a, b])"),
        (lambda: tt.stack([ones(2), ones(3)]), ShapeError, "tensors[1] (3,) and tensors[0] (2,)"),
        (lambda: ones(5).split([2, 2]), ShapeError, "the sections [2, 2] must add up to 5"),
        (lambda: ones(2, 3)[2], DimError, "index 2"),
        (lambda: ones(2, 3)[0, 0, 0], DimError, "(2, 3) has 2 dims, the index names 3"),
        (lambda: ones(3)[1.5], DimError, "not float"),
        (lambda: ones(3)[ones(3)], DimError, "must be int or bool, got float32"),
        (lambda: ones(3)[::-1], ArgumentError, "use .flip(dim)"),
        (lambda: ones(2, 3).gather(1, tt.tensor([[5]])), RangeError, "index 5 is out of range"),
        (lambda: ones(2, 3).gather(1, ones(2, 1)), DtypeError, "index must be a tensor of int64"),
        (lambda: tt.tensor([1, 2]).mean(), DtypeError, "x is int64, a mean needs floats"),
        (lambda: ones(0).max(), ShapeError, "is empty"),
        (lambda: ones(0, 2).argmax(0), IndexError, "no elements to choose from"),
        (lambda: ones(2, 3).topk(4), ShapeError, "k = 4 is out of range: x has 3 elements"),
        (lambda: F.linear(ones(2, 3), ones(4, 2)), ShapeError, "input (2, 3) and weight (4, 2)"),
        (lambda: F.layer_norm(ones(2, 3), (2,)), ShapeError, "does not end in normalized_shape"),
        (
            lambda: F.cross_entropy(ones(2, 3), tt.tensor([0, 3])),
            DimError,
            "target 3 is out of bounds: classes are 0 to 2",
        ),
        (lambda: F.cross_entropy(ones(2, 3), tt.tensor([0])), ShapeError, "target must be (2,)"),
        (lambda: F.embedding(tt.tensor([7]), ones(5, 2)), DimError, "use 0 to 4"),
        (lambda: F.dropout(ones(2), 1.5), ArgumentError, "p must be between 0 and 1, got 1.5"),
        (lambda: tt.tensor([[1, 2], [3]]), ShapeError, "different lengths"),
        (lambda: tt.tensor("abc"), ArgumentError, "must be numbers"),
        (lambda: tt.zeros(2, -1), ShapeError, "must not be negative"),
        (lambda: tt.arange(0, 5, -1), ArgumentError, "never reaches"),
        (lambda: ones(2).item(), ShapeError, "use tolist()"),
        (lambda: bool(ones(2)), ShapeError, "use .any() or .all()"),
        (lambda: ones(2).to("cuda:77x"), TinyTensorError, "cuda:77x"),
        (lambda: ones(2).add_(ones(3)), ShapeError, "x (2,) and y (3,) do not broadcast"),
        (lambda: ones(1).add_(ones(3)), ShapeError, "an in-place op cannot grow x"),
        (lambda: tt.tensor([1, 2]).div_(2), DtypeError, "use the out-of-place form"),
        (lambda: ones(2).backward(), GraphError, "does not require grad"),
    ],
)
def test_message(act, kind, message):
    with pytest.raises(kind) as e:
        act()
    assert message in str(e.value), str(e.value)
    assert "\n" not in str(e.value)


def test_division_by_zero_is_silent_like_pytorchs(repo):
    """In a process of its own, since pytest keeps warnings in its own way."""
    program = "import tinytensor as tt; print((tt.zeros(1) / 0).item(), tt.log(tt.zeros(1)).item())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo)
    assert done.stdout == "nan -inf\n" and not done.stderr


# ops that users call by themselves; the others stand behind a function that checks
PUBLIC = [n for n in OPS if getattr(getattr(tt, n, None), "op", None) is tt.REGISTRY[n]]


def complaint(name, args, static):
    """The error of a call, which may be none; but never one from the depths of NumPy."""
    try:
        run(name, args, static)
    except TinyTensorError as error:
        return error
    except Exception as error:
        pytest.fail(f"{name}: {type(error).__name__}: {error}")
    return None


@pytest.mark.parametrize("name", PUBLIC)
def test_no_numpy_errors_for_bad_arguments(name):
    """Strings, lists, wrong ranks and lengths for each tensor argument give our errors."""
    for call in samples(name)[:3]:
        args = tensors(name, call, grad=False)
        for i, a in enumerate(args):
            if not isinstance(a, Variable):
                continue
            for bad in ("text", [1.0], object()):
                error = complaint(name, [*args[:i], bad, *args[i + 1 :]], call.static)
                assert error is not None and name in str(error)
            for change in (lambda x: x[None], lambda x: np.concatenate([x] * 3, -1)):
                if a.ndim:
                    other = tt.from_numpy(np.array(change(a.array)))
                    error = complaint(name, [*args[:i], other, *args[i + 1 :]], call.static)
                    assert error is None or name in str(error) or isinstance(error, IndexError)


@pytest.mark.parametrize("name", [n for n in PUBLIC if "dim" in tt.REGISTRY[n].defaults])
def test_a_dim_out_of_range_is_an_index_error(name):
    for call in samples(name)[:1]:
        for dim in (7, -8):
            error = complaint(name, tensors(name, call, grad=False), {**call.static, "dim": dim})
            assert isinstance(error, IndexError), f"{name}({call}) dim={dim}: {error!r}"
