"""Pickles: plain data comes back, everything else is refused by name, and nothing ever runs."""

import builtins
import collections
import copyreg
import io
import os
import pickle
import pickletools
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinytensor as tt
from tinytensor.errors import CheckpointError
from tinytensor.serialize import load_pickle, load_torch, save_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

# ------------------------------------------------------------------------------ plain data

kinds = st.sampled_from(["f4", ">f8", "f2", "i8", ">u2", "?", "c8", "U3", "S2"])
arrays = hnp.arrays(kinds, hnp.array_shapes(min_dims=0, min_side=0, max_side=3)).map(
    lambda a: np.asfortranarray(a) if a.size % 2 else a
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
scalars |= st.complex_numbers() | st.binary().map(bytearray)
keys = st.text() | st.integers() | st.tuples(st.integers(), st.text())
trees = st.recursive(
    scalars | arrays | st.floats(width=32).map(np.float32) | st.frozensets(keys, max_size=3),
    lambda t: st.lists(t, max_size=3) | st.dictionaries(keys, t, max_size=3)
    | st.tuples(t, t) | st.sets(keys, max_size=3)
    | st.dictionaries(keys, t, max_size=2).map(collections.OrderedDict),
    max_leaves=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "x.pkl"


def same(a, b):
    """Equal, and of one type, down to the sign of zero."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray | np.generic):
        # NumPy's own reader turns some arrays to the machine's byte order, others not
        a, b = (x.astype(x.dtype.newbyteorder("=")) for x in (a, b))
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for name in a:
            same(a[name], b[name])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    else:
        assert repr(a) == repr(b) or a == b


@given(tree=trees, protocol=st.sampled_from(PROTOCOLS))
@example(tree=[b"", bytearray(), set(), frozenset(), 2**4000, -0.0], protocol=0)
def test_plain_data_of_every_protocol_comes_back(file, tree, protocol):
    file.write_bytes(pickle.dumps(tree, protocol))
    same(load_pickle(file), pickle.loads(file.read_bytes()))


@given(tree=trees)
def test_what_is_saved_is_read_by_us_and_by_python(file, tree):
    save_pickle(file, {"tree": tree})
    found = load_pickle(file)
    same(found, pickle.loads(file.read_bytes()))
    np.testing.assert_equal(found, {"tree": tree})


def test_tensors_are_saved_as_arrays_and_arrays_are_writable(file):
    weights = {"w": tt.randn(3, 4).T, "b": tt.zeros(2, dtype=tt.int64)}
    save_pickle(file, {"model": weights, "step": 7})
    found = load_pickle(file)
    np.testing.assert_array_equal(found["model"]["w"], weights["w"].numpy())
    found["model"]["w"] += 1
    assert found["step"] == 7


def test_shared_and_cyclic_containers(file):
    shared = [1]
    cycle = {"a": shared, "b": shared}
    cycle["self"] = cycle
    file.write_bytes(pickle.dumps(cycle))
    found = load_pickle(file)
    assert found["a"] is found["b"] and found["self"] is found
    with pytest.raises(CheckpointError, match="contains itself"):
        save_pickle(file, cycle)


@pytest.mark.parametrize("value, words", [
    ({"a": [1, object()]}, r"\['a'\]\[1\] is a object"),
    ({"a": {"b": np.array([None])}}, r"\['a'\]\['b'\] is an array of object"),
    ({"a": print}, "builtin_function_or_method"),
    ({(1, (2,)): 1}, "the key a tuple"),
])  # fmt: skip
def test_what_is_not_plain_is_not_saved(file, value, words):
    file.write_bytes(b"before")
    with pytest.raises(CheckpointError, match=words):
        save_pickle(file, value)
    assert file.read_bytes() == b"before"


def test_a_disk_that_is_full_keeps_the_old_file(file, monkeypatch):
    save_pickle(file, {"old": 1})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="could not be written: No space left"):
        save_pickle(file, {"new": 2})
    assert load_pickle(file) == {"old": 1}
    assert [p.name for p in file.parent.iterdir()] == [file.name]


# ------------------------------------------------------------------------------ attacks


class Call:
    """Pickled, it is a call of `function`; with a state or items it uses BUILD, APPENDS too."""

    def __init__(self, function, *args, state=None, items=None):
        self.parts = (function, args, state, items)

    def __reduce__(self):
        return self.parts


class Sneaky:
    def __setstate__(self, state):
        raise AssertionError("__setstate__ ran")


class Keyworded:
    def __reduce_ex__(self, protocol):
        return copyreg.__newobj_ex__, (dict, (), {"a": 1})


def by_id(value, protocol):
    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            return "nasty" if item is value else None

    out = io.BytesIO()
    Pickler(out, protocol).dump(value)
    return out.getvalue()


def raw(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def text(s):
    return b"\x8c" + bytes([len(s)]) + s.encode()


def fetch(module, name):
    return text(module) + text(name) + b"\x93"


def call(module, name, args):
    return fetch(module, name) + args + b"R"


def dtype_of(code, order="<"):
    state = b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return call("numpy", "dtype", text(code) + b"\x89\x88\x87") + state


def frombuffer(data, dtype, shape):
    size = struct.pack("<I", len(data))
    return call("numpy._core.numeric", "_frombuffer",
                b"(B" + size + data + dtype + shape + text("C") + b"t")  # fmt: skip


TOUCH = "touch {}"  # what an attack would leave behind; see `pwned`


def objects(mark):
    """{name: (object, what the refusal names)}: attacks that pickle itself can write."""
    touch = TOUCH.format(mark)
    return {
        "os.system": (Call(os.system, touch), r"refuses (posix|nt)\.system"),
        "nested": ({"weights": [1, {"x": (Call(os.system, touch),)}]}, r"\.system"),
        "eval": (Call(eval, f"open({str(mark)!r}, 'w')"), r"(builtins|__builtin__)\.eval"),
        "exec": (Call(exec, f"open({str(mark)!r}, 'w')"), r"(builtins|__builtin__)\.exec"),
        "open": (Call(open, str(mark), "w"), r"refuses (_?io|builtins|__builtin__)\.open"),
        "getattr chain": (
            Call(map, Call(getattr, Call(__import__, "os"), "system"), [touch]),
            r"(builtins|__builtin__|itertools)\.i?map",
        ),
        "import": (Call(__import__, "antigravity"), r"(builtins|__builtin__)\.__import__"),
        "popen": (Call(subprocess.Popen, ["touch", str(mark)]), r"(subprocess|commands)\.Popen"),
        "__setstate__": (Call(Sneaky, state={"a": 1}), r"Sneaky"),
        "items": (Call(collections.deque, items=iter([1, 2])), "collections.deque"),
        "a function as data": ([len], r"(builtins|__builtin__)\.len"),
        "a class as data": ([Path], "pathlib"),
        "numpy.load": (Call(np.load, str(mark), None, True), "numpy"),
        "numpy.memmap": (Call(np.memmap, str(mark), "u1", "w+"), r"numpy.*memmap"),
        "object array": (np.array([Call(os.system, touch)], object), "refuses"),
        "object dtype": (np.dtype("O"), "object"),
        "structured dtype": (np.zeros(2, [("a", "f4")]), "numbers and text only"),
        "datetime": (np.array(["2000"], "M8[Y]"), "numbers and text only"),
    }


@pytest.mark.parametrize("reader", [load_pickle, load_torch])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", objects(""))
def test_attacks_are_refused_by_name_and_nothing_runs(tmp_path, reader, protocol, name):
    mark = tmp_path / "pwned"
    attack, words = objects(mark)[name]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(attack, protocol))
    if reader is load_torch and name == "__setstate__" and protocol >= 2:
        words = "refuses to call"
    with pytest.raises(CheckpointError, match=words) as caught:
        reader(tmp_path / "x.pkl")
    assert "x.pkl" in str(caught.value) and not mark.exists()


@pytest.mark.parametrize("name", ["os.system", "eval", "open", "popen"])
def test_the_attacks_are_real(tmp_path, name):
    """With Python's own reader they do run: the refusals above are worth something."""
    mark = tmp_path / "pwned"
    result = pickle.loads(pickle.dumps(objects(mark)[name][0]))
    if hasattr(result, "wait"):
        result.wait()
    elif hasattr(result, "close"):
        result.close()
    assert mark.exists()


HUGE = struct.pack("<Q", 2**40)
ONE = b"K\x01\x85"  # (1,)
BYTES = b"B" + struct.pack("<I", 1000) + b"x" * 1000
CODE = {
    # what pickle never writes by itself
    "extension 1": (raw(b"\x82\x01"), "EXT1.*code registered"),
    "extension 2": (raw(b"\x83\x01\x00"), "EXT2"),
    "extension 4": (raw(b"\x84\x01\x00\x00\x00"), "EXT4"),
    "out-of-band buffer": (raw(b"\x97"), "NEXT_BUFFER"),
    "read-only buffer": (raw(b"N\x98"), "READONLY_BUFFER"),
    "binary persistent id": (raw(text("x"), b"Q"), "persistent id 'x'"),
    "text persistent id": (b"Pnasty\n.", "persistent id 'nasty'"),
    "INST": (b"(S'touch x'\nios\nsystem\n.", "refuses os.system"),
    "OBJ": (b"(cos\nsystem\nS'touch x'\no.", "refuses os.system"),
    "dotted name": (raw(fetch("collections", "OrderedDict.fromkeys.__self__")), "OrderedDict.from"),
    "dotted module": (raw(fetch("numpy.core.multiarray.scalar", "__globals__")), "__globals__"),
    "name of no text": (raw(b"K\x01K\x02\x93"), "a name that is no text"),
    "call of a value": (raw(text("os.system"), b")R"), "refuses to call 'os.system'"),
    "call of a list": (raw(b"])R"), "refuses to call a list"),
    "arguments in a list": (raw(fetch("builtins", "set"), b"]R"), "called with a list"),
    "state for a dict": (raw(b"}}b"), "refuses a state for a dict"),
    "state for a name": (raw(fetch("builtins", "set"), b"}b"), "refuses a state for builtins.set"),
    "NEWOBJ_EX": (raw(fetch("builtins", "set"), b")}", text("a"), b"K\x01s\x92"), "keywords"),
    "dtype by NEWOBJ": (raw(fetch("numpy", "ndarray"), ONE, b"\x81"), "refuses to make an array"),
    "ndarray called": (raw(call("numpy", "ndarray", ONE)), "refuses to make an array"),
    "codec": (raw(call("_codecs", "encode", text("x") + text("zlib_codec") + b"\x86")), "codec"),
    "dtype of objects": (raw(dtype_of("O")), "dtype object"),
    "dtype by comma": (raw(dtype_of("f4,O")), "dtype"),
    "byte order": (raw(dtype_of("f4", "x")), "byte order 'x'"),
    # bombs
    "huge bytes": (raw(b"\x8e", HUGE), "damaged"),
    "huge bytearray": (raw(b"\x96", HUGE), "damaged"),
    "huge text": (raw(b"\x8d", HUGE), "damaged"),
    "huge number": (raw(b"\x8b", struct.pack("<i", 600), b"\x7f" * 600), "whole number of 4,"),
    "number of negative size": (raw(b"\x8b", struct.pack("<i", -1)), "damaged"),
    "number in digits": (b"L" + b"9" * 5000 + b"L\n.", "damaged"),
    "memo far away": (raw(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff"), "nothing was remembered"),
    "arrays of one buffer": (
        raw(BYTES, b"q\x00", dtype_of("u1"), b"q\x01]", *[call("numpy._core.numeric", "_frombuffer",
                  b"(h\x00h\x01M\xe8\x03\x85" + text("C") + b"t") + b"a" for _ in range(50)]),
        "larger than the file",
    ),
    "strings of one": (
        raw(b"X" + struct.pack("<I", 1000) + b"x" * 1000, b"q\x00]",
            *[call("_codecs", "encode", b"h\x00" + text("latin1") + b"\x86") + b"a"] * 50),
        "larger than the file",
    ),
    "shape beyond the bytes": (
        raw(frombuffer(b"1234", dtype_of("f4"), b"\x8a\x06\0\0\0\0\0\x01\x85")), "holds 4 bytes"),
    "negative shape": (raw(frombuffer(b"", dtype_of("f4"), b"J\xff\xff\xff\xff\x85")), "sizes"),
    "empty array, huge side": (
        raw(frombuffer(b"", dtype_of("f4"), b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x7f\x86")),
        "sizes"),
    "hash of nested tuples": (
        raw(b"}K\x01\x85", *[b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60)],
            b"K\x01s"), "refuses the key a tuple"),
    "set of nested tuples": (raw(b"\x8f(K\x01\x85\x85\x90"), "refuses the key a tuple"),
    # damage
    "empty": (b"", "is empty"),
    "text": (b"Once upon a time", "no pickle"),
    "truncated": (pickle.dumps({"a": np.ones(9)})[:-9], "damaged"),
    "two pickles": (pickle.dumps(1) + pickle.dumps(2), "follow the end"),
    "empty stack": (raw(), "damaged"),
    "left over": (raw(b"NN"), "left over"),
    "mark as value": (raw(b"("), "a mark where"),
    "no mark": (raw(b"Nt"), "mark"),
    "append to a number": (raw(b"K\x01Na"), "items for what is no list"),
    "odd dict": (raw(b"(Nd"), "last key has no value"),
    "unfinished array": (
        raw(call("numpy._core.multiarray", "_reconstruct",
                 fetch("numpy", "ndarray") + b"K\x00\x85C\x01b\x87")), "lacks its contents"),
    "array inside of itself": (
        raw(call("numpy._core.multiarray", "_reconstruct",
                 fetch("numpy", "ndarray") + b"K\x00\x85C\x01b\x87"), b"q\x00h\x00\x86"),
        "before it is complete"),
    "array of a subclass": (
        raw(call("numpy._core.multiarray", "_reconstruct",
                 fetch("builtins", "set") + b"K\x00\x85C\x01b\x87")), "array of builtins.set"),
    "bad dtype": (raw(dtype_of("nonsense")), "dtype"),
    "unhashable key": (raw(b"}]Ns"), "refuses the key a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_malformed_and_malicious_files_are_answered(tmp_path, name):
    data, words = CODE[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_pickle(path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 500


def test_a_byte_order_does_not_reach_numpy_itself(tmp_path):
    """dtype.__setstate__ on a shared dtype would turn every float32 of the process around."""
    big = pickle.dumps(np.arange(3, dtype=">f4"))
    (tmp_path / "x.pkl").write_bytes(big)
    assert load_pickle(tmp_path / "x.pkl").dtype.byteorder == ">"
    assert np.dtype("f4") == np.float32 and np.dtype("f4").isnative


@given(data=st.data())
def test_no_flipped_or_cut_byte_does_more_than_raise(file, data):
    """Whatever becomes of a file, the answer is plain data or CheckpointError."""
    good = pickle.dumps({"a": np.arange(4.0), "b": [1, (2, "x")], "c": {3}}, data.draw(
        st.sampled_from(PROTOCOLS)))  # fmt: skip
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(broken[: data.draw(st.integers(1, len(broken)))])
    for reader in (load_pickle, load_torch):
        try:
            reader(file)
        except CheckpointError:
            pass


def test_every_instruction_is_executed_or_refused():
    """No opcode of any protocol is unknown to the machine."""
    from tinytensor.serialize import machine

    for op in pickletools.opcodes:
        known = op.name in machine.CONSTANTS or op.name in machine.EMPTY
        handled = hasattr(machine.Machine, f"_{op.name.lower()}")
        assert known or handled or op.name in machine.REASONS, op.name


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "x.pkl").write_bytes(raw(fetch("this_module_is_not_there", "x")))

    def refuse(name, *args, **kwargs):
        raise AssertionError(f"import of {name}")

    for reader in (load_pickle, load_torch):
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", refuse)
            try:
                reader(tmp_path / "x.pkl")
            except CheckpointError:
                pass
