"""Run an op on tensors and put it on the tape: the one way into the engine.

Lean on purpose: one look at the arguments, one implementation look-up, one slotted Node, and
nothing at all kept where nothing requires grad.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend, dtypes
from .autograd import Node, Port, Variable, mode, user_line, wrap
from .backend import ndarray
from .errors import DtypeError
from .messages import explain, not_a_tensor, one_dtype
from .plan import Plan, Saved

_SCALARS = frozenset((float, int, bool))
_ODD = (np.generic, float, int)  # their kin, as np.float64 and IntEnum
_ALL = ("same", "float", "equal")  # promote: rules for all arguments at once
_EXPLAINED = (ValueError, IndexError, TypeError, OverflowError, AttributeError)


def apply(op: Any, args: tuple, static: dict) -> Any:
    """Run an op on Tensors (and Python scalars), and put it on the tape if anything needs it.

    `static` must hold every keyword argument: the wrapper made by @op fills in the defaults.
    """
    if op.autocast is not None and mode.autocast is not None:
        args = mode.autocast.of(op, args)
    arrays = []
    needs = []
    first = None
    plain = True  # one dtype, no scalar that would change it
    tracked = False
    for a in args:
        if isinstance(a, Variable):
            if a._base is not None:
                a._refresh()  # type: ignore[attr-defined]
            array = a.array
            if first is None:
                first = array
            elif array.dtype is not first.dtype:
                plain = False
            if type(array) is not type(first):
                _one_device(op, args)
            if a.requires_grad:
                tracked = True
                needs.append(True)
            else:
                needs.append(False)
            arrays.append(array)
        else:
            if a is True or a is False:
                plain = False
            elif type(a) not in _SCALARS:
                plain = plain and a is None
                if not (isinstance(a, _ODD) or a is None and op.optional or op.own):
                    raise not_a_tensor(op, args)
            needs.append(False)
            arrays.append(a)
    if first is None:
        return apply(op, _numbers(op, args), static)
    promote = op.promote
    if promote is not None and (
        not plain or first.dtype.kind not in "fV" or type(promote) is tuple
    ):
        args, arrays = _promote(op, args, arrays)
    if type(first) is ndarray:
        xp = np
        try:
            out = op.implementations["numpy"](np, *arrays, **static)
        except _EXPLAINED as error:
            raise explain(op, args, error) from (error if op.own else None)
    else:
        xp, out = _run_elsewhere(op, args, arrays, static)
    saved = None
    if type(out) is tuple and type(out[-1]) is Saved:
        out, saved = out if len(out) == 2 else (out[:-1], out[-1])
    if type(out) is tuple:
        return _several(op, xp, args, arrays, needs, out, saved, static, tracked)
    if xp is np and type(out) is not ndarray and not hasattr(out, "__cuda_array_interface__"):
        out = np.asarray(out)  # a number; what has been transferred to a GPU stays there
    t = wrap(out)
    if tracked and mode.enabled and op.differentiable and out.dtype.kind in "fV":
        t.requires_grad = True
        t._node = _record(op, xp, args, arrays, tuple(needs), out, saved, static, t)
    if op.view:
        _share(t, args[0], out, arrays[0])
    if mode.watchers:
        _tell(op, args, static, (t,), t._node)
    return t


def _tell(op: Any, args: tuple, static: dict, outs: tuple, node: Any) -> None:
    for watcher in mode.watchers:
        watcher.forward(op, args, static, outs, node)


def _record(
    op: Any, xp: Any, args: tuple, arrays: list, needs: tuple, out: Any, saved: Any, static: dict,
    t: Any,
) -> Node:  # fmt: skip
    plan = op.plans.get((needs, xp))
    if plan is None:
        plan = op.plans[needs, xp] = Plan(op, len(args), needs, xp.__name__)
    node = Node.__new__(Node)
    node.op = op
    node.plan = plan
    node.parents = tuple(
        [(a if a._node is None else a._node) if need else None for a, need in zip(args, needs)]
    )
    if op.keeps_shapes:
        node.shapes = [a.shape if need else None for a, need in zip(arrays, needs)]
    else:
        node.shapes = None
    try:
        node.values = plan.fetch(arrays, out, saved, static)
    except (KeyError, TypeError):
        raise plan.not_saved(saved) from None
    node.static = static
    node.inputs = arrays if plan.uses_saved else None
    cells = [args[i]._version for i in plan.watched if isinstance(args[i], Variable)]
    if plan.watches_out:
        cells += [o._version for o in t] if type(t) is tuple else (t._version,)
    node.cells = cells
    node.stamps = [cell[0] for cell in cells]
    node.where = user_line(3)
    node.hooks = None
    return node


def _several(
    op: Any, xp: Any, args: tuple, arrays: list, needs: list, out: tuple, saved: Any, static: dict,
    tracked: bool,
) -> tuple:  # fmt: skip
    """Tensors for an op with several outputs: each leaves through its own Port of one node."""
    tensors = tuple(wrap(np.asarray(o) if isinstance(o, np.generic) else o) for o in out)
    node = None
    if tracked and mode.enabled and op.differentiable:
        node = _record(op, xp, args, arrays, tuple(needs), out, saved, static, tensors)
        like = [(o.shape, o.dtype) for o in out]
        for i, t in enumerate(tensors):
            if t.array.dtype.kind in "fV":
                t.requires_grad = True
                t._node = Port(node, i, len(out), like)
    if op.view:
        for t in tensors:
            _share(t, args[0], t.array, arrays[0])
    if mode.watchers:
        _tell(op, args, static, tensors, node)
    return tensors


def _share(t: Any, source: Any, out: Any, array: Any) -> None:
    """Make t a view of `source`, if their memory is one."""
    base = out.base
    if isinstance(source, Variable) and (
        out is array
        or base is array
        or (base is not None and base is array.base and _overlap(out, array))
    ):
        t._version = source._version
        if mode.enabled or not source.requires_grad:  # a view taken under no_grad stays outside
            base = source if source._base is None else source._base[0]
            t._base = (base, t._version[0])


def _overlap(a: Any, b: Any) -> bool:
    """Of two arrays in one memory: parameters that an optimizer has moved together do not."""
    return type(a) is not ndarray or np.may_share_memory(a, b)


def _run_elsewhere(op: Any, args: tuple, arrays: list, static: dict) -> tuple[Any, Any]:
    """On CUDA: all devices must agree; the current device becomes that of the data."""
    device = _one_device(op, args)
    xp = backend.namespace(device)
    run = op.implementations[xp.__name__]
    try:
        with xp.cuda.Device(device.index):
            out = run(xp, *arrays, **static)
            if op.promote is not None and type(out) is not tuple and out.dtype == np.float32:
                out = _as_arguments(out, arrays)
    except _EXPLAINED as error:
        raise explain(op, args, error) from (error if op.own else None)
    return xp, out


def _as_arguments(out: Any, arrays: list) -> Any:
    """CuPy computes some of bfloat16 in float32 (where, for one); the result is bfloat16 again."""
    floats = {a.dtype for a in arrays if hasattr(a, "dtype") and a.dtype.kind in "fV"}
    return out.astype(floats.pop(), copy=False) if len(floats) == 1 else out


def _one_device(op: Any, args: tuple) -> backend.Device:
    """The device of all tensor arguments; a DeviceError naming each one's if they differ."""
    names = op.argument_names(len(args))
    given = {name: a.array for name, a in zip(names, args) if isinstance(a, Variable)}
    backend.check_one_device(op.name, **given)
    return backend.device_of(next(iter(given.values())))


