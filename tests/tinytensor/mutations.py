"""Would the tests notice a wrong rule? Plant one in every op in turn, and see.

    python tests/tinytensor/mutations.py              every op, every argument, every mutation
    python tests/tinytensor/mutations.py tanh matmul  these ops

A mutation changes what a rule returns for one argument, or hides one of the values it needs:

    sign        -r                        factor   2 r
    zero        0 r                       shift    r + 1
    reversed    r from the end            swapped  r^T, where it is square
    without y   the rule sees ones in place of y: a factor or a mask that was forgotten

It is noticed if test_gradcheck of test_registry.py fails for the op. A mutation that changes no
gradient of any sample is no mutation; but if none of sign, factor and zero changes any, then no
sample has a gradient other than 0, which only STEPS may have. Prints the survivors; exit code 1 if
there are any. test_mutations.py runs a part of this in every test run.
"""

import pathlib
import sys
from contextlib import contextmanager

import numpy as np

if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve()
    sys.path[:0] = [str(here.parents[2]), str(here.parent)]

import test_registry
from samples import samples

import tinytensor as tt
from tinytensor.autograd import Variable

# derivatives that are 0 everywhere: step functions, and arguments that are overwritten
STEPS = {
    "sign.x", "div_rounded.x", "div_rounded.y", "floor.x", "ceil.x", "trunc.x", "round.x",
    "heaviside.x", "heaviside.values", "copysign.y", "identity.x", "overwrite.x",
}  # fmt: skip

# (op, argument, mutation) that changes numbers and is still right, and why
ALLOWED: dict[tuple[str, str, str], str] = {}


def reverse(r):
    return r[tuple(slice(None, None, -1) for _ in r.shape)] if isinstance(r, np.ndarray) else r


def swap(r):
    return r.T if r.ndim == 2 and r.shape[0] == r.shape[1] else r


OUTPUT = {
    "sign": lambda r: -r,
    "factor": lambda r: r * 2,
    "zero": lambda r: r * 0,
    "shift": lambda r: r + 1,
    "reversed": reverse,
    "swapped": swap,
}


def mutations(op):
    """(argument, name) of all mutations of an op."""
    for argument, rule in op.rules.items():
        for name in OUTPUT:
            yield argument, name
        for p in rule.parameters:
            kept = p in op.params or p == "out" or op.source(p, len(op.params))[0] == "saved"
            if kept and p not in ("g", "xp", "needs"):
                yield argument, f"without {p}"


@contextmanager
def planted(op, argument, name):
    """The op with one rule mutated (or as it is, for None), kernels of it taken away."""
    rule = op.rules[argument]
    function, kernels = rule.function, rule.kernels
    if name is None:
        mutated = function
    elif name in OUTPUT:
        change, place = OUTPUT[name], rule.names.index(argument)

        def mutated(*values):
            result = function(*values)
            if not rule.joint:
                return change(result)
            if op.variadic:
                return [change(r) for r in result]
            return [change(r) if i == place and r is not None else r for i, r in enumerate(result)]

    else:
        hidden = rule.parameters.index(name.removeprefix("without "))

        def mutated(*values):
            return function(*(ones(v) if i == hidden else v for i, v in enumerate(values)))

    rule.function, rule.kernels = mutated, {}
    op.plans.clear()
    try:
        yield
    finally:
        rule.function, rule.kernels = function, kernels
        op.plans.clear()


def ones(v):
    if isinstance(v, (list, tuple)):
        return type(v)(ones(x) for x in v)
    if isinstance(v, Variable):
        return tt.ones_like(v)
    return np.ones_like(v) if isinstance(v, np.ndarray) else v if v is None else 1.0


def gradients(name):
    """All gradients of all samples of an op; the exception if a rule raises one."""
    found = []
    for call in samples(name):
        try:
            with np.errstate(all="ignore"):
                found += test_registry.values_and_gradients(name, call, "contiguous", np.float64)[1]
        except Exception as error:
            return error
    return found


def differ(a, b):
    if isinstance(a, Exception) or isinstance(b, Exception):
        return True
    return any(
        x is not None and (y is None or not np.array_equal(x, y, equal_nan=True))
        for x, y in zip(a, b)
    )


def noticed(name):
    try:
        with np.errstate(all="ignore"):
            test_registry.test_gradcheck(name)
    except (Exception, AssertionError):
        return True
    return False


def survivors(name, chosen=None):
    """Mutations of an op (all, or those chosen) that no test notices, as strings; and how many."""
    op = tt.REGISTRY[name]
    right, missed, planted_count, alive = {}, [], 0, {}
    for argument in op.rules:
        with planted(op, argument, None):
            right[argument] = gradients(name)
    for argument, mutation in chosen or mutations(op):
        with planted(op, argument, mutation):
            changes = differ(right[argument], gradients(name))
            if mutation in ("sign", "factor", "zero"):
                alive[argument] = alive.get(argument, False) or changes
            if not changes or (name, argument, mutation) in ALLOWED:
                continue
            planted_count += 1
            if not noticed(name):
                missed.append(f"{name}, rule for {argument}: {mutation}")
    missed += [
        f"{name}, rule for {argument}: no sample has a gradient other than 0"
        for argument, changed in alive.items()
        if not changed and f"{name}.{argument}" not in STEPS
    ]
    return missed, planted_count


def main(names):
    missed, total = [], 0
    for name in names or test_registry.DIFFERENTIABLE:
        new, count = survivors(name)
        total, missed = total + count, missed + new
        print(f"{name:24} {count - len(new):3} of {count:3} noticed")
    print(f"\n{total} wrong rules planted, {len(missed)} not noticed")
    for line in missed:
        print(f"  {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
