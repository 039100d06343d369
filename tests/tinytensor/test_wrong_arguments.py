"""Every public function handed wrong things: PyTorch's class of exception, in our own words.

For each entry of PyTorch's operator database one argument after the other of a good call is
replaced: a list, a string, None, an array, another dtype, another shape, a dim out of range, a
float for an int. Whatever PyTorch refuses is refused, with an exception of its class; nothing
answers with an AttributeError or an exception of NumPy's.
"""

import inspect
import warnings

import numpy as np
import pytest
from test_opinfo import ENTRIES, Foreign, convert, ours, samples, set_rng_seed

import tinytensor as tt
from tinytensor import arguments
from tinytensor.errors import ArgumentError, DimError, ShapeError, TinyTensorError

torch = pytest.importorskip("torch")
warnings.filterwarnings("ignore")

THING = object()

# entry -> what of it is accepted here though PyTorch refuses it, or refused by another class
KNOWN = {
    "an option that may be left out may be None": """arange eye max min prod squeeze trapz
        trapezoid randint_like scatter""",
    "integers are promoted to floats": """nn.functional.soft_margin_loss
        nn.functional.hinge_embedding_loss nn.functional.huber_loss nn.functional.gaussian_nll_loss
        nn.functional.embedding_bag nn.functional.nll_loss""",
    "what broadcasts may": """nn.functional.soft_margin_loss index_add index_put
        nn.functional.multilabel_soft_margin_loss tensordot nn.functional.cross_entropy
        nn.functional.batch_norm nn.functional.unfold""",
    "names that change nothing are not looked at": "cdist",
    "nothing is chosen of nothing": "gather linalg.norm searchsorted",
    "which of two mistakes is named first": """index_fill index_copy index_select take_along_dim
        movedim tensordot index_add nn.functional.embedding_bag nn.functional.one_hot mT
        repeat_interleave index_put""",
    "PyTorch's LinAlgError is a class of its own": "linalg.matrix_power linalg.inv",
    "called as a method, of what is no tensor": "T mT bool zero_ item byte char __getitem__",
    "options of look-ups that are not offered": "nn.functional.embedding",
    "a mode of the wrong type": "nn.functional.interpolate",
}
UNBOUND = {"nn.functional.embedding", *"T mT bool zero_ item byte char __getitem__".split()}
KNOWN_NAMES = {name for names in KNOWN.values() for name in names.split()}


def wrong(a):
    """(what, PyTorch's, ours) to put in a's place."""
    if isinstance(a, torch.Tensor):
        for thing in ([1.0, 2.0], "text", None, THING, np.ones(tuple(a.shape), np.float32)):
            yield type(thing).__name__, thing, thing
        other = a.to(torch.int64 if a.dtype.is_floating_point else torch.float32)
        shapes = [(*a.shape, 3), tuple(n + 3 for n in a.shape), (), (0,)]
        for t in (other, *[torch.ones(s, dtype=a.dtype) for s in shapes if s != tuple(a.shape)]):
            yield f"{t.dtype} {tuple(t.shape)}", t, tt.from_numpy(t.numpy())
        return
    things = {
        bool: ("text", [1, 2]),
        int: (97, -98, 1.5, "text", None, [1, 2], THING),
        float: ("text", None, [1.0], THING),
        str: ("bogus", 3, None),
        tuple: ((97,), "text", 1.5, (1.5,), ("a",), THING),
    }
    for thing in things.get(tuple if isinstance(a, list) else type(a), ()):
        yield repr(thing), thing, thing


def raised(f, args, kwargs):
    try:
        f(*args, **kwargs)
    except Exception as error:
        return error
    return None


def about_the_call(error):
    """Python's own words for a call that does not fit the signature."""
    return type(error) is TypeError and error.__traceback__.tb_next.tb_next is None


def one_wrong(args, kwargs):
    """Each call with one argument replaced: its place, what, theirs (args, kwargs), ours."""
    for key, a in [*enumerate(args), *kwargs.items()]:
        for what, theirs, mine in wrong(a):
            both = []
            for thing in (theirs, mine):
                new, options = list(args), dict(kwargs)
                (new if isinstance(key, int) else options)[key] = thing
                both.append((new, options))
            yield key, what, *both


def convert_but(key, thing, args, kwargs):
    """Our arguments: all converted but the one that is ours already."""
    args = [a if i == key else convert(a) for i, a in enumerate(args)]
    return args, {k: v if k == key else convert(v) for k, v in kwargs.items()}


@pytest.mark.parametrize("info", ENTRIES, ids=lambda info: info.formatted_name)
def test_class_of_exception(info):
    dtype = torch.float32 if torch.float32 in info.dtypes else torch.int64
    set_rng_seed()
    for sample in samples(info, dtype, False, limit=2):
        args = (sample.input, *sample.args)
        kwargs = {k: v for k, v in sample.kwargs.items() if k not in ("device", "layout")}
        for key, what, (their_args, their_kw), (my_args, my_kw) in one_wrong(args, kwargs):
            if info.name == "nn.functional.embedding_bag" and key not in (0, 1):
                continue  # PyTorch crashes on some
            try:
                my_args, my_kw = convert_but(key, what, my_args, my_kw)
            except Foreign:
                break
            copies = [a.clone() if isinstance(a, torch.Tensor) else a for a in their_args]
            expected = raised(info.op, copies, their_kw)
            got = raised(ours(info), my_args, my_kw)
            call = f"{info.name}: argument {key!r} is {what}: PyTorch {expected!r}, ours {got!r}"
            if got is not None and info.name not in UNBOUND:
                assert isinstance(got, TinyTensorError) or about_the_call(got), call
                assert "\n" not in str(got), call
            if expected is None or info.name in KNOWN_NAMES or type(expected) is AttributeError:
                continue  # PyTorch's own Python trips over what it was not written for
            if isinstance(expected, NotImplementedError) and got is None:
                continue  # we have a dtype more
            assert got is not None, call
            if "Dimension" in str(expected):  # a tensor with too few dims: its shape is at fault
                assert isinstance(got, (IndexError, ShapeError)), call
            elif not isinstance(expected, IndexError) or "tuple index" not in str(expected):
                assert isinstance(got, type(expected)), call


