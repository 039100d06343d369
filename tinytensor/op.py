"""@op: a forward on arrays, one rule per differentiable argument, optional kernels per device.

    @op
    def mul(xp, x, y):
        return x * y

    mul.rule("x", lambda g, y: g * y)      # dL/dx = g * y
    mul.rule("y", lambda g, x: g * x)      # dL/dy = g * x

`xp` is the array module. Positional parameters are tensor arguments, keyword-only ones are static.
A rule's parameter names say what it needs, and so what the tape keeps:

    g          dL/dout; for an op with several outputs a tuple
    xp         the array module, or NumPy's names over Tensors when gradients are differentiated
    out        the output
    x, y ...   an argument;  x_shape, x_dtype: that much of it, without keeping its memory
    dim ...    a keyword argument
    mean ...   a local of the forward that it returned as  `return out, Saved(mean=mean)`
    needs      for a joint rule, which of its arguments need a gradient
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .apply import apply
from .arguments import checked, door
from .errors import ArgumentError
from .node import late
from .plan import Plan, Rule, Saved
from .precision import AUTOCAST
from .signature import REQUIRED, signature

REGISTRY: dict[str, Op] = {}


class Op:
    """A differentiable function: its forward, rules, kernels, and what the engine must know of it.

    promote         elementwise ops: arguments broadcast, and are brought to PyTorch's common dtype.
                    'same': all of them; 'float': also integers to the default float dtype;
                    'equal': numbers alone, tensors must have one dtype already; a
                    tuple of names: those only. None: dtypes are left alone, nothing broadcasts
    view            the output may share memory with the first argument
    differentiable  False for outputs that carry no gradient (comparisons, argmax)
    bools           False for ops that PyTorch refuses to bools (-), if they promote
    autocast        'lower' or 'float32': what it casts floats to inside of amp.autocast, or None
    """

    def __init__(
        self, forward: Callable, promote: str | tuple | None, view: bool, differentiable: bool,
        bools: bool = True,
    ):  # fmt: skip
        self.forward, self.name = forward, forward.__name__.strip("_")
        # a student's op, not one of the engine's: its mistakes are looked for as it runs
        self.own = not forward.__module__.startswith(__package__ + ".")
        self.promote, self.view, self.differentiable = promote, view or self.own, differentiable
        self.bools = bools
        self.autocast = None if self.own else AUTOCAST.get(self.name)
        self.keeps_shapes = self.own or promote is not None
        parameters = signature(forward)
        if parameters.positional[:1] != ["xp"]:
            raise ArgumentError(
                f"op {self.name}: the first parameter must be xp, the array module, as in "
                f"`def {self.name}(xp, x)`"
            )
        self.variadic = parameters.variadic is not None
        self.optional = {p for p in parameters.positional if p in parameters.defaults}
        self.params = parameters.positional[1:] + [p for p in [parameters.variadic] if p]
        self.defaults = {k: parameters.defaults.get(k, REQUIRED) for k in parameters.keywords}
        self.rules: dict[str, Rule] = {}
        self.locals = _locals(forward)
        self.implementations = {"numpy": forward, "cupy": forward}
        self.plans: dict[Any, Plan] = {}

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def cast(self) -> Op:
        return REGISTRY["cast"]

    def argument_names(self, count: int) -> list[str]:
        if self.variadic:
            return [f"{self.params[0]}[{i}]" for i in range(count)]
        return self.params

    # -------------------------------------------------------------------------- definition

    def rule(self, *names: str) -> Callable:
        """`op.rule("x", lambda g, y: g * y)`, or `@op.rule("x", "weight")` over a joint rule."""
        function: Any = None
        if names and callable(names[-1]):
            *named, function = names
            names = tuple(named)

        def define(f: Callable) -> Callable:
            self._define(names, f)
            return f

        return define if function is None else define(function)

    def _define(self, names: tuple, function: Callable) -> None:
        for n in names:
            if n not in self.params:
                raise ArgumentError(
                    f"{self.name}.rule({n!r}): the arguments are {', '.join(self.params)}"
                )
        parameters = self._asked_for(names, function, self.forward)
        joint = len(names) > 1 or self.variadic
        rule = Rule(tuple(names), function, parameters, joint)
        for n in names:
            self.rules[n] = rule
        self.plans.clear()

    def _asked_for(self, names: tuple, function: Callable, *forwards: Callable) -> tuple:
        """The parameters of a rule, each of which must be something that there is."""
        known = {"g", "xp", "out", "needs", *self.params, *self.defaults}
        known |= {f"{p}{suffix}" for p in self.params for suffix in ("_shape", "_dtype")}
        for f in forwards:
            known |= _locals(f)  # handed over in Saved
        parameters = signature(function).names
        for p in parameters:
            if p not in known:
                raise ArgumentError(
                    f"the rule of {self.name} for {', '.join(names)} asks for {p!r}, which is "
                    "neither an argument nor a local of its forward, nor g, xp, out, needs"
                )
        return parameters

    def kernel(self, device: str, *names: str) -> Callable:
        """`@op.kernel("cuda")` overrides the forward, `@op.kernel("cuda", "x")` a rule, there.

        A forward's kernel has the forward's parameters and Saved names; it may save more. A rule's
        asks for what a rule may, or for what the forward's kernel saved (None where the reference
        ran). One for the arguments of several rules serves where all of these are needed.
        """
        module = {"cpu": "numpy", "cuda": "cupy"}.get(device)
        if module is None or not all(n in self.rules for n in names):
            raise ArgumentError(
                f"{self.name}.kernel{(device, *names)}: the device must be 'cpu' or 'cuda', and "
                f"there are rules for {', '.join(self.rules)}"
            )

        def define(f: Callable) -> Callable:
            if names:
                rules = [self.rules[n] for n in names]
                asked = self._asked_for(names, f, self.forward, self.implementations[module])
                kernel = Rule(names, f, asked, len(names) > 1 or rules[0].joint)
                for rule in {id(r): r for r in rules}.values():
                    rule.kernels.setdefault(module, []).append(kernel)
                self.plans.clear()
                return f
            given, expected = signature(f).names, signature(self.forward).names
            if given != expected:
                raise ArgumentError(
                    f"kernel of {self.name}: its parameters must be ({', '.join(expected)}), not "
                    f"({', '.join(given)})"
                )
            self.implementations[module] = f
            return f

        return define

    # ------------------------------------------------------------------------ use

    def source(self, name: str, count: int) -> tuple[str, Any, str]:
        """Where a rule's parameter comes from: kind, key, expression in a, out, saved, static."""
        if name == "out":
            return "out", None, "out"
        if name in self.params:
            if self.variadic:
                return "argument", 0, "tuple(a)"
            i = self.params.index(name)
            return "argument", i, f"a[{i}]"
        if name in self.defaults:
            return "static", name, f"static[{name!r}]"
        stem, _, suffix = name.rpartition("_")
        if stem in self.params and suffix in ("shape", "dtype"):
            if self.variadic:
                each = "_shape(x)" if suffix == "shape" else "x.dtype"
                return "meta", None, f"[{each} for x in a]"
            i = self.params.index(stem)
            return "meta", None, f"_shape(a[{i}])" if suffix == "shape" else f"a[{i}].dtype"
        if name in self.locals:
            return "saved", name, f"saved[{name!r}]"
        return "extra", name, f"(saved or {{}}).get({name!r})"  # a kernel's own

    def on(self, xp: Any, *args: Any, **static: Any) -> Any:
        """The op inside of a forward or a rule: on arrays, or recorded if xp is over Tensors."""
        if xp is late.namespace:
            return apply(self, args, {**self.defaults, **static})
        out = self.implementations[xp.__name__](xp, *args, **{**self.defaults, **static})
        return out[0] if type(out) is tuple and type(out[-1]) is Saved else out