def _numbers(op: Any, args: tuple) -> tuple:
    """Arguments that are numbers alone, `add(2, 3)`, as 0-d tensors."""
    given = [a for a in args if a is not None]
    if op.promote is None or not given or any(type(a) not in _SCALARS for a in given):
        raise not_a_tensor(op, args)
    return tuple([a if a is None else wrap(np.asarray(a, dtypes.result_type(a))) for a in args])


def _is_bool(a: Any) -> bool:
    return isinstance(a, bool) or (isinstance(a, Variable) and a.array.dtype.kind == "b")


def _fits(n: int, dtype: np.dtype) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= n <= limits.max


def _promote(op: Any, args: tuple, arrays: list) -> tuple[tuple, list]:
    """Cast the arguments of an elementwise op to their common dtype, on the tape."""
    args = tuple([wrap(a) if isinstance(a, ndarray) else a for a in args])
    if not all(a is None or isinstance(a, (Variable, float, int, np.generic)) for a in args):
        raise not_a_tensor(op, args)
    chosen = [op.promote in _ALL or name in op.promote for name in op.params]
    if not op.bools and any(_is_bool(a) for a in args):
        raise DtypeError(f"{op.name}: there is no {op.name} of bools: use logical_xor, or .int()")
    if op.promote == "equal":
        one_dtype(op.name, **{n: a for n, a in zip(op.params, args) if isinstance(a, Variable)})
    dtype = dtypes.result_type(*[a for a, c in zip(args, chosen) if c])
    if op.promote == "float" and not dtypes.is_floating(dtype):
        dtype = dtypes.get_default_dtype()
    new = []
    for a, c in zip(args, chosen):
        if isinstance(a, Variable):
            if c and a.array.dtype != dtype:
                a = apply(op.cast, (a,), {"dtype": dtype})
        elif isinstance(a, np.generic):
            a = a.item()
        if c and type(a) is int and dtype.kind in "iu" and not _fits(a, dtype):
            a = np.asarray(a).astype(dtype)[()]  # wraps around, as in PyTorch
        new.append(a)
    arrays = [a.array if isinstance(a, Variable) else a for a in new]
    if not any(isinstance(a, Variable) for a, c in zip(new, chosen) if c):  # numbers alone
        arrays = [np.asarray(a, dtype) if c else a for a, c in zip(arrays, chosen)]
    return tuple(new), arrays
