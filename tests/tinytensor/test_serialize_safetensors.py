"""safetensors and TensorFlow's bundles: others write, we read, and the other way round."""

import base64
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peers.tf_bundle import write_bundle
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import tinytensor as tt
from tinytensor.errors import CheckpointError
from tinytensor.serialize import load_safetensors, load_tensorflow, save_safetensors, widen
from tinytensor.serialize.safetensors import narrow

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32,
          torch.uint64]  # fmt: skip
shapes = st.lists(st.integers(0, 4), max_size=3)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("weights") / "model.safetensors"


def plain(tensor):
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


@given(st.dictionaries(st.text(min_size=1), st.tuples(st.sampled_from(DTYPES), shapes)))
def test_what_the_library_writes_we_read(file, arrays):
    tensors = {name: (torch.randn(shape) * 9).abs().to(dtype)
               for name, (dtype, shape) in arrays.items() if name != "__metadata__"}  # fmt: skip
    save_file(tensors, file, metadata={"format": "pt"})
    found = load_safetensors(file)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(widen(found[name]), plain(tensor), strict=True)


@given(st.lists(st.tuples(shapes, st.booleans()), max_size=4),
       st.sampled_from([None, "float32", "float16", "bfloat16"]))  # fmt: skip
def test_what_we_write_the_library_reads(file, arrays, dtype):
    tensors = {f"a{i}": tt.randn(shape).permute(tuple(range(len(shape)))[::-1]) if turn
               else tt.randn(shape) for i, (shape, turn) in enumerate(arrays)}  # fmt: skip
    tensors["ids"] = tt.arange(3)
    save_safetensors(file, tensors, {"format": "pt"}, dtype)
    found = load_file(file)
    assert found.keys() == tensors.keys() and torch.equal(found["ids"], torch.arange(3))
    for name in tensors.keys() - {"ids"}:
        wanted = torch.tensor(tensors[name].numpy()).to(getattr(torch, dtype or "float32"))
        assert found[name].dtype == wanted.dtype and torch.equal(found[name], wanted)
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_bfloat16_is_rounded_as_torch_rounds_it():
    """Every upper half, with lower halves around the tie; then NaN, infinities, overflow."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        values = (upper | np.uint32(lower)).view(np.float32)
        wanted = torch.tensor(values).bfloat16()
        bits = narrow(values)
        number = ~np.isnan(values)
        np.testing.assert_array_equal(bits[number], wanted.view(torch.uint16).numpy()[number])
        widened = (bits.astype(np.uint32) << 16).view(np.float32)
        assert np.isnan(widened[~number]).all()


def test_what_does_not_fit_a_dtype_is_named(file):
    with pytest.raises(CheckpointError, match="big: holds 1e\\+05, too large for float16"):
        save_safetensors(file, {"big": np.float32([1, -1e5])}, dtype="float16")
    save_safetensors(file, {"big": np.float32([np.inf, np.nan])}, dtype="float16")
    with pytest.raises(CheckpointError, match="z: safetensors has no dtype complex64"):
        save_safetensors(file, {"z": np.zeros(2, "c8")})
    assert not list(file.parent.glob(".unfinished*"))


def st_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def about(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EIGHT = bytes(8)
FILES = {
    "empty": (b"", "is empty"),
    "seven bytes": (b"1234567", "no safetensors file"),
    "text": (b"Once upon a time there was", "no safetensors file"),
    "header beyond the file": (st_file({"a": about()}, EIGHT, 10**9), "its header would have"),
    "header of 2^63 bytes": (st_file({}, b"", 2**63), "its header would have"),
    "no JSON": (st_file(b"{nonsense"), "header is damaged"),
    "not UTF-8": (st_file(b'{"\xff": 1}'), "header is damaged"),
    "deep JSON": (st_file(b"[" * 50_000), "header is damaged"),
    "a list": (st_file([]), "not an object"),
    "a name twice": (st_file(b'{"a":' + json.dumps(about()).encode() + b',"a":'
                             + json.dumps(about()).encode() + b"}", EIGHT), "'a' is there twice"),
    "truncated": (st_file({"a": about()}, EIGHT[:-1]), "a: .* goes beyond the file"),
    "too long": (st_file({"a": about()}, EIGHT + b"x"), "1 bytes follow"),
    "gap": (st_file({"a": about(offsets=(8, 16))}, EIGHT * 2), "a: .*leaves a gap"),
    "overlap": (st_file({"a": about(), "b": about(offsets=(4, 12))}, EIGHT * 2), "b: .*overlaps"),
    "same bytes": (st_file({"a": about(), "b": about()}, EIGHT), "overlaps"),
    "shape lies": (st_file({"a": about(shape=(3,))}, EIGHT), r"a: shape \[3\] of F32 does not"),
    "huge shape": (st_file({"a": about(shape=(2**40, 2**40))}, EIGHT), "a: shape"),
    "negative": (st_file({"a": about(shape=(-2,))}, EIGHT), "a: .*no counts"),
    "fraction": (st_file({"a": about(shape=(2.0,))}, EIGHT), "a: .*no counts"),
    "text for a shape": (st_file({"a": {**about(), "shape": "22"}}, EIGHT), "a: .*no counts"),
    "unknown dtype": (st_file({"a": about("F8_E4M3", (8,))}, EIGHT), "a: dtype 'F8_E4M3' is none"),
    "dtype of no text": (st_file({"a": about(["F32"])}, EIGHT), "a: dtype"),
    "no offsets": (st_file({"a": {"dtype": "F32", "shape": [2]}}, EIGHT), "a: needs dtype"),
    "a number": (st_file({"a": 3}), "a: needs dtype"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_malformed_files_are_answered(tmp_path, name):
    data, words = FILES[name]
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_safetensors(path)
    assert str(path) in str(caught.value)
    if name not in ("unknown dtype", "a name twice"):  # NumPy lacks it; the last one counts
        with pytest.raises((SafetensorError, OSError, ValueError)):
            safe_open(path, "np")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="gone.safetensors: No such file"):
        load_safetensors(tmp_path / "gone.safetensors")


# ------------------------------------------------------------------------------ TensorFlow


@given(st.dictionaries(st.text("abc/_", min_size=1), st.tuples(
    st.sampled_from(["f4", "f8", "i8", "f2"]), st.lists(st.integers(1, 5), max_size=3)),
    min_size=1, max_size=12), st.integers(1, 5))  # fmt: skip
def test_bundles_written_by_the_document(file, arrays, per_block):
    rng = np.random.default_rng(0)
    values = {n: rng.normal(0, 9, shape).astype(kind) for n, (kind, shape) in arrays.items()}
    prefix = file.with_name("model.ckpt")
    write_bundle(prefix, values, per_block)
    found = load_tensorflow(prefix)
    assert found.keys() == values.keys()
    for name, array in values.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def real_bundle(folder):
    """SaveV2 of TensorFlow 2.21: model/h0/b int64, model/h0/w float32, model/wte float16."""
    index = (
        "AAAGCAEaAggBAAoPbW9kZWwvaDAvYggJEgQSAggCKBA1DT769wkBFXcIARIIEgIIAhICCAMgECgYNVoT6D0GAxF3"
        "dGUIExIEEgIIAiAoKAQ1sNIi6QAAAAABAAAAAHYsVmAAAAAAAQAAAADA8qGwAAECbgBdAAAAAAEAAAAAg2nVcGII"
        "bw4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABX+4CLJHVH2w=="
    )
    data = "BwAAAAAAAAD4/////////wAAIMAAAMC/AAAAvwAAAD8AAMA/AAAgQAA+AMA="
    (folder / "model.ckpt.index").write_bytes(base64.b64decode(index))
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(base64.b64decode(data))
    return folder / "model.ckpt"


def test_a_bundle_that_tensorflow_wrote(tmp_path):
    found = load_tensorflow(real_bundle(tmp_path))
    assert found.keys() == {"model/h0/b", "model/h0/w", "model/wte"}
    for name, values in {
        "model/h0/b": np.int64([7, -8]),
        "model/h0/w": np.float32([[-2.5, -1.5, -0.5], [0.5, 1.5, 2.5]]),
        "model/wte": np.float16([1.5, -2]),
    }.items():
        np.testing.assert_array_equal(found[name], values, strict=True)


def test_malformed_bundles_are_answered(tmp_path):
    prefix = real_bundle(tmp_path)
    index, data = (tmp_path / f"model.ckpt.{end}" for end in ("index", "data-00000-of-00001"))
    good, numbers = index.read_bytes(), data.read_bytes()
    compressed = bytearray(good)
    compressed[good.index(b"\0\0\0\0\1\0\0\0") + 8] = 1
    for bytes_, words in {
        b"": "is empty",
        b"x" * 100: "not those of a table",
        good[:-1]: "not those of a table",
        good[5:]: "checksum|beyond|damaged|compressed",
        good.replace(b"wte", b"wtf"): "checksum",
        bytes(compressed): "compressed",
        good[:-48] + b"\xff" * 40 + good[-8:]: "without an end",
    }.items():
        index.write_bytes(bytes_)
        with pytest.raises(CheckpointError, match=words) as caught:
            load_tensorflow(prefix)
        assert str(index) in str(caught.value)
    index.write_bytes(good)
    data.write_bytes(numbers[:-1])
    with pytest.raises(CheckpointError, match="00000-of-00001: is truncated: model/wte ends at"):
        load_tensorflow(prefix)
    data.unlink()
    with pytest.raises(CheckpointError, match="00000-of-00001: No such file"):
        load_tensorflow(prefix)


@given(st.data())
def test_no_damage_to_an_index_does_more_than_raise(file, data):
    prefix = real_bundle(file.parent)
    index = file.with_name("model.ckpt.index")
    broken = bytearray(index.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    index.write_bytes(broken)
    try:
        load_tensorflow(prefix)
    except CheckpointError:
        pass