def _locals(f: Callable) -> set[str]:
    return {*f.__code__.co_varnames, *f.__code__.co_cellvars}


_unset: Any = object()


def op(
    forward: Callable | None = None,
    *,
    promote: str | tuple | None = None,
    view: bool = False,
    differentiable: bool = True,
    bools: bool = True,
) -> Any:
    """Make an op of a forward. See the module's head, and `Op` for the options."""
    if forward is None:
        return functools.partial(
            op, promote=promote, view=view, differentiable=differentiable, bools=bools
        )
    o = Op(forward, promote, view, differentiable, bools)
    return publish(o)


def publish(o: Op) -> Any:
    """The function a user calls: PyTorch's signature, documented, with .rule, .kernel and .on.

    The wrapper is compiled for the op's own signature: no *args on the way, exact TypeErrors.
    Static arguments may be passed by position; `axis` and `keepdims` serve as NumPy's spelling.
    """
    parameters = signature(o.forward)
    heads, fix = [], ""
    for name in parameters.names[1:]:
        star = "*" if name == parameters.variadic else ""
        heads.append(f"{star}{name}" + (f"=_{name}" if name in parameters.defaults else ""))
    aliases = [(a, b) for a, b in (("axis", "dim"), ("keepdims", "keepdim")) if b in o.defaults]
    if aliases and not o.variadic:
        heads.append("*")
    for alias, name in aliases:
        heads.append(f"{alias}=_unset")
        fix += f"    if {alias} is not _unset: {name} = {alias}\n"
    doors = {} if o.own else {p: door(o.name, p, parameters.defaults) for p in o.defaults}
    for name in [p for p in doors if doors[p] and o.name == o.forward.__name__]:
        fix += f"    if not isinstance({name}, _types_{name}):\n"
        fix += f"        {name} = _checked(_op.name, *_door_{name}, {name})\n"
    tensors = parameters.positional[1:] + [f"*{p}" for p in [parameters.variadic] if p]
    keys = ", ".join(f"{k!r}: {k}" for k in parameters.keywords)
    body = f"    return _apply(_op, ({''.join(t + ', ' for t in tensors)}), {{{keys}}})"
    scope: dict[str, Any] = {
        "__name__": __name__, "_apply": apply, "_op": o, "_unset": _unset, "_checked": checked
    }  # fmt: skip
    scope |= {f"_{name}": value for name, value in parameters.defaults.items()}
    for name, (*door_, types) in [(p, d) for p, d in doors.items() if d]:
        scope |= {f"_door_{name}": door_, f"_types_{name}": types}
    exec(_compiled(f"def function({', '.join(heads)}):\n{fix}{body}"), scope)
    function = scope["function"]
    function.__name__ = function.__qualname__ = o.forward.__name__
    function.__doc__ = o.forward.__doc__
    function.__module__ = o.forward.__module__
    function.op, function.rule, function.kernel, function.on = o, o.rule, o.kernel, o.on
    if not o.own:
        REGISTRY[o.name] = o
    return function


@functools.cache
def _compiled(source: str) -> Any:
    """Most ops share a signature with others: each is compiled once."""
    return compile(source, "<op>", "exec")