# ------------------------------------------------------------------------------ ours alone


def public():
    """Every public function that goes through the door, and the ops, which have their own."""
    for module in (tt, tt.nn.functional, tt.linalg):
        for name, f in vars(module).items():
            if not name.startswith("_") and (hasattr(f, "guarded") or hasattr(f, "op")):
                yield f
    for name in dir(tt.Tensor):
        f = getattr(tt.Tensor, name)
        if not name.startswith("_") and (hasattr(f, "guarded") or hasattr(f, "op")):
            yield f


PUBLIC = list(public())


def test_nothing_public_is_left_out():
    """What ops/ and creation.py define is public through a door only."""
    for module in (tt, tt.nn.functional, tt.linalg):
        for name, f in vars(module).items():
            if inspect.isfunction(f) and not name.startswith("_"):
                assert not f.__module__.startswith(("tinytensor.ops", "tinytensor.creation")) or (
                    hasattr(f, "guarded") or hasattr(f, "op")
                ), name


@pytest.mark.parametrize("thing", [[1.0], "text", None, THING, 1.5, {}], ids=type)
def test_the_same_wrong_thing_everywhere(thing):
    """Whatever stands in all places: an answer, or an error of ours."""
    for f in PUBLIC:
        needed = [
            p
            for p in inspect.signature(f).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.KEYWORD_ONLY)
        ]
        error = raised(f, [thing] * max(len(needed), 1), {})
        if error is not None:
            fine = isinstance(error, TinyTensorError) or about_the_call(error)
            assert fine, f"{f.__name__}: {error!r}"
        else:
            assert thing is not THING and thing != {}, f"{f.__name__} took {thing!r}"


def test_messages_name_function_and_parameter():
    x = tt.ones(2, 3)
    for call, message in [
        (lambda: tt.reshape([1.0], 2), "reshape: x must be a Tensor, got list: wrap it in"),
        (lambda: x.sum(1.5), "sum: dim must be an int or a tuple of ints, got float 1.5"),
        (lambda: x.reshape(2.0, 3), "reshape: shape must be an int or a tuple of ints, got tuple"),
        (lambda: x.sum(0, keepdim="yes"), "sum: keepdim must be a bool, got str 'yes'"),
        (lambda: tt.zeros("3"), "zeros: size must be an int or a tuple of ints"),
        (lambda: tt.zeros(), "zeros: pass size"),
        (lambda: tt.stack([1, 2]), "stack: tensors must be a list of Tensors, got list of int"),
        (lambda: tt.nn.functional.dropout(None), "dropout: input must be a Tensor, got NoneType"),
        (lambda: tt.linalg.norm([2]), "norm: x must be a Tensor, got list"),
        (lambda: x.clamp_min_("a"), "clamp_min: min must be a Tensor or a number, got str 'a'"),
        (lambda: x.new_zeros("a"), "zeros: size must be an int"),
        (lambda: tt.add(x, np.ones(3)), "add: y must be a Tensor, got ndarray: wrap it in"),
        (lambda: tt.add(x, None), "add: y must be a Tensor, got NoneType"),
        (lambda: x.to(tt.float64).sum(dtype="f5"), "sum: dtype must be a dtype, as tt.float32"),
    ]:
        with pytest.raises(ArgumentError) as e:
            call()
        assert message in str(e.value), str(e.value)
    with pytest.raises(DimError, match=r"flatten: x \(2, 3\) and start_dim = 5: dim 5 is out of"):
        tt.flatten(x, 5)


def test_what_pytorch_takes_is_taken():
    """NumPy's ints, a tensor of one int, size= by name, arrays beside an operator."""
    x = tt.ones(2, 3)
    assert x.sum(np.int64(1)).shape == (2,) and x.sum(tt.tensor(1)).shape == (2,)
    assert tt.zeros(size=(2, 3)).shape == (2, 3) and tt.randn(size=(4,)).shape == (4,)
    assert (x + np.ones(3)).shape == (2, 3) and (np.float64(2) * x).dtype == tt.float32
    assert x.sum(dim=(np.int32(0), 1)).item() == 6
    assert x.sum(keepdim=np.bool_(True)).shape == (1, 1)


def test_a_function_keeps_its_name_signature_and_pickles():
    import pickle

    assert tt.reshape.__name__ == "reshape" and "view where strides" in tt.reshape.__doc__
    assert str(inspect.signature(tt.nn.functional.linear)) == "(input, weight, bias=None)"
    for f in (tt.reshape, tt.nn.functional.linear, tt.zeros, tt.linalg.inv, tt.exp):
        assert pickle.loads(pickle.dumps(f)) is f


def test_kinds_are_of_parameters_that_there_are():
    """No dead names in the table."""
    functions = {f.__name__ for f in PUBLIC}
    names = {n for f in PUBLIC for n in inspect.signature(f).parameters} | {"inplace"}
    for name in arguments._KINDS:
        function, _, parameter = name.rpartition(".")
        assert parameter in names and (not function or function in functions), name
